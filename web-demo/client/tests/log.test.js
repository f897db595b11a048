// Messages: once each, in order, as slowly as one likes, and never silently missing.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { FakeGateway, FakeStorage, message, pass, settle } from "./fakes.js";

/** Reads `n` messages. @param {AsyncIterator<any>} reader @param {number} n */
async function take(reader, n) {
  const seqs = [];
  for (let i = 0; i < n; i++) seqs.push((await reader.next()).value.seq);
  return seqs;
}

test("history comes first, then what is said, and what comes twice is told once", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  /** @type {number[]} */
  const told = [];
  room.on("message", ({ seq }) => told.push(seq));
  const reader = room.messages();
  await settle();
  gateway.link.open();
  await settle();
  gateway.welcome();
  for (const seq of [5, 6]) gateway.link.tell(message(seq));
  gateway.link.drop(); // in the middle of the replay
  await pass(500);
  gateway.link.open();
  await settle();
  assert.deepEqual(gateway.link.last("hello").since, { epoch: "e1", seq: 6 });
  gateway.welcome({ resumed: true, position: { epoch: "e1", seq: 8 } });
  for (const seq of [6, 7, 8]) gateway.link.tell(message(seq));
  gateway.link.tell({ type: "live", seq: 8 });
  gateway.link.tell(message(9));
  assert.deepEqual(await take(reader, 5), [5, 6, 7, 8, 9]);
  assert.deepEqual(told, [5, 6, 7, 8, 9]);
  assert.deepEqual(await take(room.messages(), 5), [5, 6, 7, 8, 9], "who comes later gets what the client has");
});

test("a slow reader is bounded, and gets from the gateway what is no longer kept", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ buffer: 10 });
  const reader = room.messages();
  await gateway.seat();
  gateway.link.tell(message(1));
  assert.deepEqual(await take(reader, 1), [1]);
  for (let seq = 2; seq <= 130; seq++) gateway.link.tell(message(seq));
  const rest = take(reader, 129);
  for (const after of [1, 101]) {
    await settle();
    const asked = gateway.link.last("history");
    assert.equal(asked.after, after);
    const messages = Array.from({ length: 100 }, (_, n) => message(after + 1 + n)).filter(({ seq }) => seq <= 130);
    gateway.link.tell({ type: "page", id: asked.id, messages, more: true });
  }
  assert.deepEqual(await rest, Array.from({ length: 129 }, (_, n) => n + 2));
  assert.equal(gateway.link.all("history").length, 2);
});

test("a room that is closed while a slow reader catches up ends it", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ buffer: 2 });
  const reader = room.messages();
  await gateway.seat();
  for (let seq = 1; seq <= 2; seq++) gateway.link.tell(message(seq));
  await take(reader, 1);
  for (let seq = 3; seq <= 9; seq++) gateway.link.tell(message(seq));
  const next = reader.next();
  await settle();
  assert.equal(gateway.link.all("history").length, 1);
  const closing = room.close();
  gateway.link.tell({ type: "close", code: 1000, reason: "ended" });
  await closing;
  assert.equal((await next).done, true);
});

test("what a slow reader can no longer get is told in the next message", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ buffer: 2 });
  const reader = room.messages();
  await gateway.seat();
  gateway.link.tell(message(1));
  await take(reader, 1);
  for (let seq = 2; seq <= 9; seq++) gateway.link.tell(message(seq));
  const next = reader.next();
  await settle();
  gateway.link.tell({ type: "page", id: gateway.link.last("history").id, messages: [message(6), message(7)], more: true });
  const { value } = await next;
  assert.deepEqual([value.seq, value.gap], [6, { why: "retention", after: 1, lost: 4 }]);
  assert.deepEqual(await take(reader, 3), [7, 8, 9]);
});

