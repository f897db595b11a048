// The end of a room, at every moment that it may come: nothing connects after it, and nothing stays.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mock, test } from "node:test";
import { FakeGateway, FakeStorage, pass, settle } from "./fakes.js";

/** @typedef {import("../dormouse.js").Room} Room */

/** What an application may do in the turn of `connect`, and the state that is right afterwards. */
const ONE_TURN = /** @type {[string, (room: Room) => void, string][]} */ ([
  ["close", (room) => void room.close(), "closed"],
  ["close twice", (room) => void (room.close(), room.close()), "closed"],
  ["close, then resume", (room) => void (room.close(), room.resume()), "closed"],
  ["close, then use", (room) => void (room.close(), room.use("webtransport")), "closed"],
  ["close, then pause", (room) => void (room.close(), room.pause()), "closed"],
  ["pause, then close", (room) => void (room.pause(), room.close()), "closed"],
  ["pause", (room) => room.pause(), "paused"],
  ["resume, then pause", (room) => void (room.resume(), room.pause()), "paused"],
]);

for (const [name, act, state] of ONE_TURN) {
  test(`nothing is asked or opened when the turn of connect does: ${name}`, async (t) => {
    const gateway = new FakeGateway(t);
    const room = gateway.connect();
    act(room);
    await pass(60_000);
    assert.equal(room.status.state, state);
    assert.equal(asked(), 0);
    assert.deepEqual(gateway.links, []);
    if (state !== "closed") return;
    await room.close();
    await assert.rejects(room.ready, { code: "closed" });
    await assert.rejects(room.publish("hi"), { code: "closed" });
    assert.equal((await room.messages().next()).done, true);
    room.resume();
    await pass(1_000);
    assert.deepEqual([room.status.state, asked()], ["closed", 0], "a close is for good");
  });
}

test("paused and resumed in the turn of connect, a room connects once", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  room.pause();
  room.resume();
  await gateway.seat();
  assert.deepEqual([room.status.state, asked(), gateway.links.length], ["live", 1, 1]);
});

test("a room with a signal that is aborted already, or in the same turn, never connects", async (t) => {
  const gateway = new FakeGateway(t);
  const controller = new AbortController();
  const late = gateway.connect({ signal: controller.signal });
  controller.abort();
  const early = gateway.connect({ signal: controller.signal });
  await pass(1_000);
  assert.deepEqual([early.status.state, late.status.state, asked()], ["closed", "closed", 0]);
});

test("of five rooms that are closed in one turn and one that stays, one connects", async (t) => {
  const gateway = new FakeGateway(t);
  for (let n = 0; n < 5; n++) gateway.connect().close();
  const room = gateway.connect();
  await gateway.seat();
  assert.deepEqual([room.status.state, asked(), gateway.links.length], ["live", 1, 1]);
});

test("a room that is closed before it connects leaves the saved seat to the next", async (t) => {
  const gateway = new FakeGateway(t);
  const storage = new FakeStorage();
  storage.setItem("dormouse.room http://localhost:4433/lobby", JSON.stringify({ session: "earlier", since: { epoch: "e1", seq: 7 } }));
  gateway.connect({ save: storage }).close();
  gateway.connect({ save: storage });
  const other = gateway.connect({ save: storage });
  await settle();
  for (const link of gateway.links) link.open();
  await settle();
  assert.deepEqual(gateway.links.map((link) => link.last("hello").session), ["earlier", undefined]);
  assert.deepEqual(gateway.links[0].last("hello").since, { epoch: "e1", seq: 7 });
  assert.equal(other.session, undefined, "a seat is taken by one room");
});

test("a close ends what a room is doing: asking where the gateway is", async (t) => {
  const gateway = new FakeGateway(t);
  /** @type {AbortSignal | undefined} */
  let signal;
  let answers = () => {};
  mock.method(globalThis, "fetch", (/** @type {URL} */ _, /** @type {RequestInit} */ init) => {
    signal = init.signal ?? undefined;
    return new Promise((resolve) => (answers = () => resolve({ ok: true, json: async () => gateway.discovery })));
  });
  const room = gateway.connect();
  await settle();
  assert.equal(signal?.aborted, false);
  await within(room.close());
  assert.equal(signal?.aborted, true, "the request does not stay");
  answers(); // as a fetch that is not stopped would
  await pass(60_000);
  assert.deepEqual([room.status.state, gateway.links.length], ["closed", 0]);
});

test("a close ends what a room is doing: opening links", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ transport: "auto" });
  await settle();
  await pass(200);
  assert.deepEqual(gateway.links.map(({ transport }) => transport), ["webtransport", "websocket"]);
  await within(room.close());
  assert.deepEqual(gateway.links.map(({ closedWith }) => closedWith), ["none", "none"]);
  for (const link of gateway.links) link.open();
  await settle();
  assert.deepEqual([room.status.state, gateway.links.flatMap(({ heard }) => heard)], ["closed", []]);
});

test("a pause while links are being opened closes them, and a resume opens others", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await settle();
  room.pause();
  gateway.link.open();
  await settle();
  assert.deepEqual([room.status.state, gateway.link.closedWith, gateway.link.heard], ["paused", "none", []]);
  room.resume();
  await gateway.seat();
  assert.deepEqual([room.status.state, gateway.links.length], ["live", 2]);
});

test("a close ends what a room is doing: asking for a token, whose renewal is then not waited for", async (t) => {
  const gateway = new FakeGateway(t);
  let gives = (/** @type {string} */ _) => {};
  let asks = 0;
  const room = gateway.connect({ token: () => (asks++, new Promise((resolve) => (gives = resolve))) });
  await settle();
  await within(room.close());
  gives(`x.${btoa(JSON.stringify({ exp: Date.now() / 1_000 + 300 }))}.x`);
  await pass(600_000);
  assert.deepEqual([room.status.state, asks, asked(), gateway.links.length], ["closed", 1, 0, 0]);
});

