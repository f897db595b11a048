// What the client says: only what the gateway takes, only what JSON can say, and each call for itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import { decode } from "../src/framing.js";
import { connect } from "../src/index.js";
import { FakeGateway, pass, settle } from "./fakes.js";

/** @typedef {import("../dormouse.js").Room} Room */

const CUT = "hi 😀".slice(0, 4);
/** @param {number} levels @returns {unknown} */
const deep = (levels) => (levels === 0 ? "bottom" : [deep(levels - 1)]);
const LIMITS = { message: 65_536, attachment: 16_384, name: 64, tags: 10, tag: 256, key: 64, ephemeral_keys: 8, in_flight: 64 };

/** Calls that the gateway would refuse, with the part of the message that says where and why. */
const REFUSED = /** @type {[string, (room: Room) => unknown, RegExp][]} */ (/** @type {any} */ ([
  ["a cut emoji in data", (/** @type {Room} */ room) => room.publish({ text: CUT }), /^data\.text .*surrogate/],
  ["a cut emoji in a list", (/** @type {Room} */ room) => room.publish({ lines: ["a", [CUT]] }), /^data\.lines\.1\.0 /],
  ["a cut emoji as data", (/** @type {Room} */ room) => room.publish(CUT), /^data /],
  ["a cut emoji in an object that holds a text", (/** @type {Room} */ room) => room.publish({ a: new String(CUT) }), /^data\.a /],
  ["the other half", (/** @type {Room} */ room) => room.publish("😀".slice(1)), /^data /],
  ["a cut emoji in a property's name", (/** @type {Room} */ room) => room.publish({ a: { [CUT]: 1 } }), /^data\.a\.hi /],
  ["halves that only meet in the JSON", (/** @type {Room} */ room) => room.publish({ "\ud83d": "\ude00" }), /surrogate/],
  ["a cut emoji from toJSON", (/** @type {Room} */ room) => room.publish({ toJSON: () => CUT }), /^data /],
  ["40 levels", (/** @type {Room} */ room) => room.publish(deep(40)), /^data\.0.* levels/],
  ["one level too many", (/** @type {Room} */ room) => room.publish(deep(32)), / levels/],
  ["a cut emoji in a direct message", (/** @type {Room} */ room) => room.publish({ text: CUT }, { to: { sid: "s1" } }), /^data\.text /],
  ["a cut emoji in a key", (/** @type {Room} */ room) => room.publish(1, { key: CUT }), /^key /],
  ["a cut emoji in a key of bytes", (/** @type {Room} */ room) => room.publish(Uint8Array.of(1), { key: CUT }), /^key /],
  ["a key that is a number", (/** @type {Room} */ room) => room.publish(1, /** @type {any} */ ({ key: 7 })), /^key cannot be 7/],
  ["a cut emoji in to", (/** @type {Room} */ room) => room.publish(1, { to: { tag: CUT } }), /^to\.tag /],
  ["a sid that is none", (/** @type {Room} */ room) => room.publish(1, { to: { sid: "bob" } }), /^to cannot be/],
  ["a to of two", (/** @type {Room} */ room) => room.publish(1, { to: /** @type {any} */ ({ user: "a", tag: "b" }) }), /^to cannot be/],
  ["a to of none", (/** @type {Room} */ room) => room.publish(1, { to: /** @type {any} */ ({}) }), /^to cannot be/],
  ["a to that is a text", (/** @type {Room} */ room) => room.publish(1, { to: /** @type {any} */ ("s1") }), /^to cannot be/],
  ["a cut emoji in an attachment", (/** @type {Room} */ room) => room.set({ attachment: { mood: CUT } }), /^attachment\.mood /],
  ["an attachment 40 levels deep", (/** @type {Room} */ room) => room.set({ attachment: deep(40) }), / levels/],
  ["a cut emoji in a tag", (/** @type {Room} */ room) => room.set({ tags: ["a", CUT] }), /^tags\.1 /],
  ["tags that are no texts", (/** @type {Room} */ room) => room.set({ tags: /** @type {any} */ (["a", 1]) }), /^tags cannot be/],
  ["tags that are no list", (/** @type {Room} */ room) => room.set({ tags: /** @type {any} */ ("a") }), /^tags cannot be/],
  ["a page of both directions", (/** @type {Room} */ room) => room.history({ before: 7, after: 3 }), /^after cannot be \[7,3\]/],
  ["a page before a fraction", (/** @type {Room} */ room) => room.history({ before: 1.5 }), /^before cannot be 1.5/],
  ["a page after less than nothing", (/** @type {Room} */ room) => room.history({ after: -1 }), /^after cannot be -1/],
  ["a page of a text's length", (/** @type {Room} */ room) => room.history({ limit: /** @type {any} */ ("9") }), /^limit cannot be "9"/],
  ["members after no sid", (/** @type {Room} */ room) => room.listMembers({ after: "bob" }), /^after cannot be "bob"/],
  ["members of a fraction", (/** @type {Room} */ room) => room.listMembers({ limit: 0.5 }), /^limit cannot be/],
]));

