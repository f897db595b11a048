// Talking: two transports, naps, restarts, and ways in that are closed.

import assert from "node:assert/strict";
import { discoveryOf } from "./discovery.mjs";
import { Gateway, blackHole } from "./gateway.mjs";
import { freePort } from "./ports.mjs";
import { annAndBob, open, seqs, test, texts, visit } from "./stage.mjs";
import { until } from "./until.mjs";

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

test("a long message fits the frames of either transport", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  for (const [page, letter] of [[ann, "眠"], [bob, "鼠"]]) {
    const text = letter.repeat(7_000); // 21,000 bytes: a length of four bytes on WebTransport
    await page.say(text);
    await Promise.all([ann.sees(text), bob.sees(text)]);
  }
});

test("a page without a choice comes by WebTransport and writes its place into the URL", async (t) => {
  const gateway = await Gateway.start(t);
  const page = await open(t);
  // A busy machine may need longer than the usual head start; this is not a test of its speed.
  const { policy, ...rest } = await discoveryOf(gateway);
  await page.hears({ ...rest, policy: { ...policy, head_start_ms: 3_000 } });
  await page.goto(gateway.url);
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
  const port = await freePort(); // where nobody listens
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
  await until("WebTransport had been tried", () => knocks.size === 1);

  for (const expected of [2, 2]) {
    await rejoin(page, "websocket");
    await rejoin(page, "auto");
    assert.equal((await page.state()).transport, "websocket");
    await until(`WebTransport had been tried ${expected} times`, () => knocks.size === expected);
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

  await bob.hears(null); // Bob stays away for longer than Ann
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

  await bob.hears(undefined);
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