for (const [why, lost] of /** @type {const} */ ([["epoch", undefined], ["retention", 15]])) {
  test(`a log that does not go on (${why}) is told, and readers go on with what there is`, async (t) => {
    const gateway = new FakeGateway(t);
    const room = gateway.connect();
    /** @type {object[]} */
    const told = [];
    room.on("gap", (gap) => told.push({ gap }));
    room.on("back", (back) => told.push({ back }));
    const reader = room.messages();
    await gateway.seat();
    for (let seq = 1; seq <= 5; seq++) gateway.link.tell(message(seq));
    assert.deepEqual(await take(reader, 4), [1, 2, 3, 4]);
    gateway.link.drop();
    await pass(1_000);
    gateway.link.open();
    await settle();
    const first = why === "epoch" ? 1 : 21;
    gateway.welcome({ resumed: false, why, oldest: 11, position: { epoch: "e2", seq: first } });
    gateway.link.tell(message(first));
    gateway.link.tell({ type: "live", seq: first });
    await settle();
    const gap = { why, after: 5, ...(lost && { lost }) };
    const { value } = await reader.next();
    assert.deepEqual([value.seq, value.gap], [first, gap]);
    assert.deepEqual(told.map((it) => Object.keys(it)[0]), ["gap", "back"]);
    assert.deepEqual(told[0], { gap });
    assert.equal(room.position?.epoch, "e2");
  });
}

test("a hole is never silent, neither between messages nor before live", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  /** @type {object[]} */
  const gaps = [];
  room.on("gap", (gap) => gaps.push(gap));
  await gateway.seat();
  gateway.link.tell(message(1));
  gateway.link.tell(message(4));
  gateway.link.drop();
  await pass(500);
  await gateway.seat({ resumed: true, live: 6 });
  assert.deepEqual(gaps, [{ why: "hole", after: 1, lost: 2 }, { why: "hole", after: 4, lost: 2 }]);
});

test("a gap comes with the first message behind it, and with no other", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  /** @type {object[]} */
  const heard = [];
  room.on("message", ({ seq, gap }) => heard.push([seq, gap]));
  await gateway.seat();
  for (const seq of [1, 4, 5, 6, 9, 10]) gateway.link.tell(message(seq));
  const hole = (/** @type {number} */ after) => ({ why: "hole", after, lost: 2 });
  assert.deepEqual(heard, [[1, undefined], [4, hole(1)], [5, undefined], [6, undefined], [9, hole(6)], [10, undefined]]);
});

test("an empty room that is emptied again is no gap, and a new one is told when it is live", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  /** @type {object[]} */
  const gaps = [];
  room.on("gap", (gap) => gaps.push(gap));
  await gateway.seat();
  gateway.link.drop();
  await pass(500);
  await gateway.seat({ resumed: false, why: "epoch", oldest: 1, position: { epoch: "e2", seq: 0 } });
  assert.deepEqual(gaps, [{ why: "epoch", after: 0 }]);
});

test("reading ends when the room is closed, and when the reader says so", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const controller = new AbortController();
  const ended = room.messages({ signal: controller.signal }).next();
  await gateway.seat();
  controller.abort();
  assert.equal((await ended).done, true);
  const reader = room.messages();
  gateway.link.tell(message(1));
  const closing = room.close();
  gateway.link.tell({ type: "close", code: 1000, reason: "ended" });
  await closing;
  assert.deepEqual(await take(reader, 1), [1], "what had come is still there");
  assert.equal((await reader.next()).done, true);
});

for (const how of /** @type {const} */ (["return", "throw"])) {
  test(`a reader ends at once by ${how}, though several calls of next wait`, async (t) => {
    const gateway = new FakeGateway(t);
    const room = gateway.connect();
    const reader = /** @type {AsyncGenerator<any>} */ (room.messages());
    /** @type {unknown[]} */
    const settled = [];
    const waiting = [1, 2].map((n) => reader.next().then(({ done }) => settled.push([n, done])));
    const error = new Error("enough");
    const ending = reader[how](error).then(({ done }) => settled.push([how, done]), (thrown) => settled.push([how, thrown]));
    await settle();
    assert.deepEqual(settled, [[1, true], [2, true], [how, how === "return" ? true : error]]);
    await Promise.all([...waiting, ending]);
    await gateway.seat();
    gateway.link.tell(message(1));
    assert.equal((await reader.next()).done, true);
    assert.deepEqual(await take(room.messages(), 1), [1], "others read on");
  });
}