for (const isLive of [true, false]) {
  test(`a call that the gateway would refuse rejects alone and is not sent, said ${isLive ? "online" : "offline"}`, async (t) => {
    const gateway = new FakeGateway(t);
    const room = gateway.connect();
    if (isLive) await gateway.seat();
    const good = room.publish("good");
    for (const [name, act, why] of REFUSED) {
      await assert.rejects(async () => act(room), { name: "DormouseError", code: "bad_request", message: why }, name);
    }
    if (!isLive) await gateway.seat();
    const frames = gateway.link.heard.filter(({ type }) => type !== "ping");
    assert.deepEqual(frames.map(({ type, data }) => data ?? type), ["hello", "good"]);
    gateway.link.tell({ type: "ok", id: gateway.link.last("publish").id, seq: 1, dup: false });
    assert.deepEqual(await good, { seq: 1, dup: false });
    assert.equal(room.status.state, "live");
  });

  test(`an ephemeral that the gateway would refuse throws at once, said ${isLive ? "online" : "offline"}`, async (t) => {
    const gateway = new FakeGateway(t);
    const room = gateway.connect();
    if (isLive) await gateway.seat({ limits: LIMITS });
    for (const [key, data, why] of /** @type {[any, unknown, RegExp][]} */ ([
      [CUT, 1, /^key /], ["k", { a: CUT }, /^data\.a /], ["k", deep(40), / levels/], [7, 1, /^key cannot be 7/], [undefined, 1, /^key cannot be/], [null, 1, /^key cannot be/],
    ])) {
      assert.throws(() => room.ephemeral(key, data), { code: "bad_request", message: why });
    }
    assert.throws(() => room.ephemeral("k", new Map()), TypeError);
    if (isLive) assert.throws(() => room.ephemeral("k".repeat(65), 1), { code: "too_large", message: /^key .*65.*64/ });
    await pass(1_000);
    assert.deepEqual(gateway.link.all("ephemeral"), []);
  });
}

test("connect throws at once for what the gateway would refuse, and nothing is opened", async (t) => {
  const gateway = new FakeGateway(t);
  for (const [options, why] of /** @type {[any, RegExp][]} */ ([
    [{ name: CUT }, /^name .*surrogate/], [{ name: 7 }, /^name cannot be 7/],
    [{ attachment: { a: [CUT] } }, /^attachment\.a\.0 /], [{ attachment: { [CUT]: 1 } }, /^attachment\.hi /], [{ attachment: deep(40) }, / levels/],
    [{ tags: [CUT] }, /^tags\.0 /], [{ tags: "mod" }, /^tags cannot be/], [{ tags: [7] }, /^tags cannot be/],
    [{ token: CUT }, /^token /], [{ token: 7 }, /^token cannot be/], [{ session: CUT }, /^session /], [{ session: {} }, /^session cannot be/],
    [{ since: 7 }, /^since cannot be/], [{ since: "7" }, /^since cannot be/], [{ since: { epoch: "e1" } }, /^since cannot be/], [{ since: { epoch: "e1", seq: -1 } }, /^since cannot be/], [{ since: { epoch: CUT, seq: 1 } }, /^since\.epoch /],
    [{ history: -1 }, /^history cannot be/], [{ history: "all" }, /^history cannot be/], [{ history: 0.5 }, /^history cannot be/],
    [{ presence: "none" }, /^presence cannot be/], [{ watch: 1 }, /^watch cannot be/],
  ])) {
    assert.throws(() => gateway.connect(options), { name: "DormouseError", code: "bad_request", message: why });
  }
  assert.throws(() => gateway.connect({ attachment: { friends: new Set() } }), { name: "TypeError", message: /^attachment\.friends .*Set/ });
  await pass(1_000);
  assert.deepEqual(gateway.links, []);
});

