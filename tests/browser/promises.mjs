// What the client promises, in every browser and over both transports, from a page of another
// origin.

import assert from "node:assert/strict";
import { Client } from "./client.mjs";
import { Gateway } from "./gateway.mjs";
import { Guest } from "./guest.mjs";
import { Relay } from "./relay.mjs";
import { browsers, test } from "./stage.mjs";

const MANY = { "--session-publish-burst": "5000", "--session-publish-rate": "5000/s", "--room-publish-rate": "off" };
const BOTH = ["webtransport", "websocket"];
const other = (transport) => BOTH.find((it) => it !== transport);
const numbered = (word, n) => Array.from({ length: n }, (_, i) => `${word} ${i + 1}`);

/** A test in every browser, with a client over each transport. */
function everywhere(name, act) {
  for (const kind of ["chromium", "firefox"]) {
    for (const transport of BOTH) test(`${name} (${kind}, ${transport})`, (t) => act(t, browsers[kind], transport, kind));
  }
}

function inBoth(name, act) {
  for (const kind of ["chromium", "firefox"]) test(`${name} (${kind})`, (t) => act(t, browsers[kind], kind));
}

/** Ann is the client, behind a relay; bob sits beside the gateway and sees it all. */
async function annAndBob(t, browser, transport, { flags = MANY, ...options } = {}) {
  const gateway = await Gateway.start(t, flags);
  const relay = await Relay.start(t, gateway);
  const bob = await Guest.join(t, gateway, { name: "bob" });
  const ann = await Client.join(t, browser, relay, { name: "ann", transport, ...options });
  return { gateway, relay, ann, bob };
}

everywhere("history comes first, then what is said, in order and once each", async (t, browser, transport) => {
  const gateway = await Gateway.start(t, MANY);
  const bob = await Guest.join(t, gateway, { name: "bob" });
  await bob.say(...numbered("before", 3));
  const ann = await Client.join(t, browser, gateway, { name: "ann", transport });
  await ann.say("mine");
  assert.deepEqual(await ann.settled(1), [{ text: "mine", seq: 4, dup: false }]);
  await bob.say("his");
  assert.deepEqual(await ann.heard(5), [...numbered("before", 3), "mine", "his"]);
  assert.deepEqual(await ann.run((lab) => lab.heard.map(({ seq }) => seq)), [1, 2, 3, 4, 5]);
  assert.deepEqual(await ann.run((lab) => lab.heard.map(({ own }) => own)), [false, false, false, true, false]);
  assert.deepEqual(ann.page.faults, []);
});

everywhere("who is here, cursors, whispers, pages, attachments and a goodbye", async (t, browser, transport) => {
  const { ann, bob, gateway } = await annAndBob(t, browser, transport, { attachment: { color: "red" }, tags: ["mod"] });
  const cyd = await Client.join(t, browser, gateway, { name: "cyd", transport: other(transport) });
  await ann.until("ann knew all", ({ room }) => room.members.size === 3 && room.members.isWhole);
  const { sid } = await ann.status();
  const knows = await cyd.run(({ room }, sid) => room.members.get(sid), sid);
  assert.deepEqual([knows.name, knows.tags, knows.attachment], ["ann", ["mod"], { color: "red" }]);

  await ann.run(({ room }) => room.set({ attachment: { color: "blue" } }));
  await cyd.told("cyd heard of it", ({ type, updated }) => type === "presence" && updated[0]?.attachment.color === "blue");
  await ann.run((lab) => {
    const tell = () => lab.room.ephemeral("cursor", [1, 2]);
    tell();
    lab.jitter = setInterval(tell, 200); // it may be lost, after all
  });
  await cyd.told("ann's cursor was seen", ({ type, key, data }) => type === "ephemeral" && key === "cursor" && data[1] === 2);
  await ann.run((lab) => clearInterval(lab.jitter));

  const reached = await cyd.run(({ room }) => room.publish({ text: "psst" }, { to: { tag: "mod" } }));
  assert.deepEqual(reached, { reached: 1 });
  await ann.told("ann was whispered to", ({ type, data }) => type === "direct" && data.text === "psst");

  const bytes = await ann.run(async ({ room }) => {
    await room.publish(Uint8Array.of(1, 2, 3));
    const { messages, more } = await room.history({ limit: 1 });
    return [Array.from(messages[0].data), more];
  });
  assert.deepEqual(bytes, [[1, 2, 3], false]);
  await bob.say("one", "two");
  const page = await ann.run(({ room }) => room.history({ before: 3 }));
  assert.deepEqual([page.messages.map(({ seq }) => seq), page.more], [[1, 2], false]);
  const listed = await ann.run(({ room }) => room.listMembers({ limit: 2 }));
  assert.deepEqual([listed.members.length, listed.more], [2, true]);
  assert.ok((await ann.status()).rtt >= 0);

  await ann.run((lab) => lab.room.close());
  assert.equal(await ann.run((lab) => lab.end), "done");
  await cyd.told("ann was gone, not away", ({ type, left }, sid) => type === "presence" && left.includes(sid), sid);
  assert.equal(await ann.run((lab) => lab.room.publish("?").catch((error) => error.code)), "closed");
  for (const page of [ann.page, cyd.page]) assert.deepEqual(page.faults, []);
});