test("a close ends what a room is doing: waiting for the answer to its hello, or for the next try", async (t) => {
  const gateway = new FakeGateway(t);
  const greeting = gateway.connect();
  await settle();
  gateway.link.open();
  await settle();
  assert.equal(gateway.link.all("hello").length, 1);
  await within(greeting.close());
  assert.equal(gateway.link.closedWith, 1000, "which gives the seat up, if there is one by now");
  gateway.isReachable = false;
  const waiting = gateway.connect();
  await settle();
  assert.equal(waiting.status.state, "reconnecting");
  await within(waiting.close());
  const before = asked();
  await pass(60_000);
  assert.deepEqual([waiting.status.state, asked() - before], ["closed", 0]);
});

const MOMENTS = /** @type {const} */ (["connecting", "live", "reconnecting", "paused"]);
for (const moment of MOMENTS) {
  test(`a listener may close the room when it is told: ${moment}`, async (t) => {
    const gateway = new FakeGateway(t);
    const room = gateway.connect();
    /** @type {string[]} */
    const told = [];
    /** @type {Promise<void> | undefined} */
    let closing;
    room.on("status", ({ state, retryIn }) => {
      told.push(state);
      if (state === moment && (state !== "reconnecting" || retryIn !== undefined)) closing ??= room.close();
    });
    if (moment === "reconnecting") gateway.isReachable = false;
    if (moment === "paused") room.pause();
    await settle();
    if (moment === "live") {
      await gateway.seat();
      gateway.link.tell({ type: "close", code: 1000, reason: "ended" });
    }
    await within(/** @type {any} */ (closing));
    assert.equal(told.at(-1), "closed");
    assert.equal(told.filter((state) => state === "closed").length, 1);
    const before = asked();
    await pass(60_000);
    assert.deepEqual([room.status.state, asked() - before], ["closed", 0]);
    if (moment === "connecting") assert.deepEqual([before, gateway.links.length], [0, 0]);
  });
}

test("a listener may resume the room when it is told of the pause, and pause it when it is live", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const off = room.on("status", ({ state }) => state === "paused" && room.resume());
  room.pause();
  await gateway.seat();
  assert.equal(room.status.state, "live");
  off();
  room.on("back", () => room.pause());
  gateway.link.drop();
  await pass(500);
  await gateway.seat({ resumed: true });
  await pass(1_000);
  assert.deepEqual([room.status.state, gateway.link.closedWith], ["paused", "none"]);
});

test("who resumes a room that the gateway closed may publish in the same turn", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ name: "ada" });
  await gateway.seat();
  gateway.link.tell({ type: "close", code: 4507, reason: "kicked" });
  await settle();
  await assert.rejects(room.publish("too late"), { code: "kicked" });
  room.resume();
  const said = room.publish("here again");
  await gateway.seat();
  gateway.link.tell({ type: "ok", id: gateway.link.last("publish").id, seq: 1, dup: false });
  assert.deepEqual(await said, { seq: 1, dup: false });
  gateway.link.tell({ type: "close", code: 4507, reason: "kicked" });
  await settle();
  await room.close();
  room.resume();
  await pass(1_000);
  assert.deepEqual([room.status.state, room.session, gateway.links.length], ["closed", undefined, 2]);
});

test("once a close has begun nothing more is taken, and a second close is the same", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const closing = room.close();
  assert.equal(room.close(), closing);
  await assert.rejects(room.publish("too late"), { code: "closed" });
  assert.equal(gateway.link.all("bye").length, 1);
  gateway.link.tell({ type: "close", code: 1000, reason: "ended" });
  await closing;
});

test("a closed room leaves no listener on the signal that it was given", async (t) => {
  const gateway = new FakeGateway(t);
  const { signal } = new AbortController();
  let listeners = 0;
  mock.method(signal, "addEventListener", () => listeners++);
  mock.method(signal, "removeEventListener", () => listeners--);
  const room = gateway.connect({ signal });
  assert.equal(listeners, 1);
  await room.close();
  assert.equal(listeners, 0);
});

test("a program that closes its room, or pauses it, in the turn of connect ends by itself", async () => {
  // Nothing listens there, and nothing has to: a program that connects would go on trying.
  const program = spawn(process.execPath, ["--input-type=module", "-e", `
    import { connect } from ${JSON.stringify(new URL("../src/index.js", import.meta.url))};
    class WebSocket extends EventTarget {}
    const options = { gateway: "http://127.0.0.1:9", WebSocket };
    connect("lobby", options).close();
    connect("lobby", options).pause();
    connect("lobby", { ...options, signal: AbortSignal.abort() });
    await connect("lobby", options).close();
    console.log("closed");
  `], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  program.stdout.on("data", (text) => (output += text));
  const late = setTimeout(() => program.kill(), 20_000);
  const [code] = await once(program, "close");
  clearTimeout(late);
  assert.deepEqual([code, output], [0, "closed\n"]);
});

/** How often the gateway was asked how to reach it. */
function asked() {
  return /** @type {any} */ (globalThis.fetch).mock.callCount();
}

/** Fails when a promise waits for more than its turn. @template T @param {Promise<T>} promise */
async function within(promise) {
  let isSettled = false;
  promise.finally(() => (isSettled = true));
  await settle();
  assert.ok(isSettled, "it waits for nothing");
  return promise;
}