test("what is right in a hello is said, and what is null or undefined is absent", async (t) => {
  const gateway = new FakeGateway(t);
  const since = { seq: 3, epoch: "e1", more: "ignored" };
  const attachment = { born: new Date(0), at: undefined };
  gateway.connect(/** @type {any} */ ({ name: "ada 😀", attachment, tags: ["a", "b \"\\"], history: 0, presence: "full", watch: true, session: null, since, token: undefined }));
  attachment.born = /** @type {any} */ (1n); // what is changed later changes nothing
  await settle();
  gateway.link.open();
  await settle();
  const { session, ...hello } = gateway.link.last("hello");
  assert.equal(session ?? undefined, undefined);
  assert.deepEqual(hello, {
    type: "hello", name: "ada 😀", attachment: { born: "1970-01-01T00:00:00.000Z" }, tags: ["a", "b \"\\"], history: 0, presence: "full", watch: true, since: { epoch: "e1", seq: 3 },
  });
});

test("a token that the gateway could not read is never sent: the application is asked again", async (t) => {
  const gateway = new FakeGateway(t);
  const tokens = [CUT, /** @type {any} */ ({ token: "x" }), "good"];
  const room = gateway.connect({ token: () => tokens.shift() });
  for (const why of [/^token .*surrogate/, /^token cannot be/]) {
    await settle();
    const { error } = room.status;
    assert.equal(error?.code, "no_token");
    assert.match(String(/** @type {any} */ (error?.cause).message), why);
    await pass(room.status.retryIn ?? 0);
  }
  await gateway.seat();
  assert.deepEqual([room.status.state, gateway.link.last("hello").token, gateway.links.length], ["live", "good", 1]);
});

test("a renewed token that the gateway could not read is not sent, and the old one stays", async (t) => {
  const gateway = new FakeGateway(t);
  const jwt = () => `x.${btoa(JSON.stringify({ exp: Date.now() / 1_000 + 300 }))}.x`;
  const first = jwt();
  const tokens = [first, CUT];
  gateway.connect({ token: () => tokens.shift() ?? jwt() });
  await gateway.seat({ heartbeat: 3_600_000 });
  gateway.link.tell({ type: "pong", id: gateway.link.last("ping").id });
  await pass(241_000);
  assert.deepEqual([tokens.length, gateway.link.all("token")], [0, []]);
  gateway.link.drop();
  await pass(1_000);
  await gateway.seat();
  assert.equal(gateway.link.last("hello").token, first);
});

/** Values that are no JSON, by the name that the error has for them. */
const NO_JSON = /** @type {[string, () => unknown][]} */ ([
  ["Blob", () => new Blob(["x"])], ["Map", () => new Map([[1, 2]])], ["Set", () => new Set([1])], ["WeakMap", () => new WeakMap()],
  ["SharedArrayBuffer", () => new SharedArrayBuffer(1)], ["Error", () => new TypeError("x")], ["Error", () => Object.assign(new Error("x"), { code: 1 })],
  ["Promise", () => Promise.resolve("forgotten")], ["Function", () => () => 1], ["Symbol", () => Symbol("x")], ["BigInt", () => 1n], ["RegExp", () => /x/],
  ["NaN", () => NaN], ["Infinity", () => Infinity], ["-Infinity", () => -Infinity], ["Headers", () => new Headers()], ["URLSearchParams", () => new URLSearchParams("a=b")],
]);
/** Bytes are data, but not in data. */
const BYTES = /** @type {[string, () => unknown][]} */ ([
  ["ArrayBuffer", () => new ArrayBuffer(1)], ["Uint8Array", () => Uint8Array.of(1)], ["Float64Array", () => Float64Array.of(1)], ["DataView", () => new DataView(new ArrayBuffer(1))],
]);

