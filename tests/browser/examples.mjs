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
import { within } from "./until.mjs";

const web = (path) => new URL(`../../web-demo/${path}`, import.meta.url);

test("the plain example, the seed's and React's meet in one room", async (t) => {
  const gateway = await Gateway.start(t);
  const { build } = await import(web("node_modules/esbuild/lib/main.js"));
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(web("examples/react/main.jsx"))],
    bundle: true,
    format: "esm",
    jsx: "automatic",
    write: false,
  });
  const react = await serve(t, { "/main.js": ["text/javascript", outputFiles[0].text], "/": ["text/html", await readFile(web("examples/react/index.html"))] });
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
