// Ways in: which is taken, and what is remembered of it.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { FakeGateway, pass, settle } from "./fakes.js";

const AUTO = /** @type {const} */ ({ transport: "auto" });

test("WebTransport has a head start, and the loser is closed before it has said a word", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect(AUTO);
  await settle();
  assert.deepEqual(gateway.links.map(({ transport }) => transport), ["webtransport"]);
  await pass(199);
  assert.equal(gateway.links.length, 1);
  await pass(1);
  const [preferred, other] = gateway.links;
  assert.equal(other.transport, "websocket");
  preferred.open();
  await settle();
  assert.deepEqual(other.closedWith, "none");
  assert.deepEqual(other.heard, []);
  assert.equal(preferred.last("hello").history, undefined);
  preferred.tell({ type: "welcome", session: "x", sid: "s1", position: { epoch: "e", seq: 0 } });
  preferred.tell({ type: "live", seq: 0 });
  await settle();
  assert.deepEqual([room.status.state, room.status.transport], ["live", "webtransport"]);
});

test("where WebTransport fails at once WebSocket does not wait", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.connect(AUTO);
  await settle();
  gateway.link.drop();
  await settle();
  assert.equal(gateway.link.transport, "websocket");
});

test("WebTransport that does not open within three seconds is given up", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ transport: "webtransport" });
  await settle();
  await pass(2_999);
  assert.equal(gateway.link.isClosed, false);
  await pass(1);
  assert.equal(gateway.link.closedWith, "none");
  assert.match(String(room.status.error?.message), /UDP may be blocked/);
});

test("after two losses in a row it stays on WebSocket, for a day and on every page", async (t) => {
  const gateway = new FakeGateway(t);
  for (const expected of ["webtransport", "webtransport", "websocket"]) {
    const room = gateway.connect(AUTO);
    await settle();
    assert.equal(gateway.link.transport, expected);
    await pass(200);
    await gateway.seat();
    assert.equal(room.status.transport, "websocket");
    const closed = room.close();
    gateway.link.tell({ type: "close", code: 1000, reason: "ended" });
    await closed;
  }
  await pass(24 * 3_600_000);
  gateway.connect(AUTO);
  await settle();
  assert.equal(gateway.link.transport, "webtransport");
});

test("a win makes earlier losses forgotten", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.storage.setItem("dormouse.losses http://localhost:4433", JSON.stringify({ count: 1, at: Date.now() }));
  gateway.connect(AUTO);
  await gateway.seat();
  assert.equal(gateway.storage.size, 0);
});

test("the gateway's policy decides which browsers get WebTransport", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.discovery.policy = { ...gateway.discovery.policy, webtransport: { safari: false } };
  gateway.connect(AUTO);
  await settle();
  assert.equal(gateway.link.transport, "websocket");
});

test("a stalled WebTransport is replaced by a WebSocket at once, which is remembered if it opens", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect(AUTO);
  await gateway.seat();
  const answer = room.publish("hello?");
  await settle();
  const first = gateway.link;
  const sent = first.last("publish");
  await pass(2_500);
  assert.ok(first.all("ping").length >= 2, "the room may be busy, so the gateway is asked as well");
  assert.equal(first.isClosed, false);
  await pass(2_500);
  assert.equal(first.isClosed, true);
  assert.equal(gateway.link.transport, "websocket");
  assert.equal(gateway.storage.size, 0, "so far it may be the network");
  await gateway.seat({ resumed: true, seat: "kept" });
  assert.equal(gateway.storage.size, 1);
  assert.deepEqual(gateway.link.last("publish"), sent, "sent again, the same to the last byte");
  assert.equal(gateway.link.last("hello").session, "secret");
  gateway.link.tell({ type: "ok", id: sent.id, seq: 1, dup: true });
  assert.deepEqual(await answer, { seq: 1, dup: true });
});

test("datagrams are no sign of life: a stream that has stalled is noticed all the same", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect(AUTO);
  await gateway.seat();
  room.publish("hello?").catch(() => {});
  await settle();
  const first = gateway.link;
  for (let second = 0; second < 4; second++) {
    await pass(1_000);
    first.tellBeside({ type: "ephemeral", key: "cursor", from: { sid: "s2" }, data: second });
    await settle();
  }
  assert.equal(first.isClosed, false);
  await pass(1_000);
  assert.equal(first.isClosed, true, "five seconds after the publish, whatever came beside the stream");
});

test("what was lost while the machine slept is not held against WebTransport", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.connect(AUTO);
  await gateway.seat();
  const first = gateway.link;
  first.tell({ type: "pong", id: first.last("ping").id });
  await pass(1_000);
  mock.timers.setTime(Date.now() + 3_600_000);
  await pass(5_500);
  assert.equal(first.isClosed, true, "it was asked, and did not answer");
  assert.deepEqual(gateway.links.map(({ transport }) => transport), ["webtransport", "webtransport"]);
  await gateway.seat({ resumed: true, seat: "kept" });
  assert.equal(gateway.storage.size, 0);
});

test("a network that is gone altogether is not held against WebTransport", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect(AUTO);
  await gateway.seat();
  room.publish("hello?").catch(() => {});
  gateway.isReachable = false;
  await pass(6_000);
  assert.equal(room.status.state, "reconnecting");
  gateway.isReachable = true;
  await pass(1_000);
  assert.deepEqual(gateway.links.map(({ transport }) => transport), ["webtransport", "webtransport", "websocket"]);
  assert.equal(gateway.storage.size, 0);
});

test("while anything arrives a slow answer is no stall", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect(AUTO);
  await gateway.seat();
  room.publish("hello?").catch(() => {});
  for (let second = 0; second < 20; second++) {
    await pass(1_000);
    gateway.link.tell({ type: "room", state: "degraded", retry_after: 1_000 });
    await settle();
  }
  assert.equal(gateway.links.length, 1);
});
