// The demo page in a real browser, against the built binary.
//
//     node --experimental-websocket --test-reporter=spec tests/browser/chat.mjs [--update-docs]
//
// DORMOUSE_BIN and CHROMIUM name other binaries than the usual ones. Pictures of the page go to
// tests/browser/screenshots/; with --update-docs the README's picture is taken anew, too.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { Browser } from "./browser.mjs";
import { Gateway, blackHole, closedPort } from "./gateway.mjs";

let browser;
before(async () => (browser = await Browser.launch()));
after(() => browser?.close());

/** A page of its own in `room`; the test fails at its end if anything went wrong in there. */
async function visit(t, gateway, { room = "meadow", name, transport = "auto", discovery }) {
  const page = await browser.open(t);
  if (discovery) await page.rewriteDiscovery(discovery);
  await page.goto(`${gateway.url}/?${new URLSearchParams({ room, name, transport })}`);
  return page;
}

/** Ann over WebTransport and Bob over WebSocket, both seated. */
async function annAndBob(t, gateway) {
  const ann = await visit(t, gateway, { name: "ann", transport: "webtransport" });
  const bob = await visit(t, gateway, { name: "bob", transport: "websocket" });
  await Promise.all([ann.live("webtransport"), bob.live("websocket")]);
  return { ann, bob };
}

const texts = async (page) => (await page.messages()).map(({ text }) => text);
const seqs = async (page) => (await page.messages()).map(({ seq }) => seq);

test("two pages chat over two transports", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);

  await ann.say("good evening");
  await bob.sees("good evening");
  await bob.say("and to you\nover there");
  await ann.sees("and to you\nover there");

  for (const page of [ann, bob]) {
    await page.until("nothing was pending", () => !document.querySelector("[data-pending]"));
    assert.deepEqual(await texts(page), ["good evening", "and to you\nover there"]);
    assert.deepEqual(await seqs(page), [1, 2]);
    assert.deepEqual(page.faults, []);
  }
  assert.deepEqual((await ann.messages()).map(({ own }) => own), [true, false]);
});

test("a page without a choice comes by WebTransport and writes its place into the URL", async (t) => {
  const gateway = await Gateway.start(t);
  const page = await browser.open(t, gateway.url);
  await page.live("webtransport");
  const query = new URLSearchParams(await page.evaluate(() => location.search));
  assert.equal(query.get("room"), "lobby");
  assert.match(query.get("name"), /^[a-z]+-[a-z]+$/);
  assert.deepEqual(page.faults, []);
});

test("a room sleeps with its pages connected, and a message wakes it for both", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await ann.say("sleep well");
  await bob.sees("sleep well");

  await gateway.hibernate("meadow");
  assert.equal((await gateway.room("meadow")).state, "asleep");
  for (const page of [ann, bob]) {
    await page.roomIs("asleep");
    assert.equal((await page.state()).state, "live");
  }

  await bob.say("are you awake?");
  for (const page of [ann, bob]) {
    await page.sees("are you awake?");
    await page.roomIs("awake");
    assert.deepEqual(await texts(page), ["sleep well", "are you awake?"]);
  }
});

test("a room left alone falls asleep by itself", async (t) => {
  const gateway = await Gateway.start(t, { "--room-sleep-after": "300ms" });
  const { ann, bob } = await annAndBob(t, gateway);
  await ann.say("so quiet here");
  await bob.sees("so quiet here");
  for (const page of [ann, bob]) await page.roomIs("asleep");
  assert.equal((await gateway.room("meadow")).state, "asleep");
  assert.equal((await gateway.room("meadow")).seats, 2);
});

test("who reloads sees the history, whether the room sleeps or not", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  const said = ["one", "two", "three"];
  for (const text of said) await ann.say(text);
  await bob.sees("three");

  await bob.reload();
  await bob.live("websocket");
  assert.deepEqual(await texts(bob), said);

  await gateway.hibernate("meadow");
  await ann.reload();
  await ann.live("webtransport");
  assert.deepEqual(await texts(ann), said);
  assert.equal((await gateway.room("meadow")).state, "asleep", "reading the history wakes nobody");
  assert.equal((await gateway.room("meadow")).seats, 2, "a reload keeps its seat");
});

test("where UDP is closed the page falls back to WebSocket", async (t) => {
  const gateway = await Gateway.start(t);
  const port = await closedPort();
  const page = await visit(t, gateway, { name: "cyd", discovery: elsewhere(port) });
  await page.live("websocket");
  await page.say("no UDP here");
  await page.sees("no UDP here");
});

