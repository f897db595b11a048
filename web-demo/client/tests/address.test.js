// Where a gateway is: what an application may say, and what it leads to.

import assert from "node:assert/strict";
import { test } from "node:test";
import { baseOf } from "../src/address.js";
import { connect } from "../src/index.js";
import { FakeGateway, pass, settle } from "./fakes.js";

const RIGHT = [
  ["http://localhost:4433", "http://localhost:4433"],
  ["http://localhost:4433/", "http://localhost:4433"],
  ["https://app.example/realtime", "https://app.example/realtime"],
  ["https://app.example/realtime/", "https://app.example/realtime"],
  ["https://app.example/a/b//", "https://app.example/a/b"],
  ["  HTTPS://App.Example:443/Real%20time/ ", "https://app.example/Real%20time"],
  ["ws://127.0.0.1:4433", "http://127.0.0.1:4433"],
  ["ws://news.example:80/ws", "http://news.example/ws"],
  ["wss://news.example/", "https://news.example"],
  ["wss://[::1]:4433/x", "https://[::1]:4433/x"],
  ["https://bücher.example", "https://xn--bcher-kva.example"],
];

const WRONG = /** @type {[unknown, RegExp][]} */ ([
  ["", /cannot be read: ""/],
  ["rooms.example", /cannot be read: "rooms.example"/],
  ["127.0.0.1:4433", /cannot be read/],
  ["http://", /cannot be read/],
  ["https://a b", /cannot be read/],
  ["/realtime", /cannot be read/], // there is no page here
  ["localhost:4433", /begins with "localhost:"/],
  ["rooms.example:443", /begins with "rooms.example:"/],
  ["ftp://rooms.example", /begins with "ftp:"/],
  ["file:///srv/dormouse.js", /begins with "file:"/],
  ["httpx://rooms.example", /begins with "httpx:"/],
  ["https://ada:secret@rooms.example", /holds a user, a password, a query or a fragment/],
  ["https://ada@rooms.example", /holds a user, a password, a query or a fragment/],
  ["wss://:secret@rooms.example", /holds a user, a password, a query or a fragment/],
  ["https://rooms.example/?token=secret", /holds a user, a password, a query or a fragment/],
  ["https://rooms.example/#lobby", /holds a user, a password, a query or a fragment/],
  [4433, /neither a text nor a URL/],
  [{}, /neither a text nor a URL/],
  [["https://rooms.example"], /neither a text nor a URL/],
  [Symbol("gateway"), /neither a text nor a URL/],
  [true, /neither a text nor a URL/],
  [undefined, /neither a text nor a URL/], // neither a page nor a file from the web to take it from
]);

test("an address is an origin and its path; ws means http", () => {
  for (const [given, base] of RIGHT) {
    assert.equal(baseOf(given), base);
    assert.equal(baseOf(new URL(given)), base);
  }
});

test("an address that cannot work is refused at once, with the reason, an example, and no password", (t) => {
  const gateway = new FakeGateway(t);
  for (const [given, reason] of WRONG) {
    const refused = (/** @type {any} */ { code, message }) => {
      assert.equal(code, "no_gateway", String(given));
      assert.match(message, reason);
      assert.match(message, /should be like https:\/\/rooms\.example/);
      assert.doesNotMatch(message, /secret/);
      return true;
    };
    if (given === undefined) assert.throws(() => baseOf(given), refused);
    else assert.throws(() => gateway.connect({ gateway: /** @type {any} */ (given) }), refused);
  }
});

test("in a page a path alone is one of the page's origin", (t) => {
  Object.defineProperty(globalThis, "location", { value: new URL("https://app.example/chat/?a#b"), configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "location"));
  assert.equal(baseOf("/realtime/"), "https://app.example/realtime");
  assert.equal(baseOf("/"), "https://app.example");
  assert.equal(baseOf("//rooms.example/x"), "https://rooms.example/x");
  assert.equal(baseOf(undefined), "https://app.example");
  assert.throws(() => baseOf("realtime"), { code: "no_gateway" });
});

test("everything of a gateway is below its path, WebTransport where the discovery says", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.discovery.webtransport.url = "https://app.example:443/realtime";
  gateway.connect({ gateway: "https://app.example/realtime/", transport: "auto" });
  await pass(200);
  assert.deepEqual(gateway.asked, ["https://app.example/realtime/.well-known/dormouse"]);
  assert.deepEqual(gateway.links.map(({ url }) => url), [
    "https://app.example:443/realtime/rooms/lobby/wt",
    "wss://app.example/realtime/rooms/lobby/ws",
  ]);
});

test("a proxy that strips the path leaves WebTransport without it", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.connect({ gateway: "https://app.example/realtime", transport: "auto" });
  await settle();
  assert.equal(gateway.link.url, "https://127.0.0.1:4433/rooms/lobby/wt");
});

test("two gateways of one origin have seats and losses of their own", async (t) => {
  const gateway = new FakeGateway(t);
  for (const path of ["one", "two"]) {
    const room = gateway.connect({ gateway: `https://app.example/${path}`, transport: "auto", save: true });
    await settle();
    assert.equal(gateway.link.transport, "webtransport");
    await pass(200);
    await gateway.seat({ session: path });
    const closing = room.close();
    gateway.link.tell({ type: "close", code: 4506, reason: "room_full" });
    await closing;
  }
  assert.deepEqual([...gateway.storage.keys()].sort(), [
    "dormouse.losses https://app.example/one",
    "dormouse.losses https://app.example/two",
    "dormouse.room https://app.example/one/lobby",
    "dormouse.room https://app.example/two/lobby",
  ]);
});

test("a room's name is a text: what is missing is no room called undefined", (t) => {
  const gateway = new FakeGateway(t);
  for (const name of [undefined, null, 7, ["lobby"], "my room", "", ".."]) {
    assert.throws(() => connect(/** @type {any} */ (name), { gateway: "http://localhost:4433" }), { code: "bad_name" });
  }
  assert.equal(gateway.links.length, 0);
});
