// What is published: in order, once, and never without an answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeGateway, pass, settle } from "./fakes.js";

/** How each of some promises stands. @param {Promise<any>[]} promises */
function outcomes(promises) {
  const later = settle().then(() => "waits");
  return Promise.all(promises.map((it) => Promise.race([it.then((value) => value.seq ?? value.reached, (error) => error.code), later])));
}

test("what is published before there is a connection is sent in order once there is", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const sent = ["a", "b", "c"].map((data) => room.publish(data));
  await gateway.seat();
  assert.deepEqual(gateway.link.all("publish").map(({ data }) => data), ["a", "b", "c"]);
  const keys = gateway.link.all("publish").map(({ key }) => key);
  assert.equal(new Set(keys).size, 3);
  assert.ok(keys.every((key) => key.length <= 64));
  for (const { id } of gateway.link.all("publish")) gateway.link.tell({ type: "ok", id, seq: id, dup: false });
  assert.ok((await outcomes(sent)).every((seq) => seq > 0));
});

test("what a lost link left unanswered is sent again before anything newer, byte for byte", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const data = { text: "one" };
  const first = room.publish(data);
  data.text = "changed afterwards";
  const second = room.publish({ text: "two" });
  await settle();
  const before = gateway.link.all("publish");
  gateway.link.tell({ type: "ok", id: before[0].id, seq: 1, dup: false });
  gateway.link.drop();
  await settle();
  const third = room.publish({ text: "three" });
  await pass(500);
  await gateway.seat({ resumed: true });
  assert.deepEqual(gateway.link.all("publish")[0], before[1]);
  assert.deepEqual(gateway.link.all("publish").map((frame) => frame.data.text), ["two", "three"]);
  assert.equal(before[0].data.text, "one");
  assert.deepEqual(await outcomes([first, second, third]), [1, "waits", "waits"]);
});

test("a publish settles once, whatever is answered how often", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const answer = room.publish("hi");
  await settle();
  const { id } = gateway.link.last("publish");
  gateway.link.tell({ type: "ok", id, seq: 7, dup: false });
  gateway.link.tell({ type: "error", id, code: "bad_request", reason: "no" });
  gateway.link.tell({ type: "ok", id, seq: 8, dup: true });
  assert.deepEqual(await answer, { seq: 7, dup: false });
  assert.equal(room.waiting, 0);
});

test("a refusal says why, and one with retry_after is tried again by itself before anything newer", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const sent = ["a", "b"].map((data) => room.publish(data));
  await settle();
  const [a, b] = gateway.link.all("publish");
  gateway.link.tell({ type: "error", id: a.id, code: "rate_limited", retry_after: 700, reason: "too fast" });
  gateway.link.tell({ type: "error", id: b.id, code: "rate_limited", retry_after: 700, reason: "too fast" });
  const c = room.publish("c");
  await pass(699);
  assert.equal(gateway.link.all("publish").length, 2, "nothing newer overtakes it");
  await pass(1);
  assert.deepEqual(gateway.link.all("publish").slice(2), [a], "one at a time until it goes well");
  gateway.link.tell({ type: "ok", id: a.id, seq: 1, dup: false });
  await settle();
  assert.deepEqual(gateway.link.all("publish").slice(3).map(({ data }) => data), ["b", "c"]);
  gateway.link.tell({ type: "error", id: b.id, code: "bad_request", reason: "never" });
  gateway.link.tell({ type: "ok", id: gateway.link.last("publish").id, seq: 2, dup: false });
  assert.deepEqual(await outcomes([...sent, c]), [1, "bad_request", 2]);
});

test("a full outbox refuses, and says before that it is full", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ outbox: 2 });
  /** @type {object[]} */
  const told = [];
  room.on("outbox", (outbox) => told.push(outbox));
  const sent = [1, 2, 3].map((data) => room.publish(data));
  assert.deepEqual(await outcomes(sent), ["waits", "waits", "outbox_full"]);
  assert.deepEqual(told, [{ waiting: 1, full: false }, { waiting: 2, full: true }]);
});

test("four megabytes wait, and what comes then is refused", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const told = await outcomes(Array.from({ length: 75 }, () => room.publish("x".repeat(60_000))));
  assert.deepEqual(told, [...Array(70).fill("waits"), ...Array(5).fill("outbox_full")]);
});

test("every byte and every place is given back, however a publish settles", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const large = "x".repeat(60_000);
  // Nine megabytes in all: over twice what may wait.
  for (let round = 0; round < 150; round++) {
    const end = new AbortController();
    const publishing = room.publish(large, { signal: end.signal });
    const settled = publishing.then(() => "ok", (error) => (error instanceof DOMException ? error.name : error.code));
    await settle();
    const { id } = gateway.link.last("publish");
    const how = ["ok", "forbidden", "AbortError"][round % 3];
    if (how === "ok") gateway.link.tell({ type: "ok", id, seq: round + 1 });
    else if (how === "forbidden") gateway.link.tell({ type: "error", id, code: "forbidden", reason: "no" });
    else end.abort();
    assert.equal(await settled, how, `round ${round}`);
    assert.equal(room.waiting, 0);
  }
  const before = gateway.link.all("publish").length;
  for (let n = 0; n < 100; n++) room.publish(n).catch(() => {});
  await settle();
  assert.equal(gateway.link.all("publish").length - before, 32, "the window is as wide as it was");
});

