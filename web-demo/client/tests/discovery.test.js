// What the gateway says of itself, and the ways in when it says nothing, or another program does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Doors } from "../src/doors.js";
import { FakeGateway, fakeWebSocket, fakeWebTransport, pass, settle } from "./fakes.js";

const AUTO = /** @type {const} */ ({ transport: "auto" });
const page = "<!doctype html><title>A single-page application</title>";

/** Answers that are no discovery, by what a proxy does. @type {Record<string, (signal: AbortSignal) => Promise<Response>>} */
const ANSWERS = {
  "a page for every path": async () => new Response(page, { headers: { "content-type": "text/html" } }),
  "404": async () => new Response("not found", { status: 404 }),
  "403 for paths with a dot": async () => new Response("forbidden", { status: 403 }),
  "502": async () => new Response("bad gateway", { status: 502 }),
  "a policy or CORS that forbids to ask": async () => Promise.reject(new TypeError("Failed to fetch")),
  "JSON of another kind": async () => Response.json({ error: "not found" }),
  "JSON that is no object": async () => Response.json(null),
  "a document whose versions alone are right": async () => Response.json({ versions: ["dormouse.v1"], webtransport: null, policy: null }),
};

for (const [what, answer] of Object.entries(ANSWERS)) {
  test(`where the discovery is ${what} there is WebSocket, at once`, async (t) => {
    const gateway = new FakeGateway(t);
    gateway.answer = answer;
    const room = gateway.connect(AUTO);
    await settle();
    assert.deepEqual(gateway.links.map(({ url }) => url), ["ws://localhost:4433/rooms/lobby/ws"]);
    await gateway.seat();
    assert.deepEqual([room.status.state, room.status.transport], ["live", "websocket"]);
    assert.equal(gateway.storage.size, 0, "WebTransport has not lost");
  });
}

test("where the discovery hangs there is WebSocket after the head start, and nothing waits for the answer", async (t) => {
  const gateway = new FakeGateway(t);
  /** @type {AbortSignal | undefined} */
  let asking;
  gateway.answer = (signal) => new Promise((_, reject) => {
    asking = signal;
    signal.addEventListener("abort", () => reject(signal.reason));
  });
  const room = gateway.connect(AUTO);
  await pass(199);
  assert.equal(gateway.links.length, 0);
  await pass(1);
  assert.deepEqual(gateway.links.map(({ transport }) => transport), ["websocket"]);
  await gateway.seat();
  assert.equal(room.status.state, "live");
  assert.equal(asking?.aborted, true, "an answer would be of no use, and would keep a program alive");
});

test("a discovery that comes late still leads to WebTransport, which gets as long as it took", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.answer = async () => {
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    return Response.json(gateway.discovery);
  };
  const room = gateway.connect(AUTO);
  await pass(1_000);
  const [other, preferred] = gateway.links;
  assert.deepEqual([other.transport, preferred.transport], ["websocket", "webtransport"]);
  other.open();
  await pass(990);
  assert.deepEqual(other.heard, [], "it is not taken yet");
  preferred.open();
  await settle();
  assert.equal(other.closedWith, "none");
  assert.equal(preferred.all("hello").length, 1);
  preferred.tell({ type: "welcome", session: "x", sid: "s1", position: { epoch: "e", seq: 0 } });
  preferred.tell({ type: "live", seq: 0 });
  await settle();
  assert.equal(room.status.transport, "webtransport");
});

test("a WebSocket that was there before WebTransport was tried is no loss of WebTransport's", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.answer = () => new Promise(() => {});
  gateway.connect(AUTO);
  await pass(200);
  await gateway.seat();
  assert.equal(gateway.storage.size, 0);
});

test("a discovery that was lost for a moment is asked for again, and WebTransport is tried", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.answer = ANSWERS["404"];
  const room = gateway.connect(AUTO);
  await gateway.seat();
  gateway.answer = async () => Response.json(gateway.discovery);
  room.pause();
  await settle();
  room.resume();
  await settle();
  assert.deepEqual(gateway.links.map(({ transport }) => transport), ["websocket", "webtransport"]);
});