everywhere("a gateway that is killed costs nothing but time", async (t, browser, transport) => {
  const { gateway, ann } = await annAndBob(t, browser, transport);
  await ann.say(...numbered("before", 20));
  await ann.settled(20);
  const { sid } = await ann.status();
  await ann.say(...numbered("during", 20));
  await gateway.stop("SIGKILL");
  await ann.say(...numbered("after", 20));
  await gateway.start();
  const all = [...numbered("before", 20), ...numbered("during", 20), ...numbered("after", 20)];
  assert.deepEqual(await ann.heard(60), all);
  const settled = await ann.settled(60);
  assert.deepEqual(settled.map(({ seq }) => seq), all.map((_, i) => i + 1));
  assert.equal((await ann.status()).sid, sid, "the seat is the same");
  assert.deepEqual(await ann.all("gap"), []);
  assert.deepEqual(ann.page.faults, []);
});

everywhere("a drain is obeyed, and the next process goes on where this one stopped", async (t, browser, transport) => {
  const { gateway, ann } = await annAndBob(t, browser, transport);
  await ann.say("before");
  await ann.settled(1);
  await gateway.stop("SIGTERM");
  const told = await ann.told("ann was told to wait", ({ type, code, retryIn }) => type === "status" && code === "drain" && retryIn !== undefined);
  assert.equal(told.state, "reconnecting");
  await ann.say("meanwhile");
  await gateway.start();
  await ann.live(transport);
  assert.deepEqual(await ann.heard(2), ["before", "meanwhile"]);
  assert.deepEqual(ann.page.faults, []);
});

everywhere("what is published offline is said in order and once", async (t, browser, transport) => {
  const { relay, ann, bob } = await annAndBob(t, browser, transport);
  await ann.say("before");
  await ann.settled(1);
  relay.cut();
  await ann.say(...numbered("offline", 30));
  await ann.state("reconnecting");
  await bob.say("said meanwhile");
  assert.equal(await ann.run((lab) => lab.room.waiting), 30);
  relay.mend();
  await ann.page.evaluate(() => dispatchEvent(new Event("online"))); // which ends the wait
  assert.deepEqual(await ann.heard(32), ["before", "said meanwhile", ...numbered("offline", 30)]);
  assert.deepEqual((await ann.settled(31)).map(({ seq }) => seq), [1, ...numbered("", 30).map((_, i) => i + 3)]);
  assert.deepEqual(ann.page.faults, []);
});

everywhere("a gap of a thousand messages is closed in order", async (t, browser, transport) => {
  const { ann, bob } = await annAndBob(t, browser, transport);
  await bob.say("first");
  await ann.heard(1);
  await ann.run((lab) => lab.room.pause());
  await ann.state("paused");
  await bob.say(...numbered("missed", 1_000));
  await ann.run((lab) => lab.room.resume());
  assert.deepEqual(await ann.heard(1_001), ["first", ...numbered("missed", 1_000)]);
  const back = await ann.told("ann was back", ({ type }) => type === "back");
  assert.deepEqual([back.missed, back.lost], [1_000, 0]);
  assert.deepEqual(ann.page.faults, []);
});