test("what is no JSON is a TypeError that says where it stands and what it is", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  for (const [name, make] of NO_JSON) {
    const says = (/** @type {string} */ where) => ({ name: "TypeError", message: new RegExp(`^${where} is no JSON: ${name}$|${name}`) });
    await assert.rejects(room.publish(make()), says("data"), name);
  }
  for (const [name, make] of [...NO_JSON, ...BYTES]) {
    const says = (/** @type {string} */ where) => ({ name: "TypeError", message: new RegExp(`^${where} is no JSON: ${name}$|serialize a BigInt`) });
    await assert.rejects(room.publish({ a: { b: make() } }), says("data\\.a\\.b"), name);
    await assert.rejects(room.publish([0, make()], { to: { sid: "s1" } }), says("data\\.1"), name);
    await assert.rejects(room.set({ attachment: { x: make() } }), says("attachment\\.x"), name);
    assert.throws(() => room.ephemeral("k", { x: make() }), says("data\\.x"), name);
  }
  const cycle = { name: "cycle", in: /** @type {unknown[]} */ ([]) };
  cycle.in.push(cycle);
  await assert.rejects(room.publish(cycle), TypeError);
  await assert.rejects(room.publish(undefined), { name: "TypeError", message: /^data is no JSON: Undefined/ });
  await assert.rejects(room.publish([undefined]), { name: "TypeError", message: /^data\.0 / });
  await assert.rejects(room.publish(new Array(3)), { name: "TypeError", message: /^data\.0 / });
  await pass(100);
  assert.deepEqual([gateway.link.all("publish"), gateway.link.all("set"), gateway.link.all("ephemeral"), room.waiting], [[], [], [], 0]);
});

test("what JSON can say is said as JSON.stringify says it", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  class Point {
    x = 1;
    #hidden = 2;
    get sum() {
      return this.x + this.#hidden;
    }
  }
  const shared = { a: 1 };
  const values = [
    null, true, -0, 1e21, 1.5, "", "😀 \ud83d\ude00 \\ud83d \u2028 \0", [], {}, [[null]], { a: undefined, b: 1 }, new Point(), Object.create(null),
    new Date(0), { at: new Date(0), url: new URL("http://a/b") }, { toJSON: (/** @type {string} */ key) => `as ${key}` }, [shared, shared], deep(31),
    { __proto__: null, "a b": { "": 1 } }, JSON.parse('{"__proto__":1}'), "x".repeat(60_000),
  ];
  for (const data of values) room.publish(data).catch(assert.fail);
  for (let n = 0; n < values.length; n++) {
    await settle();
    const { id, data } = gateway.link.all("publish")[n];
    // `toJSON` of the data itself is given the name of the field.
    assert.deepEqual(data, JSON.parse(JSON.stringify({ data: values[n] })).data);
    gateway.link.tell({ type: "ok", id, seq: n + 1, dup: false });
  }
});

test("bytes are copied when they are published, of a view only what it shows", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat();
  const { buffer } = Uint8Array.of(1, 2, 3, 4);
  for (const data of [buffer, new Uint8Array(buffer, 1, 2), new DataView(buffer, 3)]) room.publish(data).catch(() => {});
  new Uint8Array(buffer).fill(9);
  await settle();
  const said = gateway.link.heard.filter((body) => body instanceof Uint8Array).map(decode);
  assert.deepEqual(said.map(({ type, data }) => [type, ...data]), [["publish", 1, 2, 3, 4], ["publish", 2, 3], ["publish", 4]]);
});

/** Calls over each limit, and at it: the limit's name, the size, and the call that has it. */
const SIZES = /** @type {[keyof typeof LIMITS, (n: number) => (room: Room) => Promise<any>, number?][]} */ ([
  ["key", (n) => (room) => room.publish(1, { key: "é".repeat(n / 2) })],
  ["attachment", (n) => (room) => room.set({ attachment: { a: "é".repeat((n - 8) / 2) } })],
  ["tags", (n) => (room) => room.set({ tags: Array(n).fill("t") })],
  ["tag", (n) => (room) => room.set({ tags: ["t", "é".repeat(n / 2)] })],
  ["message", (n) => (room) => room.publish("x".repeat(n - 63), { key: "k".repeat(20) })],
]);

