// Ways to a gateway that do not show all of it, or show it below a path: proxies, a development
// server, and pages whose policy forbids a part. The client comes in all the same.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import { connect } from "node:net";
import { createServer as createVite } from "../../web-demo/node_modules/vite/dist/node/index.js";
import { Gateway } from "./gateway.mjs";
import { serve } from "./pages.mjs";
import { browsers, open, test } from "./stage.mjs";

const CLIENT = await readFile(new URL("../../web-demo/client/dormouse.js", import.meta.url));
const SCRIPT = ["text/javascript", CLIENT];
const PAGE = ["text/html", "<!doctype html><title>lab</title><link rel=icon href=data:,>"];

function inBoth(name, act) {
  for (const kind of ["chromium", "firefox"]) test(`${name} (${kind})`, (t) => act(t, browsers[kind]));
}

/** What proxies answer at a path that they do not hand on. */
const ELSEWHERE = {
  "a single-page application": (response) => response.writeHead(200, { "content-type": "text/html" }).end(PAGE[1]),
  "404": (response) => response.writeHead(404).end(),
  "403 at paths with a dot": (response, path) => response.writeHead(path.includes("/.") ? 403 : 404).end(),
};

for (const [what, answer] of Object.entries(ELSEWHERE)) {
  inBoth(`a proxy that shows /rooms/ and elsewhere ${what} leads to WebSocket`, async (t, browser) => {
    const gateway = await Gateway.start(t);
    const url = await proxy(t, gateway, { answer, isShown: (path) => path.startsWith("/rooms/") });
    await entersBy("websocket", t, browser, `${url}/`);
  });
}

inBoth("Vite's development server, told of /rooms alone, leads to WebSocket", async (t, browser) => {
  const gateway = await Gateway.start(t);
  const vite = await createVite({
    configFile: false,
    logLevel: "silent",
    root: new URL("../../web-demo/client/", import.meta.url).pathname,
    cacheDir: false,
    appType: "spa",
    optimizeDeps: { noDiscovery: true, include: [] },
    plugins: [{
      name: "an empty page",
      configureServer: ({ middlewares }) => void middlewares.use("/lab", (_, response) => response.setHeader("content-type", "text/html").end(PAGE[1])),
    }],
    server: { host: "127.0.0.1", port: 0, hmr: false, watch: null, proxy: { "/rooms": { target: gateway.url, ws: true } } },
  });
  t.after(() => vite.close());
  await vite.listen();
  await entersBy("websocket", t, browser, `http://localhost:${vite.httpServer.address().port}/lab`);
});

inBoth("a page whose policy names the gateway's WebSocket alone takes that", async (t, browser) => {
  const gateway = await Gateway.start(t);
  const address = await serve(t, { "/": PAGE, "/dormouse.js": SCRIPT }, policy(gateway.url.replace("http", "ws")));
  await entersBy("websocket", t, browser, address, { gateway: gateway.url });
});

/** Sources that a page may connect to, of which the gateway's WebSocket is none. */
const WITHOUT_WEBSOCKET = { "names the gateway's documents alone": ({ url }) => url, "names nothing": () => "'none'" };

for (const [what, sources] of Object.entries(WITHOUT_WEBSOCKET)) {
  inBoth(`a page whose policy ${what} is told at once that its WebSocket is forbidden`, async (t, browser) => {
    const gateway = await Gateway.start(t);
    const address = await serve(t, { "/": PAGE, "/dormouse.js": SCRIPT }, policy(sources(gateway)));
    const page = await open(t, browser);
    await page.goto(address);
    const told = await page.evaluate(async (gateway, ways) => {
      const { connect } = await import("/dormouse.js");
      return Promise.all(ways.map((transport) => new Promise((resolve) => {
        const began = performance.now();
        const room = connect("meadow", { gateway, transport });
        room.on("status", ({ error }) => {
          if (!error) return;
          room.close();
          resolve({ code: error.code, message: error.message, after: performance.now() - began });
        });
      })));
    }, gateway.url, ["auto", "websocket"]);
    for (const { code, message, after } of told) {
      assert.equal(code, "unreachable");
      assert.match(message, /WebSocket: (it did not open|.*blocked)/);
      assert.ok(after < 10_000, `it took ${after} ms, as long as a timeout`);
    }
  });
}