everywhere("a second tab takes the seat over, and the first does not fight for it", async (t, browser, transport) => {
  const { relay, ann } = await annAndBob(t, browser, transport);
  await ann.say("from the first");
  await ann.settled(1);
  const { session, sid, position } = await ann.status();
  const second = await Client.join(t, browser, relay, { name: "ann", transport: other(transport), session, since: position });
  await ann.state("closed");
  assert.deepEqual([(await ann.status()).error, await ann.run((lab) => lab.end)], ["taken_over", "taken_over"]);
  assert.equal((await second.status()).sid, sid);
  assert.deepEqual(await second.heard(0), []);
  await ann.run((lab) => lab.room.resume());
  await ann.live(transport);
  assert.notEqual((await ann.status()).sid, sid);
  assert.equal((await second.status()).state, "live");
  assert.deepEqual([...ann.page.faults, ...second.page.faults], []);
});

everywhere("a reload takes the seat back and goes on behind the last message", async (t, browser, transport) => {
  const { relay, ann, bob } = await annAndBob(t, browser, transport, { save: true });
  const watcher = await Client.join(t, browser, relay, { name: "cyd", transport: "websocket" });
  await bob.say("one", "two");
  await ann.heard(2);
  const { sid } = await ann.status();
  await ann.until("the position was saved", () => Object.values({ ...localStorage }).some((text) => /"seq":2/.test(text)));
  await ann.page.reload();
  await bob.say("three");
  await ann.join(relay, { name: "ann", transport, save: true });
  assert.deepEqual(await ann.heard(1), ["three"]);
  assert.equal((await ann.status()).sid, sid);
  const left = (await watcher.all("presence")).flatMap(({ left }) => left);
  assert.deepEqual(left, [], "nobody was told of a leave");
});

everywhere("a room moves to the other transport with everything that is on its way", async (t, browser, transport) => {
  const { ann } = await annAndBob(t, browser, transport);
  const { sid } = await ann.status();
  await ann.say(...numbered("word", 50));
  await ann.run(({ room }, to) => room.use(to), other(transport));
  await ann.say(...numbered("more", 50));
  await ann.live(other(transport));
  assert.deepEqual(await ann.heard(100), [...numbered("word", 50), ...numbered("more", 50)]);
  assert.deepEqual((await ann.settled(100)).map(({ seq }) => seq), numbered("", 100).map((_, i) => i + 1));
  assert.equal((await ann.status()).sid, sid);
});

inBoth("where UDP is blocked it takes WebSocket, and after two losses remembers that", async (t, browser) => {
  const gateway = await Gateway.start(t);
  const relay = await Relay.start(t, gateway);
  relay.blockUdp();
  const ann = await Client.open(t, browser);
  for (const isTried of [true, true, false]) {
    const before = relay.knocks;
    await ann.knows(relay);
    await ann.join(relay, { name: "ann", transport: "auto" });
    assert.equal((await ann.status()).transport, "websocket");
    if (isTried) assert.notEqual(relay.knocks, before);
    await ann.run((lab) => lab.room.close());
    const heard = await ann.run(() => localStorage.length);
    assert.equal(heard, 1);
    await ann.page.reload();
  }
  const { count } = await ann.page.evaluate(() => JSON.parse(Object.values({ ...localStorage })[0]));
  assert.equal(count, 2, "the third did not try");
});

