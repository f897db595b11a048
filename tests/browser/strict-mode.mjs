// A room in React as a new project has it: Vite, and StrictMode, which mounts every component twice.

import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Gateway } from "./gateway.mjs";
import { Guest } from "./guest.mjs";
import { serve } from "./pages.mjs";
import { freePort } from "./ports.mjs";
import { browsers, test } from "./stage.mjs";
import { until } from "./until.mjs";

const web = (path) => new URL(`../../web-demo/${path}`, import.meta.url);
const TYPES = { ".html": "text/html", ".js": "text/javascript" };

/** How a Vite project comes to a browser, by the command that the template has for it. */
const SERVED = {
  async dev(t) {
    const { createServer, config } = await project(t);
    const server = await createServer({ ...config, server: { host: "127.0.0.1", port: await freePort(), strictPort: true, watch: null } });
    t.after(() => server.close());
    await server.listen();
    return `http://localhost:${server.config.server.port}/`;
  },
  async build(t) {
    const { build, config, outDir } = await project(t);
    await build({ ...config, build: { outDir } });
    const files = {};
    for (const name of await readdir(outDir, { recursive: true })) {
      const type = TYPES[extname(name)];
      if (type) files[`/${name}`] = [type, await readFile(join(outDir, name))];
    }
    return serve(t, { ...files, "/": files["/index.html"] });
  },
};

/** Vite itself, and the project's settings; what they write goes away with the test. */
async function project(t) {
  const vite = await import(web("node_modules/vite/dist/node/index.js"));
  const { default: react } = await import(web("node_modules/@vitejs/plugin-react/dist/index.js"));
  const outDir = await mkdtemp(join(tmpdir(), "dormouse-vite-"));
  t.after(() => rm(outDir, { recursive: true, force: true }));
  const config = {
    configFile: false,
    root: fileURLToPath(web("client/tests/vite")),
    cacheDir: join(outDir, ".cache"),
    logLevel: "error",
    plugins: [react()],
  };
  return { ...vite, config, outDir };
}

/** The page as a member called ada, once it is live: `{ page, sid }`. */
async function ada(t, browser, address, gateway, more = {}) {
  const page = await browser.open(t, `${address}?${new URLSearchParams({ gateway: gateway.url, name: "ada", ...more })}`);
  return { page, sid: await live(page) };
}

async function live(page) {
  await page.until("the page was live", () => document.querySelector("#lobby")?.dataset.state === "live");
  return page.evaluate(() => document.querySelector("#lobby").dataset.sid);
}

/** A newcomer, bob: he and the page see each other and nobody else. */
async function meet(t, gateway, page) {
  await until("only the page had a seat", async () => (await gateway.room("meadow")).seats === 1);
  const bob = await Guest.join(t, gateway, { name: "bob" });
  assert.deepEqual(bob.members.map(({ name }) => name).sort(), ["ada", "bob"]);
  await page.until("the page saw two", () => document.querySelector("#lobby").textContent.split(", ").sort().join() === "ada,bob");
  return bob;
}

for (const kind of ["chromium", "firefox"]) {
  for (const [command, serveIt] of Object.entries(SERVED)) {
    test(`a component of a Vite project (${command}) is one member (${kind})`, async (t) => {
      const gateway = await Gateway.start(t);
      const { page, sid } = await ada(t, browsers[kind], await serveIt(t), gateway);
      const asked = await page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/.well-known/dormouse")).length);
      assert.equal(asked, 1, "the first of the two mounts asks for nothing");
      const bob = await meet(t, gateway, page);
      assert.equal(bob.members.find(({ name }) => name === "ada").sid, sid);

      await page.click("#flicker");
      const next = await page.until("another room was live", (sid) => {
        const { state, sid: now } = document.querySelector("#lobby").dataset;
        return state === "live" && now !== sid && now;
      }, sid);
      bob.leave();
      const cyd = await meet(t, gateway, page);
      assert.equal(cyd.members.find(({ name }) => name === "ada").sid, next);

      await cyd.say("a room that had a message is known without members too");
      await page.click("#hide");
      cyd.leave();
      await until("nobody had a seat", async () => (await gateway.room("meadow")).seats === 0);
      assert.deepEqual(page.faults, []);
    });
  }

  test(`a component that keeps its seat has it after a reload, in StrictMode too (${kind})`, async (t) => {
    const gateway = await Gateway.start(t);
    const { page, sid } = await ada(t, browsers[kind], await SERVED.dev(t), gateway, { save: "yes" });
    await page.reload();
    assert.equal(await live(page), sid);
    await meet(t, gateway, page);
    assert.deepEqual(page.faults, []);
  });
}
