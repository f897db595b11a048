// Everything the client uses of a platform, and what it does where that is missing or throws.
//
// The list is complete: the compiler is asked for what the sources use beyond the language.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import ts from "typescript";
import { FakeGateway, FakeStorage, fakeWebSocket, fakeWebTransport, settle } from "./fakes.js";

const SOURCES = fileURLToPath(new URL("../src/", import.meta.url));

/** What a room does: it is live over a transport, or `connect` throws an error of a code. */
const WEBTRANSPORT = "webtransport";
const WEBSOCKET = "websocket";
const UNSUPPORTED = "unsupported";

/**
 * By name, what a room does where it is missing, and where each of some other things is there
 * instead of it.
 * @type {Record<string, { missing: string, instead?: [what: string, there: PropertyDescriptor, does: string][] }>}
 */
const PLATFORM = {
  AbortController: { missing: UNSUPPORTED },
  TextDecoder: { missing: UNSUPPORTED },
  TextEncoder: { missing: UNSUPPORTED },
  URL: { missing: UNSUPPORTED },
  atob: { missing: UNSUPPORTED },
  performance: { missing: UNSUPPORTED },
  queueMicrotask: { missing: UNSUPPORTED },
  setTimeout: { missing: UNSUPPORTED },
  clearTimeout: { missing: UNSUPPORTED },
  WebSocket: {
    missing: "no_websocket",
    instead: [["one that throws, as for ws: in a page over https", { value: throwing("SecurityError") }, WEBTRANSPORT]],
  },
  WebTransport: {
    missing: WEBSOCKET,
    instead: [["one that throws, as for hashes it does not know", { value: throwing("NotSupportedError") }, WEBSOCKET]],
  },
  fetch: {
    missing: WEBSOCKET,
    instead: [["one that throws", { value: () => { throw new TypeError("no network"); } }, WEBSOCKET]],
  },
  crypto: { missing: WEBTRANSPORT },
  location: { missing: WEBTRANSPORT },
  navigator: { missing: WEBTRANSPORT, instead: [["one without a name", { value: {} }, WEBTRANSPORT]] },
  document: {
    missing: WEBTRANSPORT, // a worker
    instead: [["one that tells nothing", { value: {} }, WEBTRANSPORT]],
  },
  addEventListener: { missing: WEBTRANSPORT },
  localStorage: {
    missing: WEBTRANSPORT,
    instead: [
      ["one that is denied, as in a sandboxed frame", { get() { throw new DOMException("denied", "SecurityError"); } }, WEBTRANSPORT],
      ["none, as in some web views", { value: null }, WEBTRANSPORT],
      ["one that gives nothing", { value: storage({ getItem: refuse }) }, WEBTRANSPORT],
      ["one that is full", { value: storage({ setItem: refuse }) }, WEBTRANSPORT],
      ["one that keeps what it has", { value: storage({ removeItem: refuse }) }, WEBTRANSPORT],
      ["one with something else in it", { value: storage({ getItem: () => "null" }) }, WEBTRANSPORT],
      ["one with no JSON in it", { value: storage({ getItem: () => "{" }) }, WEBTRANSPORT],
    ],
  },
};