test("limits that the gateway has told are kept by the client, each to the byte", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat({ limits: LIMITS });
  /** @type {Error[]} */
  const failures = [];
  const failed = (/** @type {Error} */ error) => void failures.push(error);
  for (const [name, make] of SIZES) {
    const step = ["tags", "message"].includes(name) ? 1 : 2;
    if (name !== "message") make(LIMITS[name])(room).catch(failed);
    await assert.rejects(make(LIMITS[name] + step)(room), { code: "too_large", message: new RegExp(`^${name} .*${LIMITS[name]}`) });
  }
  room.publish("", { key: "k" }).catch(failed);
  await settle();
  const empty = gateway.link.last("publish");
  const spare = LIMITS.message - JSON.stringify({ ...empty, id: empty.id + 1 }).length;
  room.publish("x".repeat(spare), { key: "k" }).catch(failed);
  await settle();
  assert.equal(JSON.stringify(gateway.link.last("publish")).length, LIMITS.message);
  assert.deepEqual([gateway.link.all("publish").length, gateway.link.all("set").length], [3, 3]);
  assert.deepEqual([room.status.state, failures], ["live", []]);
});

test("what waits when the limits are told is held against them, and rejected alone", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  const over = SIZES.map(([name, make]) => make(LIMITS[name] + 100)(room).catch((error) => error.code));
  const good = room.publish("good");
  await gateway.seat({ limits: LIMITS });
  assert.deepEqual(await Promise.all(over), SIZES.map(() => "too_large"));
  assert.deepEqual(gateway.link.all("publish").map(({ data }) => data), ["good"]);
  assert.deepEqual(gateway.link.all("set"), []);
  gateway.link.tell({ type: "ok", id: gateway.link.last("publish").id, seq: 1, dup: false });
  await good;
  gateway.link.drop();
  await pass(1_000);
  await gateway.seat({ limits: LIMITS });
  assert.deepEqual([room.status.state, gateway.link.last("hello").attachment, gateway.link.last("hello").tags], ["live", undefined, undefined]);
});

test("a gateway that tells only the size of a message refuses the rest itself, and the room goes on", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect({ attachment: "small" });
  await gateway.seat({ limits: { message: 65_536 } });
  const large = room.set({ attachment: "x".repeat(20_000) });
  await settle();
  gateway.link.tell({ type: "error", id: gateway.link.last("set").id, code: "too_large", reason: "an attachment may have 16384 bytes" });
  await assert.rejects(large, { code: "too_large" });
  gateway.link.drop();
  await pass(1_000);
  await gateway.seat({ resumed: true });
  assert.equal(gateway.link.last("hello").attachment, "small", "a hello that is refused would end the room");
});

test("as many ephemeral keys are used in a session as the gateway takes, and no more unanswered requests", async (t) => {
  const gateway = new FakeGateway(t);
  const room = gateway.connect();
  await gateway.seat({ limits: { ...LIMITS, ephemeral_keys: 2, in_flight: 9, ephemeral_rate: 10 } });
  for (const key of ["a", "b"]) room.ephemeral(key, 1);
  await pass(1_000);
  assert.throws(() => room.ephemeral("c", 1), { code: "too_many_keys" });
  const before = gateway.link.all("ephemeral").length;
  for (let n = 0; n < 100; n++) {
    room.ephemeral("a", n);
    room.ephemeral("b", n);
    await pass(10);
  }
  const told = gateway.link.all("ephemeral").length - before;
  assert.ok(told >= 8 && told <= 10, `${told} in a second`);
  for (let n = 0; n < 20; n++) {
    room.publish(n).catch(() => {});
    room.history().catch(() => {});
  }
  await settle();
  assert.deepEqual([gateway.link.all("publish").length, gateway.link.all("history").length], [5, 5]);
  gateway.link.drop();
  await pass(1_000);
  await gateway.seat({ limits: { ...LIMITS, ephemeral_keys: 2 } });
  room.ephemeral("c", 1);
  await pass(100);
  assert.equal(gateway.link.last("ephemeral").key, "c", "another session has keys of its own");
});

test("the client's own way in refuses the same", () => {
  assert.throws(() => connect("lobby", { gateway: "http://localhost:1", name: CUT, WebSocket: EventTarget }), { code: "bad_request" });
});
