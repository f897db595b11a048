// Silence, ends and returns: when it gives up on a link, when it comes back, and when it does not.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { CloseError } from "../src/index.js";
import { FakeGateway, FakeStorage, message, pass, settle } from "./fakes.js";

test("after the heartbeat's silence it pings, and any frame is an answer", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.connect();
  await gateway.seat({ heartbeat: 8_000 });
  gateway.link.tell({ type: "pong", id: gateway.link.last("ping").id }); // the one for the round trip
  await pass(7_900);
  assert.equal(gateway.link.all("ping").length, 1);
  await pass(100);
  assert.equal(gateway.link.all("ping").length, 2);
  gateway.link.tell({ type: "pong", id: gateway.link.last("ping").id });
  await pass(7_900);
  assert.equal(gateway.link.all("ping").length, 2);
  await pass(100);
  assert.equal(gateway.link.all("ping").length, 3);
  await pass(9_900);
  assert.equal(gateway.link.isClosed, false);
  await pass(100);
  assert.equal(gateway.link.isClosed, true, "nothing came for ten seconds");
});

test("a jump of the clock makes it ask at once, and wait five seconds for the answer", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  gateway.link.tell({ type: "pong", id: gateway.link.last("ping").id });
  await pass(1_000);
  mock.timers.setTime(Date.now() + 3_600_000);
  await pass(1);
  assert.equal(gateway.link.all("ping").length, 2);
  assert.equal(gateway.link.isClosed, false, "an hour passed, but nobody was asked in it");
  await pass(4_900);
  assert.equal(gateway.link.isClosed, false);
  await pass(100);
  assert.equal(gateway.link.isClosed, true);
  assert.equal(room.status.error?.code, "stalled");
});

test("a link of its own accord lost is tried again with full jitter, 0.5 to 30 s, short only after 30 s", async (t) => {
  const gateway = new FakeGateway(t);
  mock.method(Math, "random", () => 0.999);
  const room = gateway.connect();
  const waits = async (/** @type {number} */ stable) => {
    await gateway.seat();
    gateway.link.tell({ type: "pong", id: gateway.link.last("ping").id });
    await pass(stable);
    gateway.link.drop();
    await settle();
    const wait = Math.round((room.status.retryIn ?? 0) / 100) / 10;
    await pass((room.status.retryIn ?? 0) + 1);
    return wait;
  };
  const seen = [];
  for (let n = 0; n < 8; n++) seen.push(await waits(1_000));
  assert.deepEqual(seen, [0.5, 1, 2, 4, 8, 16, 30, 30]);
  assert.equal(await waits(29_000), 30);
  assert.equal(await waits(31_000), 0.5);
  mock.method(Math, "random", () => 0);
  assert.equal(await waits(1_000), 0);
});

test("a drain is obeyed to the millisecond, whatever else makes one try", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  gateway.link.tell({ type: "drain", reconnect_after: 8_123 });
  gateway.link.tell({ type: "close", code: 4000, reason: "drain" });
  await settle();
  assert.deepEqual([room.status.state, room.status.retryIn, room.status.error?.code], ["reconnecting", 8_123, "drain"]);
  room.use("websocket");
  await pass(8_100);
  assert.equal(gateway.links.length, 1);
  await pass(23);
  assert.equal(gateway.links.length, 2);
});

test("a close with retry_after is obeyed, and what does not help is not tried", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  gateway.link.tell({ type: "close", code: 4007, reason: "store_unavailable", retry_after: 2_000 });
  await pass(1_999);
  assert.equal(gateway.links.length, 1);
  await pass(1);
  await gateway.seat();
  const reading = room.messages().next();
  const waiting = room.publish("hi");
  gateway.link.tell({ type: "close", code: 4507, reason: "kicked" });
  await assert.rejects(reading, CloseError);
  await assert.rejects(waiting, { code: "kicked", closeCode: 4507, advice: "never" });
  await pass(60_000);
  assert.equal(gateway.links.length, 2);
  assert.equal(room.status.state, "closed");
  room.resume();
  await gateway.seat();
  assert.equal(gateway.link.last("hello").session, "secret");
  assert.equal(room.status.state, "live");
});