test("a gateway that has answered before and is gone is not knocked at", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect(AUTO);
  await gateway.seat();
  gateway.isReachable = false;
  gateway.link.drop();
  await pass(20_000);
  assert.equal(gateway.links.length, 1);
  assert.ok(gateway.asked.length >= 4, "it is asked for");
  assert.equal(room.status.error?.code, "unreachable");
  gateway.isReachable = true;
  gateway.answer = ANSWERS["502"];
  await pass(60_000);
  assert.equal(gateway.links.length, 1, "the proxy is back, and the gateway behind it is not");
  gateway.answer = async () => Response.json(gateway.discovery);
  await pass(60_000);
  assert.equal(gateway.links[1].transport, "webtransport");
});

test("a gateway whose discovery is no longer shown is reached by WebSocket", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect(AUTO);
  await gateway.seat();
  gateway.answer = ANSWERS["404"];
  room.pause();
  await settle();
  room.resume();
  await settle();
  assert.equal(gateway.link.transport, "websocket");
});

test("what does not open says what was tried, and why each failed", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.isReachable = false;
  const room = gateway.connect({ ...AUTO, gateway: "http://localhost:4433/realtime/" });
  await settle();
  const { code, message } = /** @type {Error & { code: string }} */ (room.status.error);
  assert.equal(code, "unreachable");
  for (const part of ["no way into http://localhost:4433/realtime", "WebSocket: it did not open", "/.well-known/dormouse: fetch failed"]) {
    assert.ok(message.includes(part), message);
  }
});

test("a gateway that answers and opens nothing says so of both transports", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect(AUTO);
  await settle();
  gateway.links[0].drop();
  await settle();
  gateway.links[1].drop();
  await settle();
  assert.match(String(room.status.error?.message), /WebTransport: Opening handshake failed.*WebSocket: it did not open.*origin/);
});

test("WebTransport alone is not there without a discovery, and the reason is told", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.answer = ANSWERS["404"];
  const room = gateway.connect({ transport: "webtransport" });
  await settle();
  assert.equal(gateway.links.length, 0);
  assert.equal(room.status.error?.code, "unreachable");
  assert.match(String(room.status.error?.message), /dormouse: it answers 404/);
});

test("a WebSocket that tells an error and no close is lost at once", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await settle();
  gateway.link.forbid();
  await settle();
  assert.deepEqual([room.status.state, room.status.error?.code], ["reconnecting", "unreachable"]);
  assert.ok(/** @type {number} */ (room.status.retryIn) >= 0);
});

test("an opening that is given up leaves no request and no socket, whenever that is", async (t) => {
  const gateway = new FakeGateway(t);
  const transports = { WebSocket: fakeWebSocket(gateway), WebTransport: fakeWebTransport(gateway) };
  const begin = async (/** @type {number} */ ms) => {
    const stop = new AbortController();
    const given = new Doors("http://localhost:4433", transports).open("lobby", "auto", false, stop.signal);
    given.catch(() => {});
    await pass(ms);
    stop.abort();
    await pass(100);
    await assert.rejects(given, { code: "unreachable" });
  };
  await begin(200);
  assert.deepEqual(gateway.links.map(({ transport, isClosed }) => [transport, isClosed]), [["webtransport", true], ["websocket", true]]);
  /** @type {AbortSignal | undefined} */
  let asking;
  gateway.answer = (signal) => new Promise((_, reject) => {
    asking = signal;
    signal.addEventListener("abort", () => reject(signal.reason));
  });
  await begin(100);
  assert.equal(asking?.aborted, true);
  assert.equal(gateway.links.length, 2, "none follows");
  await begin(300);
  assert.equal(gateway.links[2].isClosed, true);
});
