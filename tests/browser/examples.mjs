// The examples do what they show, and the client runs where there is no browser.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Gateway } from "./gateway.mjs";
import { Guest } from "./guest.mjs";
import { serve } from "./pages.mjs";
import { browsers, open, test } from "./stage.mjs";
import { until, within } from "./until.mjs";

const web = (path) => new URL(`../../web-demo/${path}`, import.meta.url);

test("the plain example, the seed's and React's meet in one room", async (t) => {
  const gateway = await Gateway.start(t);
  const react = await serveReact(t, await readFile(web("examples/react/main.jsx"), "utf8"));
  const visits = [
    [browsers.chromium, "plain", `${gateway.url}/examples/plain.html?name=plain`],
    [browsers.firefox, "plain", `${gateway.url}/examples/plain.html?name=fox`],
    [browsers.chromium, "seed", `${gateway.url}/examples/seed.html?name=seed`],
    [browsers.chromium, "react", `${react}?name=react&gateway=${gateway.url}`],
  ];
  const pages = [];
  for (const [browser, name, url] of visits) {
    const page = await open(t, browser);
    await page.goto(url);
    await page.until(`${name} was in`, () => /web|seed/.test(document.querySelector("#status, #users")?.textContent));
    pages.push(page);
  }
  const said = [];
  for (const [n, page] of pages.entries()) {
    await page.evaluate(() => document.querySelector("input").focus());
    await page.type(`word ${n}`);
    await page.press("Enter");
    said.push(`${["plain", "fox", "seed", "react"][n]}: word ${n}`);
    for (const other of pages) {
      await other.until(`all read ${said}`, (said) => {
        const shown = Array.from(document.querySelectorAll("#messages li"), (item) => item.textContent);
        return said.every((line) => shown.filter((it) => it === line).length === 1);
      }, said);
    }
  }
  for (const page of pages) assert.deepEqual(page.faults, []);
});

test("the examples show who is here, and a reload shows nobody twice", async (t) => {
  const gateway = await Gateway.start(t, { "--session-grace": "100s" }); // who is away stays so
  const react = await serveReact(t, await readFile(web("examples/react/main.jsx"), "utf8"));
  const addresses = { plain: `${gateway.url}/examples/plain.html?name=plain`, react: `${react}?name=react&gateway=${gateway.url}` };
  const pages = [];
  for (const address of Object.values(addresses)) {
    const page = await open(t, browsers.chromium);
    await page.goto(address);
    pages.push(page);
  }
  const shows = (page, n) => page.until(`${n} were shown`, (n) => document.querySelector("#here")?.textContent === String(n), n);
  for (const page of pages) await shows(page, 2);
  for (const [n, page] of pages.entries()) {
    await page.reload();
    await until("the old seat was away and the new one taken", async () => (await gateway.room("example")).seats === 3 + n);
    for (const each of pages) await shows(each, 2);
  }
  for (const page of pages) assert.deepEqual(page.faults, []);
});

for (const kind of ["chromium", "firefox"]) {
  test(`the hook is closed with the reason where there can be no room, and the page goes on (${kind})`, async (t) => {
    const gateway = await Gateway.start(t);
    const address = await serveReact(t, `
      import { useState } from "react";
      import { createRoot } from "react-dom/client";
      import { useRoom } from "dormouse-client/react";

      function Page() {
        const [[name, gateway], go] = useState(["my room", ${JSON.stringify(gateway.url)}]);
        window.go = (...place) => go(place);
        const { room, status, messages, members } = useRoom(name, { gateway });
        return <p id="page">{[status.state, status.error?.code, room !== null, messages.length, members.length].join(" ")}</p>;
      }
      createRoot(document.body).render(<Page />);
    `);
    const page = await open(t, browsers[kind]);
    await page.goto(address);
    const shows = (text) => page.until(`the page said ${text}`, (text) => document.querySelector("#page")?.textContent === text, text);
    const go = (...place) => page.evaluate((...place) => window.go(...place), ...place);
    await shows("closed bad_name false 0 0");
    await go("meadow", "localhost:4433");
    await shows("closed no_gateway false 0 0");
    await go("meadow", gateway.url);
    await shows("live  true 0 1");
    await go("..", gateway.url);
    await shows("closed bad_name false 0 0");
    await go("meadow", gateway.url);
    await shows("live  true 0 1");
    assert.deepEqual(page.faults, []);
  });
}

for (const [how, flags] of [["its own WebSocket", ["--experimental-websocket"]], ["one handed in", ["--no-experimental-websocket"]]]) {
  test(`the client runs in node with ${how}`, async (t) => {
    const gateway = await Gateway.start(t);
    const bob = await Guest.join(t, gateway, { name: "bob" });
    await bob.say("one");
    // Node 20 has none of its own, and does not know the flag by which newer ones do without.
    const known = flags.filter((flag) => process.allowedNodeEnvironmentFlags.has(flag));
    const program = spawn(process.execPath, [...known, "--input-type=module", "-e", `
      import { connect } from ${JSON.stringify(web("client/dormouse.js"))};
      const handedIn = ${known.length === 0 || how === "one handed in"};
      const { WebSocket } = handedIn ? await import(${JSON.stringify(web("node_modules/ws/wrapper.mjs"))}) : globalThis;
      const room = connect("meadow", { gateway: ${JSON.stringify(gateway.url)}, name: "node", WebSocket });
      await room.ready;
      await room.publish({ text: "two" });
      await room.publish(Uint8Array.of(3));
      const heard = [];
      for await (const { data } of room.messages()) {
        heard.push(data.text ?? [...data]);
        if (heard.length === 3) break;
      }
      await room.close();
      console.log(JSON.stringify(heard)); // and then nothing keeps the process
    `], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    program.stdout.on("data", (text) => (output += text));
    const [code] = await within("the program ended by itself", once(program, "close"));
    assert.deepEqual([code, output.trim()], [0, '["one","two",[3]]']);
  });
}

/** Serves a page with a React program in it, from an origin that is not the gateway's. */
async function serveReact(t, program) {
  const { build } = await import(web("node_modules/esbuild/lib/main.js"));
  const { outputFiles } = await build({
    stdin: { contents: program, loader: "jsx", resolveDir: fileURLToPath(web("examples/react")) },
    bundle: true,
    format: "esm",
    jsx: "automatic",
    write: false,
  });
  return serve(t, {
    "/main.js": ["text/javascript", outputFiles[0].text],
    "/": ["text/html", await readFile(web("examples/react/index.html"))],
  });
}