test("no more is on its way than the gateway lets be unanswered", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  for (let n = 0; n < 100; n++) room.publish(n).catch(() => {});
  for (let n = 0; n < 20; n++) room.history().catch(() => {});
  await settle();
  assert.equal(gateway.link.all("publish").length, 32);
  assert.equal(gateway.link.all("history").length, 8);
});

test("links that come and go leave the window as wide as it was", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ outbox: 1_000 });
  for (let n = 0; n < 3; n++) {
    await gateway.seat();
    for (let m = 0; m < 40; m++) room.publish("psst", { to: { sid: "s2" } }).catch(() => {});
    await settle();
    assert.equal(gateway.link.all("publish").length, 32);
    gateway.link.drop();
    await pass(2_000);
  }
});

test("what is too large is never sent, whenever that is known", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const early = room.publish("x".repeat(70_000));
  early.catch(() => {});
  await gateway.seat();
  const late = room.publish("鼠".repeat(30_000));
  assert.deepEqual(await outcomes([early, late]), ["too_large", "too_large"]);
  assert.equal(gateway.link.all("publish").length, 0);
});

test("what cannot be said as JSON is its author's to know", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await assert.rejects(room.publish(1n), TypeError);
  assert.equal(room.waiting, 0);
});

test("a direct message is never sent twice: lost on the way it is given up, before that it waits", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const whisper = () => room.publish("psst", { to: { sid: "s2" } });
  const early = whisper();
  await gateway.seat();
  assert.equal(gateway.link.last("publish").key, undefined);
  gateway.link.tell({ type: "ok", id: gateway.link.last("publish").id, reached: 1 });
  const onItsWay = whisper();
  await settle();
  gateway.link.drop();
  assert.deepEqual(await outcomes([early, onItsWay]), [1, "lost"]);
  const busy = whisper();
  await pass(500);
  await gateway.seat();
  assert.equal(gateway.link.all("publish").length, 1);
  gateway.link.tell({ type: "error", id: gateway.link.last("publish").id, code: "recipient_busy", retry_after: 100, reason: "later" });
  assert.deepEqual(await outcomes([busy]), ["recipient_busy"]);
});

test("questions outlive their link, and who closes the room is told so", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const page = room.history({ before: 7 });
  const change = room.set({ attachment: { color: "red" } });
  await settle();
  gateway.link.drop();
  await pass(500);
  await gateway.seat();
  assert.equal(gateway.link.last("hello").attachment, undefined, "the gateway has not taken it yet");
  assert.deepEqual(gateway.link.last("set").attachment, { color: "red" });
  const { id, before } = gateway.link.last("history");
  assert.equal(before, 7);
  gateway.link.tell({ type: "page", id, messages: [{ seq: 6, from: { sid: "s1" }, data64: "AQI=" }], more: true });
  const { messages, more } = await page;
  assert.deepEqual([messages[0].seq, messages[0].data, messages[0].own, more], [6, Uint8Array.of(1, 2), true, true]);
  gateway.link.tell({ type: "ok", id: gateway.link.last("set").id });
  await change;
  gateway.link.drop();
  await pass(500);
  await gateway.seat();
  assert.deepEqual(gateway.link.last("hello").attachment, { color: "red" });
  const waiting = room.publish("too late?");
  const closing = room.close();
  gateway.link.tell({ type: "close", code: 1000, reason: "ended" });
  await closing;
  assert.deepEqual(await outcomes([waiting, room.publish("much too late")]), ["closed", "closed"]);
  assert.equal(gateway.link.closedWith, 1000);
});

test("a publish can be taken back", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const controller = new AbortController();
  const answer = room.publish("hm", { signal: controller.signal });
  controller.abort();
  await assert.rejects(answer, { name: "AbortError" });
  await gateway.seat();
  assert.equal(gateway.link.all("publish").length, 0);
});

test("the same key is the application's word that it is the same publish", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  room.publish("a", { key: "order-7" }).catch(() => {});
  await gateway.seat();
  assert.equal(gateway.link.last("publish").key, "order-7");
});

test("of each ephemeral only the newest counts, two keys every 40 ms, and the last is never lost", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  room.ephemeral("cursor", "nobody is there");
  await gateway.seat();
  for (let n = 0; n < 50; n++) {
    room.ephemeral("cursor", n);
    room.ephemeral("typing", n);
    room.ephemeral("gaze", n);
    await pass(10);
  }
  await pass(100);
  const told = gateway.link.all("ephemeral");
  assert.ok(told.length <= 30, `${told.length} in 0.6 s`);
  for (const key of ["cursor", "typing", "gaze"]) {
    const values = told.filter((frame) => frame.key === key).map(({ data }) => data);
    assert.equal(values.at(-1), 49);
    assert.ok(values.length >= 5, `${key} has its turn`);
    assert.deepEqual(values, [...values].sort((a, b) => a - b));
  }
  assert.throws(() => {
    for (let n = 0; n < 9; n++) room.ephemeral(`key ${n}`, 1);
  }, { code: "too_many_keys" });
});