test("calls of next that wait get the messages in the order of the calls, and return ends the rest", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const reader = /** @type {AsyncGenerator<any>} */ (room.messages());
  const calls = [1, 2, 3].map(() => reader.next());
  for (const seq of [1, 2]) gateway.link.tell(message(seq));
  await settle();
  const ended = await reader.return(undefined);
  const results = await Promise.all(calls);
  assert.deepEqual([...results.map(({ value, done }) => value?.seq ?? done), ended.done], [1, 2, true, true]);
});

test("a reader that is ended by another task ends its loop", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const reader = /** @type {AsyncGenerator<any>} */ (room.messages());
  /** @type {number[]} */
  const read = [];
  const loop = (async () => {
    for await (const { seq } of reader) read.push(seq);
  })();
  gateway.link.tell(message(1));
  await settle();
  await reader.return(undefined);
  await loop;
  assert.deepEqual(read, [1]);
});

test("a reader that ends while it waits for a page takes the request back, and holds no position", async (t) => {
  const gateway = new FakeGateway(t);
  const storage = new FakeStorage();
  const room = gateway.connect({ buffer: 2, save: storage });
  const reader = /** @type {AsyncGenerator<any>} */ (room.messages());
  const controller = new AbortController();
  const other = room.messages({ signal: controller.signal });
  await gateway.seat();
  gateway.link.tell(message(1));
  await take(reader, 1);
  await take(other, 1);
  for (let seq = 2; seq <= 9; seq++) gateway.link.tell(message(seq));
  const nexts = [reader.next(), other.next()];
  await settle();
  assert.equal(gateway.link.all("history").length, 2);
  gateway.link.drop(); // so that no answer comes, for as long as it takes
  await settle();
  const ended = reader.return(undefined);
  controller.abort();
  await settle();
  assert.deepEqual((await Promise.all([...nexts, ended])).map(({ done }) => done), [true, true, true]);
  await pass(1_000);
  await gateway.seat({ resumed: true, live: 9 });
  assert.equal(gateway.link.all("history").length, 0, "nobody asks any more");
  await pass(1_000);
  assert.match([...storage.values()].join(), /"seq":9/);
});

test("a reader that is ended before it began ends", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const reader = /** @type {AsyncGenerator<any>} */ (room.messages());
  assert.deepEqual(await reader.return(undefined), { done: true, value: undefined });
  assert.equal((await reader.next()).done, true);
  const controller = new AbortController();
  controller.abort();
  assert.equal((await room.messages({ signal: controller.signal }).next()).done, true);
});

test("a room that goes on after its end has readers again", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  gateway.link.tell({ type: "close", code: 4508, reason: "taken_over" });
  gateway.link.drop(4508);
  await settle();
  assert.equal(room.status.state, "closed");
  room.resume();
  await gateway.seat();
  const reader = room.messages();
  const next = reader.next();
  gateway.link.tell(message(1));
  assert.equal((await next).value?.seq, 1);
  await reader.return?.();
});

test("a listener's mistake is its own", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  /** @type {string[]} */
  const heard = [];
  const silence = room.on("message", () => {
    throw new Error("mine");
  });
  const off = room.on("message", ({ data }) => heard.push(data));
  await gateway.seat();
  const reports = mock.method(globalThis, "queueMicrotask", () => {}).mock;
  gateway.link.tell(message(1));
  assert.throws(/** @type {any} */ (reports.calls[0].arguments[0]), /mine/, "it is reported like any other");
  reports.restore();
  silence();
  off();
  gateway.link.tell(message(2));
  assert.deepEqual(heard, ["m1"]);
  assert.equal(room.status.state, "live");
});