inBoth("a gateway behind a path, which a proxy strips, is found below it, at a ws: address too", async (t, browser) => {
  const gateway = await Gateway.start(t);
  const url = await proxy(t, gateway, {
    answer: ELSEWHERE["a single-page application"],
    isShown: (path) => path.startsWith("/realtime/"),
    rewrite: (path) => path.slice("/realtime".length),
  });
  // The discovery names the proxy's own port for WebTransport, where no UDP is.
  await entersBy("websocket", t, browser, `${url}/`, { gateway: "/realtime/" });
  await entersBy("websocket", t, browser, `${url}/`, { gateway: `${url.replace("http", "ws")}/realtime` });
});

inBoth("in a sandboxed frame, to which storage is denied, a room that would be saved works", async (t, browser) => {
  const gateway = await Gateway.start(t, { "--gateway-origins": "*" });
  const frame = `<!doctype html><script type="module">
    const tell = (what) => parent.postMessage(what, "*");
    try {
      const { connect } = await import("/dormouse.js");
      let denied = "";
      try { localStorage; } catch ({ name }) { denied = name; }
      const room = connect("meadow", { gateway: "${gateway.url}", save: true });
      await room.ready;
      const { seq } = await room.publish("from a sandbox");
      tell({ denied, state: room.status.state, seq });
    } catch (error) {
      tell({ error: String(error) });
    }
  </script>`;
  // To the frame, whose origin is none, its own script is one of another origin.
  const files = { "/": PAGE, "/frame": ["text/html", frame], "/dormouse.js": SCRIPT };
  const address = await serve(t, files, { "access-control-allow-origin": "*" });
  const page = await open(t, browser);
  await page.goto(address);
  const told = await page.evaluate(() => new Promise((resolve) => {
    addEventListener("message", ({ data }) => resolve(data), { once: true });
    const frame = Object.assign(document.createElement("iframe"), { src: "/frame" });
    frame.sandbox = "allow-scripts";
    document.body.append(frame);
  }));
  assert.deepEqual(told, { denied: "SecurityError", state: "live", seq: 1 });
});

/** The header of a page that may connect to `sources` alone. */
function policy(sources) {
  return { "content-security-policy": `default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; img-src data:; connect-src ${sources}` };
}

/** Goes into a room from a page at `address`, says something, and sees that it is in by `transport`. */
async function entersBy(transport, t, browser, address, options = {}) {
  const page = await open(t, browser);
  await page.goto(address);
  const how = await page.evaluate(async (options) => {
    const { connect } = await import("/dormouse.js");
    const room = connect("meadow", { name: "ann", ...options });
    const failures = [];
    room.on("status", ({ error }) => error && failures.push(error.message));
    await room.ready;
    const { seq } = await room.publish({ text: "in" });
    const { transport } = room.status;
    await room.close();
    return { transport, failures, said: seq > 0 };
  }, options);
  assert.deepEqual(how, { transport, failures: [], said: true });
}

/**
 * A proxy before a gateway. What it does not show is its own affair; `/dormouse.js` and a page at
 * `/` it serves itself.
 */
async function proxy(t, gateway, { answer, isShown, rewrite = (path) => path }) {
  const { port } = new URL(gateway.url);
  const server = createServer((request, response) => {
    const path = request.url;
    if (path === "/dormouse.js") return response.writeHead(200, { "content-type": SCRIPT[0] }).end(CLIENT);
    if (path === "/") return response.writeHead(200, { "content-type": PAGE[0] }).end(PAGE[1]);
    if (!isShown(path)) return answer(response, path);
    const onward = ask({ port, host: "127.0.0.1", path: rewrite(path), method: request.method, headers: request.headers }, (answered) => {
      response.writeHead(answered.statusCode, answered.headers);
      answered.pipe(response);
    });
    onward.on("error", () => response.writeHead(502).end());
    request.pipe(onward);
  });
  const sockets = new Set();
  server.on("upgrade", (request, socket, head) => {
    if (!isShown(request.url)) return socket.destroy();
    const onward = connect(port, "127.0.0.1", () => {
      const headers = Array.from({ length: request.rawHeaders.length / 2 }, (_, n) => `${request.rawHeaders[2 * n]}: ${request.rawHeaders[2 * n + 1]}`);
      onward.write([`GET ${rewrite(request.url)} HTTP/1.1`, ...headers, "", ""].join("\r\n"));
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    for (const end of [socket, onward]) {
      sockets.add(end);
      end.on("error", () => {}).on("close", () => {
        socket.destroy();
        onward.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    server.close();
  });
  return `http://localhost:${server.address().port}`;
}