test("each return tells what was missed and what was lost in it", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  /** @type {object[]} */
  const returns = [];
  room.on("back", ({ missed, lost, why }) => returns.push({ missed, lost, why }));
  await gateway.seat();
  gateway.link.tell(message(1));
  for (const replayed of [[2, 5], [], [6]]) {
    gateway.link.drop();
    await pass(1_000);
    gateway.link.open();
    await settle();
    gateway.welcome({ resumed: true, seat: "kept" });
    for (const seq of replayed) gateway.link.tell(message(seq));
    gateway.link.tell({ type: "live", seq: room.position?.seq });
    await settle();
  }
  assert.deepEqual(returns, [2, 0, 1].map((missed, n) => ({ missed, lost: n === 0 ? 2 : 0, why: undefined })));
});

test("the newest 64 seats of a room are its own, in messages as well", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  /** @type {boolean[]} */
  const own = [];
  room.on("message", (message) => own.push(message.own));
  await gateway.seat({ sid: "me0" });
  for (let n = 1; n <= 65; n++) gateway.welcome({ sid: `me${n}`, resumed: true });
  gateway.welcome({ sid: "me3", resumed: true }); // and is the newest again
  for (const sid of ["me66", "me67"]) gateway.welcome({ sid, resumed: true });
  const authors = ["me2", "me4", "me3", "me5", "me67", "another"];
  authors.forEach((sid, n) => gateway.link.tell({ ...message(n + 1), from: { sid, user: null, name: sid } }));
  assert.deepEqual(own, [false, false, true, true, true, false]);
});

test("whose seat was taken over comes back only when told to, and with a new seat", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  gateway.link.tell({ type: "close", code: 4508, reason: "taken_over" });
  await pass(60_000);
  assert.equal(gateway.links.length, 1);
  room.resume();
  await gateway.seat();
  assert.equal(gateway.link.last("hello").session, undefined);
});

test("a pause lets go and keeps the seat; coming back does not wait, not even from one's own listener", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  room.pause();
  await settle();
  assert.deepEqual([room.status.state, gateway.link.closedWith], ["paused", "none"]);
  await pass(60_000);
  assert.equal(gateway.links.length, 1);
  room.resume();
  await gateway.seat();
  assert.equal(gateway.link.last("hello").session, "secret");
  room.pause();
  room.resume();
  await gateway.seat();
  assert.equal(gateway.links.length, 3);
  const off = room.on("status", ({ state }) => state === "closed" && room.resume());
  gateway.link.tell({ type: "close", code: 4505, reason: "room_deleted" });
  await gateway.seat();
  assert.deepEqual([gateway.links.length, room.status.state], [4, "live"]);
  off();
});

test("a code that is newer than the client goes by its family", async (t) => {
  const gateway = new FakeGateway(t);
  gateway.connect();
  await gateway.seat();
  gateway.link.tell({ type: "close", code: 4042, reason: "new_reason" });
  await pass(999);
  assert.equal(gateway.links.length, 1, "later is not at once");
  await pass(1);
  await gateway.seat();
  gateway.link.tell({ type: "close", code: 4542, reason: "new_reason" });
  await pass(60_000);
  assert.equal(gateway.links.length, 2);
});

test("a hello that is refused will be refused again", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ name: "x".repeat(65) });
  await settle();
  gateway.link.open();
  await settle();
  gateway.link.tell({ type: "error", code: "too_large", reason: "a name may have 64 characters, this one has 65" });
  await assert.rejects(room.ready, { code: "too_large" });
  await pass(60_000);
  assert.equal(gateway.links.length, 1);
});

test("a token is asked for anew when the gateway says it has run out, and once when it is refused", async (t) => {
  const gateway = new FakeGateway(t);
  let asked = 0;
  const room = gateway.connect({ token: async () => `token ${++asked}` });
  await gateway.seat();
  assert.equal(gateway.link.last("hello").token, "token 1");
  gateway.link.tell({ type: "close", code: 4501, reason: "token_expired" });
  await pass(600);
  await gateway.seat();
  assert.equal(gateway.link.last("hello").token, "token 2");
  for (let n = 0; n < 2; n++) {
    gateway.link.tell({ type: "close", code: 4500, reason: "auth_failed" });
    await pass(1_100);
    gateway.link.open();
    await settle();
  }
  assert.equal(asked, 3);
  assert.deepEqual([room.status.state, room.status.error?.code], ["closed", "auth_failed"]);
});