test("where UDP is swallowed the page takes WebSocket, and after two losses stays there", async (t) => {
  const gateway = await Gateway.start(t);
  const { port, knocks } = await blackHole(t);
  const page = await visit(t, gateway, { name: "cyd", discovery: elsewhere(port) });
  await page.live("websocket");
  assert.equal(knocks.size, 1);

  for (const expected of [2, 2]) {
    await rejoin(page, "websocket");
    await rejoin(page, "auto");
    assert.equal((await page.state()).transport, "websocket");
    assert.equal(knocks.size, expected);
  }
});

test("who insists on WebTransport where UDP is swallowed is told, and can change their mind", async (t) => {
  const gateway = await Gateway.start(t);
  const { port } = await blackHole(t);
  const discovery = (gateway) => ({
    ...elsewhere(port)(gateway),
    policy: { ...gateway.policy, ready_timeout_ms: 300 },
  });
  const page = await visit(t, gateway, { name: "cyd", transport: "webtransport", discovery });
  await page.until("the page said why", () => /UDP may be blocked/.test(document.querySelector("#notice:not([hidden])")?.textContent));
  await page.choose("websocket");
  await page.live("websocket");
});

test("after a restart the pages come back, having missed nothing and said nothing twice", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await ann.say("before");
  await bob.sees("before");

  await bob.rewriteDiscovery(() => null); // Bob stays away for longer than Ann
  await gateway.stop();
  for (const page of [ann, bob]) {
    await page.until("the page was reconnecting", () => document.documentElement.dataset.state === "reconnecting");
  }
  await ann.say("meanwhile");
  await ann.until("it was pending", () => document.querySelector("[data-pending]"));
  await gateway.start();
  await ann.live("webtransport");
  await ann.sees("meanwhile");
  await ann.say("after");
  await ann.sees("after");
  assert.deepEqual(await texts(bob), ["before"]);

  await bob.rewriteDiscovery(null);
  await bob.live("websocket");
  for (const page of [ann, bob]) {
    await page.until("nothing was pending", () => !document.querySelector("[data-pending]"));
    assert.deepEqual(await texts(page), ["before", "meanwhile", "after"]);
    assert.deepEqual(await seqs(page), [1, 2, 3]);
    assert.deepEqual(page.faults, []);
  }
});

test("a change of transport misses nothing", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await ann.say("one");
  await bob.sees("one");
  await bob.choose("webtransport");
  await bob.live("webtransport");
  await ann.choose("websocket");
  await ann.say("two");
  await ann.live("websocket");
  await bob.sees("two");
  await ann.sees("two");
  for (const page of [ann, bob]) assert.deepEqual(await seqs(page), [1, 2]);
  assert.equal((await gateway.room("meadow")).seats, 2);
});

test("the page looks right in every state, narrow and wide, by day and by night", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await photograph(bob, "empty");

  const conversation = [
    [ann, "Is anyone still up?"],
    [bob, "Just me. The room dozed off a while ago, but my socket never noticed."],
    [ann, "Mine neither, and I came by QUIC."],
    [ann, "So who wakes it?"],
    [bob, "Whoever speaks next. It took 310 microseconds, history and all."],
    [ann, "Good night, then 🌙"],
  ];
  for (const [page, text] of conversation) {
    await page.say(text);
    await Promise.all([ann.sees(text), bob.sees(text)]);
  }
  await photograph(ann, "chat");

  await gateway.hibernate("meadow");
  await ann.roomIs("asleep");
  await photograph(ann, "asleep");
  if (process.argv.includes("--update-docs")) {
    await ann.look({ width: 1180, height: 720, scheme: "dark", scale: 2 });
    await save(new URL("../../docs/room.png", import.meta.url), await ann.picture());
  }

  await gateway.stop();
  await ann.until("the page was reconnecting", () => !document.querySelector("#notice").hidden);
  await photograph(ann, "reconnecting");
});

async function photograph(page, name) {
  for (const width of [390, 1280]) {
    for (const scheme of ["light", "dark"]) {
      await page.look({ width, height: 800, scheme });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${name} is ${wide} px too wide at ${width} px`);
      await save(new URL(`screenshots/${name}-${width}-${scheme}.png`, import.meta.url), await page.picture());
    }
  }
}

async function save(url, bytes) {
  await mkdir(new URL(".", url), { recursive: true });
  await writeFile(url, bytes);
}

/** What the gateway says of itself, with WebTransport at another port. */
function elsewhere(port) {
  return (gateway) => ({ ...gateway, webtransport: { ...gateway.webtransport, url: `https://127.0.0.1:${port}` } });
}

/** Chooses a transport and waits until the page has come in again that way. */
async function rejoin(page, choice) {
  await page.evaluate(() => {
    window.left = false;
    new MutationObserver(() => (window.left ||= document.documentElement.dataset.state !== "live")).observe(
      document.documentElement, { attributes: true },
    );
  });
  await page.choose(choice);
  await page.until("the page was in again", () => window.left && document.documentElement.dataset.state === "live");
}