inBoth("QUIC that stalls in the middle of a session is left for a WebSocket, and nobody notices", async (t, browser) => {
  const gateway = await Gateway.start(t, MANY);
  const relay = await Relay.start(t, gateway);
  const bob = await Guest.join(t, gateway, { name: "bob" });
  const ann = await Client.open(t, browser);
  await ann.knows(relay, { waits: true });
  await ann.join(relay, { name: "ann", transport: "auto" });
  assert.equal((await ann.status()).transport, "webtransport");
  const { sid } = await ann.status();
  relay.blockUdp();
  await ann.say(...numbered("word", 10));
  await bob.say("said meanwhile");
  await ann.live("websocket");
  await ann.heard(11);
  assert.deepEqual((await ann.settled(10)).map(({ text }) => text), numbered("word", 10));
  assert.equal((await ann.status()).sid, sid);
  assert.deepEqual(await ann.all("gap"), []);
  const { count } = await ann.page.evaluate(() => JSON.parse(Object.values({ ...localStorage })[0]));
  assert.equal(count, 99, "remembered for a day");
  assert.deepEqual(ann.page.faults, []);
});

inBoth("a certificate that is renewed is taken like the one before", async (t, browser) => {
  const { gateway, ann } = await annAndBob(t, browser, "webtransport");
  await ann.say("before");
  await ann.settled(1);
  await gateway.renewCertificate();
  await ann.say("after");
  await ann.settled(2);
  assert.equal((await ann.status()).transport, "webtransport");
  assert.deepEqual(await ann.heard(2), ["before", "after"]);
});

inBoth("of a room that is deleted one is told, and that what comes next is another log", async (t, browser, kind) => {
  const { gateway, ann, bob } = await annAndBob(t, browser, kind === "chromium" ? "webtransport" : "websocket");
  await bob.say("old 1", "old 2");
  await ann.heard(2);
  await gateway.delete("meadow");
  await ann.state("closed");
  assert.deepEqual([(await ann.status()).error, await ann.run((lab) => lab.end)], ["room_deleted", "room_deleted"]);
  await ann.run((lab) => {
    lab.room.resume();
    lab.read();
  });
  await ann.live();
  const dan = await Guest.join(t, gateway, { name: "dan" });
  await dan.say("new 1");
  await ann.until("the new log was read", (lab) => lab.heard.some(({ data }) => data.text === "new 1"));
  const [{ seq, gap }] = await ann.run((lab) => lab.heard.filter(({ data }) => data.text === "new 1"));
  assert.deepEqual([seq, gap.why, gap.after], [1, "epoch", 2]);
  assert.deepEqual((await ann.all("gap")).map(({ why }) => why), ["epoch"]);
});

everywhere("a connection that went silent is found out at once when there is reason to doubt it", async (t, browser, transport, kind) => {
  const { relay, ann, bob } = await annAndBob(t, browser, transport);
  await ann.until("all was answered", ({ room }) => room.rtt !== undefined);
  relay.silence();
  await bob.say("said meanwhile");
  // Left alone it would take the heartbeat's 25 s to ask, longer than a test may take.
  await ann.page.evaluate((isJump) => {
    if (!isJump) return document.dispatchEvent(new Event("visibilitychange"));
    const now = Date.now;
    Date.now = () => now() + 3_600_000;
  }, kind === "chromium");
  await ann.told("the silence was noticed", ({ type, code }) => type === "status" && code === "stalled");
  relay.mend();
  assert.deepEqual(await ann.heard(1), ["said meanwhile"]);
  await ann.live(transport);
});

for (const transport of BOTH) {
  test(`a frozen tab wakes to all it has missed, even if its connection died (chromium, ${transport})`, async (t) => {
    const { gateway, ann, bob } = await annAndBob(t, browsers.chromium, transport);
    await bob.say("before");
    await ann.heard(1);
    await ann.page.evaluate(() => {
      for (const type of ["freeze", "resume"]) document.addEventListener(type, () => lab.told.push({ type }));
    });
    await ann.page.freeze();
    await bob.say("while frozen");
    await gateway.stop("SIGKILL");
    await gateway.start();
    const cyd = await Guest.join(t, gateway, { name: "cyd" });
    await cyd.say("and after");
    await ann.page.thaw();
    assert.deepEqual(await ann.heard(3), ["before", "while frozen", "and after"]);
    await ann.live(transport);
    assert.deepEqual(await ann.all("gap"), []);
    assert.deepEqual([(await ann.all("freeze")).length, (await ann.all("resume")).length], [1, 1]);
  });
}