test("a JWT is renewed a minute before its end", async (t) => {
  const gateway = new FakeGateway(t);
  let asked = 0;
  const jwt = () => `x.${btoa(JSON.stringify({ exp: Date.now() / 1_000 + 300, n: ++asked }))}.x`;
  gateway.connect({ token: jwt });
  await gateway.seat({ heartbeat: 3_600_000 });
  gateway.link.tell({ type: "pong", id: gateway.link.last("ping").id });
  await pass(239_000);
  assert.equal(gateway.link.all("token").length, 0);
  await pass(1_500);
  assert.equal(asked, 2);
  assert.equal(gateway.link.last("token").token.length > 10, true);
});

test("a saved seat and position are taken up by the next page, and lent to one at a time", async (t) => {
  const gateway = new FakeGateway(t);
  const storage = new FakeStorage();
  const first = gateway.connect({ save: storage });
  await gateway.seat();
  gateway.link.tell(message(1));
  gateway.link.tell(message(2));
  await pass(300);
  const [[, kept]] = storage;
  assert.deepEqual(JSON.parse(kept), { since: { epoch: "e1", seq: 2 } }, "another tab must not find the seat");
  const closed = first.close();
  gateway.link.tell({ type: "close", code: 1000, reason: "ended" });
  await closed;
  const second = gateway.connect({ save: storage });
  await settle();
  gateway.link.open();
  await settle();
  assert.deepEqual(gateway.link.last("hello").since, { epoch: "e1", seq: 2 });
  assert.equal(second.position?.seq, 2);
});

test("a copied tab finds no seat while the page that has taken it up lives", async (t) => {
  const gateway = new FakeGateway(t);
  const storage = new FakeStorage();
  const before = gateway.connect({ save: storage });
  await gateway.seat();
  gateway.link.tell(message(2));
  await pass(300);
  await Promise.all([before.close(), pass(2_000)]);
  const [[slot]] = storage;
  storage.setItem(slot, JSON.stringify({ session: "kept", since: { epoch: "e1", seq: 2 } }));
  for (const session of ["kept", undefined]) {
    gateway.connect({ save: storage });
    await settle();
    gateway.link.open();
    await settle();
    assert.equal(gateway.link.last("hello").session, session);
    assert.deepEqual(gateway.link.last("hello").since, { epoch: "e1", seq: 2 });
    assert.equal(JSON.parse(storage.getItem(slot)).session, undefined, "it is taken out at once");
  }
});

test("a position is only saved when every reader is past it", async (t) => {
  const gateway = new FakeGateway(t);
  const storage = new FakeStorage();
  const room = gateway.connect({ save: storage });
  const reader = room.messages();
  await gateway.seat();
  const saved = () => JSON.parse([...storage.values()][0]).since.seq;
  for (const seq of [1, 2, 3]) gateway.link.tell(message(seq));
  assert.equal((await reader.next()).value.seq, 1);
  await pass(300);
  assert.equal(saved(), 0, "the first is still being processed");
  await reader.next();
  gateway.link.tell(message(4));
  await pass(300);
  assert.equal(saved(), 1);
  await reader.return?.();
  gateway.link.tell(message(5));
  await pass(300);
  assert.equal(saved(), 5);
});

test("a page that resumes and hears nothing new keeps its position", async (t) => {
  const gateway = new FakeGateway(t);
  const storage = new FakeStorage();
  const room = gateway.connect({ save: storage, since: { epoch: "e1", seq: 100 } });
  room.messages().next();
  await gateway.seat({ resumed: true, live: 100 });
  await pass(300);
  assert.equal(JSON.parse([...storage.values()][0]).since.seq, 100);
});

test("an abort signal closes the room, also before it begins", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ signal: AbortSignal.abort() });
  await settle();
  assert.equal(room.status.state, "closed");
  assert.equal(gateway.links.length, 0);
  const controller = new AbortController();
  const other = gateway.connect({ signal: controller.signal });
  await gateway.seat();
  controller.abort();
  await settle();
  assert.equal(gateway.link.all("bye").length, 1);
  await pass(1_000);
  assert.equal(other.status.state, "closed");
});

test("what can never work is said at once", async (t) => {
  const gateway = new FakeGateway(t);
  const { connect } = await import("../src/index.js");
  assert.throws(() => connect("a/b", { gateway: "http://localhost", WebSocket: class {} }), { code: "bad_name" });
  assert.throws(() => connect("a", { WebSocket: class {} }), { code: "no_gateway" });
  assert.throws(() => gateway.connect({ WebSocket: null }), { code: "no_websocket" });
});