test("what the client uses of a platform is what is listed here", () => {
  const names = readdirSync(SOURCES).map((name) => SOURCES + name);
  const program = ts.createProgram(names, {
    allowJs: true, checkJs: true, noEmit: true, types: [], module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2023,
    lib: ["lib.es2023.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts", "lib.dom.asynciterable.d.ts"],
  });
  const checker = program.getTypeChecker();
  /** @type {Set<string>} */
  const used = new Set(["addEventListener"]); // the global object is handed on as its target
  const visit = (/** @type {ts.Node} */ node) => {
    if (ts.isIdentifier(node) && !ts.isPartOfTypeNode(node)) {
      const { parent } = node;
      // In `const { document } = globalThis` the name is a variable of the source's own.
      const taken = ts.isBindingElement(parent) ? checker.getTypeAtLocation(parent.parent).getProperty(node.text) : undefined;
      const declared = (taken ?? checker.getSymbolAtLocation(node))?.valueDeclaration;
      const isGlobal = declared && (ts.isVariableDeclaration(declared) || ts.isFunctionDeclaration(declared));
      if (isGlobal && /lib\.dom/.test(declared.getSourceFile().fileName)) used.add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  for (const file of program.getSourceFiles()) if (names.includes(file.fileName)) visit(file);
  assert.deepEqual([...used].sort(), Object.keys(PLATFORM).sort());
});

const { outputFiles } = await build({ entryPoints: [`${SOURCES}index.js`], bundle: true, format: "esm", write: false });
let copies = 0;
/** The client, read anew. @returns {Promise<typeof import("../src/index.js")>} */
const freshClient = () => import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}//${++copies}`);

for (const [name, { missing, instead = [] }] of Object.entries(PLATFORM)) {
  test(`without ${name}`, (t) => works(t, name, undefined, missing));
  test(`with ${name} that is undefined`, (t) => works(t, name, { value: undefined }, missing));
  for (const [what, there, does] of instead) test(`instead of ${name} ${what}`, (t) => works(t, name, there, does));
}

/**
 * Goes into a room with `there` in the place of a global, or with nothing.
 * @param {import("node:test").TestContext} t
 * @param {string} name
 * @param {PropertyDescriptor | undefined} there
 * @param {string} does
 */
async function works(t, name, there, does) {
  const gateway = new FakeGateway(t);
  const page = new EventTarget();
  put(t, "document", { value: Object.assign(new EventTarget(), { hidden: false }) });
  put(t, "addEventListener", { value: page.addEventListener.bind(page) });
  put(t, "location", { value: new URL("http://localhost:4433/") });
  put(t, "navigator", { value: { userAgent: "Version/26.0 Safari/605.1.15" } });
  put(t, "WebSocket", { value: fakeWebSocket(gateway) });
  put(t, "WebTransport", { value: fakeWebTransport(gateway) });
  const restore = put(t, name, there);

  const { connect } = await freshClient();
  const enter = () => connect("lobby", { gateway: "http://localhost:4433", save: true });
  if (does !== WEBTRANSPORT && does !== WEBSOCKET) {
    assert.throws(enter, (/** @type {any} */ error) => error.code === does && error.message.includes(name));
    return;
  }
  const room = enter();
  gateway.rooms.push(room);
  await gateway.seat();
  assert.deepEqual([room.status.state, room.status.transport], ["live", does]);
  const said = room.publish("hello");
  await settle();
  gateway.link.tell({ type: "ok", id: gateway.link.last("publish").id, seq: 1, dup: false });
  assert.deepEqual(await said, { seq: 1, dup: false });
  restore();
}

test("a WebSocket that cannot be made is told at once", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ WebSocket: throwing("SecurityError"), transport: "websocket" });
  await settle();
  assert.equal(room.status.error?.code, "unreachable");
  assert.match(String(room.status.error?.message), /WebSocket: it is refused/);
});

test("a room leaves the page's storage alone unless it is told to save", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.connect();
  await gateway.seat();
  assert.equal(gateway.storage.size, 0);
});

/**
 * Puts something in the place of a global, until the test ends or it is told to restore it.
 * @param {import("node:test").TestContext} t
 * @param {string} name
 * @param {PropertyDescriptor} [there] nothing if it is not given
 */
function put(t, name, there) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Reflect.deleteProperty(globalThis, name);
  if (there) Object.defineProperty(globalThis, name, { configurable: true, ...there });
  let isRestored = false;
  const restore = () => {
    if (isRestored) return;
    isRestored = true;
    Reflect.deleteProperty(globalThis, name);
    if (before) Object.defineProperty(globalThis, name, before);
  };
  t.after(restore);
  return restore;
}

/** A class of which no object can be made. @param {string} name */
function throwing(name) {
  return class {
    constructor() {
      throw new DOMException("it is refused", name);
    }
  };
}

function refuse() {
  throw new DOMException("it is refused", "QuotaExceededError");
}

/** A storage that differs. @param {object} difference */
function storage(difference) {
  return Object.assign(new FakeStorage(), difference);
}
