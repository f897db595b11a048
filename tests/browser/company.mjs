// Being together: who is here, cursors, whispers, what was said before, what was missed.

import assert from "node:assert/strict";
import { Gateway } from "./gateway.mjs";
import { Guest } from "./guest.mjs";
import { annAndBob, seqs, test, texts, visit } from "./stage.mjs";

const MANY = { "--session-publish-burst": "1000", "--session-publish-rate": "1000/s" };
const numbered = (word, n) => Array.from({ length: n }, (_, i) => `${word} ${i + 1}`);

test("everybody sees who is here, in which colour, and who is away", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  for (const page of [ann, bob]) await page.meets("ann", "bob");
  assert.deepEqual(await ann.people(), ["ann", "bob"], "oneself comes first");
  assert.deepEqual(await bob.people(), ["bob", "ann"]);

  const cyd = await Guest.join(t, gateway, { name: "cyd", color: "url(javascript:evil)" });
  const dan = await Guest.join(t, gateway, { name: "dan", color: "tomato" });
  for (const page of [ann, bob]) await page.meets("ann", "bob", "cyd", "dan");
  assert.equal(await ann.text("header .count"), "4 here");
  const colourOf = (page, sid) =>
    page.evaluate((sid) => document.querySelector(`#people [data-sid="${sid}"]`).style.getPropertyValue("--color"), sid);
  assert.equal(await colourOf(ann, dan.sid), "tomato");
  assert.match(await colourOf(ann, cyd.sid), /^oklch/, "a stranger's word is no colour by itself");

  await bob.click('#colours input[value="#9c36b5"]');
  await ann.until("bob had another colour", () => document.querySelector("#people li:not([data-own])").style.getPropertyValue("--color") === "#9c36b5");

  cyd.leave({ lost: true });
  await ann.shows(`#people [data-sid="${cyd.sid}"][data-away]`);
  assert.equal(await ann.text("header .count"), "3 here", "who is away is not here");
  dan.leave();
  await ann.until("dan was gone", (sid) => !document.querySelector(`#people [data-sid="${sid}"]`), dan.sid);
  for (const page of [ann, bob]) assert.deepEqual(page.faults, []);
});

test("cursors and typing cross the transports, wake nobody, and fade", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await Promise.all([ann.meets("ann", "bob"), bob.meets("ann", "bob")]);
  await ann.say("hush");
  await bob.sees("hush");
  await gateway.hibernate("meadow");
  await ann.wave(0.25, 0.5);
  await bob.seesCursor("ann", 0.25, 0.5);
  await bob.wave(0.75, 0.125);
  await ann.seesCursor("bob", 0.75, 0.125);
  await bob.evaluate(() => document.querySelector("#text").focus());
  await bob.type("hm");
  await ann.until("bob was seen typing", () => document.querySelector("#typing").textContent === "bob is typing…");
  assert.equal((await gateway.room("meadow")).state, "asleep");

  await ann.shows(".cursor:not([data-still])");
  await ann.until("bob's cursor faded", () => document.querySelector(".cursor[data-still]"));
  await bob.press("Enter");
  await ann.sees("hm");
  await ann.until("bob had said it", () => document.querySelector("#typing").textContent === "");
  await bob.point(5, 5);
  await ann.until("bob's cursor was gone", () => !document.querySelector(".cursor"));
  for (const page of [ann, bob]) assert.deepEqual(page.faults, []);
});

test("a cursor is told thirty times a second at most, its last place always", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await Promise.all([ann.meets("ann", "bob"), bob.meets("ann", "bob")]);
  await bob.evaluate(() => {
    const send = WebSocket.prototype.send;
    window.told = [];
    WebSocket.prototype.send = function (data) {
      if (JSON.parse(data).key === "cursor") window.told.push(performance.now());
      return send.call(this, data);
    };
  });
  for (let step = 0; step <= 60; step++) await bob.wave(step / 100, 0.5);
  await ann.seesCursor("bob", 0.6, 0.5);
  const told = await bob.evaluate(() => window.told);
  assert.ok(told.length >= 2);
  const gaps = told.slice(1).map((at, i) => at - told[i]);
  assert.ok(Math.min(...gaps) >= 30, `gaps of ${gaps.map(Math.round)} ms`);
});

test("a whisper reaches one, is nobody's position, and is kept nowhere", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  const cyd = await visit(t, gateway, { name: "cyd" });
  await cyd.live();
  await ann.meets("ann", "bob", "cyd");
  await ann.say("one");
  await bob.sees("one");

  await ann.evaluate(() => Array.from(document.querySelectorAll("#people button"), (b) => b).find((b) => /bob/.test(b.textContent)).click());
  await ann.shows("#whisper");
  await ann.say("just for you");
  const heard = (page) => page.until("the whisper was shown", () => document.querySelector("[data-whisper]")?.lastChild.textContent === "just for you");
  await Promise.all([heard(ann), heard(bob)]);
  await ann.press("Escape");
  await ann.until("ann spoke to all again", () => document.querySelector("#whisper").hidden);
  await ann.say("two");
  for (const page of [ann, bob, cyd]) {
    await page.sees("two");
    assert.deepEqual(await seqs(page), [1, 2]);
    assert.deepEqual(page.faults, []);
  }
  assert.equal(await cyd.evaluate(() => document.querySelector("[data-whisper]")), null);
});

test("who scrolls back finds everything that was said, and stays where they read", async (t) => {
  const gateway = await Gateway.start(t, MANY);
  const guest = await Guest.join(t, gateway, { name: "cyd" });
  const said = numbered("line", 230);
  await guest.say(...said);
  await gateway.hibernate("meadow");
  for (const transport of ["websocket", "webtransport"]) {
    const page = await visit(t, gateway, { name: "ann", transport });
    await page.live(transport);
    await page.sees("line 230");
    assert.equal((await seqs(page))[0], 131);
    const above = await page.evaluate(() => {
      document.querySelector(".scroller").scrollTop = 0;
      return document.querySelector('[data-seq="131"]').getBoundingClientRect().top;
    });
    await page.until("an earlier page was there", () => document.querySelector('[data-seq="130"]'));
    const then = await page.evaluate(() => document.querySelector('[data-seq="131"]').getBoundingClientRect().top);
    // Only the name over the line may be gone, now that the line before it is there.
    assert.ok(Math.abs(then - above) < 40, `the page jumped from ${above} to ${then}`);
    await page.until("the beginning was there", () => {
      document.querySelector(".scroller").scrollTop = 0;
      return document.querySelector("#earlier").textContent === "The beginning of the room";
    });
    assert.deepEqual(await texts(page), said);
    assert.deepEqual(await seqs(page), said.map((_, i) => i + 1));
    assert.deepEqual(page.faults, []);
  }
  assert.equal((await gateway.room("meadow")).state, "asleep", "reading wakes nobody");
});

test("who pulls the plug misses what is said, then nothing", async (t) => {
  const gateway = await Gateway.start(t, MANY);
  const { ann, bob } = await annAndBob(t, gateway);
  await ann.say("all here?");
  await bob.sees("all here?");
  await Promise.all([ann, bob].map((page) => page.click("#unplug")));
  for (const page of [ann, bob]) await page.shows('html[data-state="reconnecting"][data-unplugged]');
  const guest = await Guest.join(t, gateway, { name: "cyd" });
  await guest.say(...numbered("meanwhile", 12));
  await bob.say("said into the dark");
  await bob.shows("[data-pending]");
  for (const page of [ann, bob]) {
    await page.live();
    await page.sees("said into the dark");
    // Ann may have come after bob's word, which she then missed as well.
    assert.match(await page.text(".mark"), page === bob ? /^12 missed, 0 lost in \d+\.\d s away$/ : /^1[23] missed, 0 lost/);
    assert.deepEqual(await texts(page), ["all here?", ...numbered("meanwhile", 12), "said into the dark"]);
    assert.equal(await page.evaluate(() => document.querySelectorAll(".mark").length), 1);
    assert.deepEqual(page.faults, []);
  }
  await ann.meets("ann", "bob", "cyd");
});

test("what does not come is counted as lost", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await ann.say("one");
  await bob.sees("one");
  await bob.evaluate(() => {
    const listen = WebSocket.prototype.addEventListener;
    WebSocket.prototype.addEventListener = function (type, hear) {
      listen.call(this, type, (event) => {
        if (!/"text":"swallowed"/.test(event.data)) hear(event);
      });
    };
  });
  await bob.click("#unplug");
  await bob.shows("html[data-unplugged]");
  for (const text of ["two", "swallowed", "three"]) await ann.say(text);
  await bob.live();
  await bob.shows(".mark");
  assert.match(await bob.text(".mark"), /^2 missed, 1 lost/);
});

test("the page counts down to the room's sleep, and says how it woke", async (t) => {
  const gateway = await Gateway.start(t, { "--room-sleep-after": "1500ms" });
  const page = await visit(t, gateway, { name: "ann" });
  await page.live();
  await page.roomIs("asleep");
  await page.say("hello?");
  await page.roomIs("awake");
  await page.until("it counted", () => /^Sleeps in [12] s$/.test(document.querySelector("#countdown").textContent));
  assert.match(await page.text("#last-wake"), /^Last woken in \d+(\.\d)? (µs|ms) by a message$/);
  await page.roomIs("asleep");
  await page.until("it counted no more", () => document.querySelector("#dusk").hidden);
});

test("all rooms of this gateway are listed, and one leads to another", async (t) => {
  const gateway = await Gateway.start(t);
  await Guest.join(t, gateway, { room: "attic", name: "owl" });
  const ann = await visit(t, gateway, { name: "ann" });
  await ann.live();
  await ann.say("good evening");
  await ann.until("the list told both", () => {
    const told = Array.from(document.querySelectorAll("#rooms a"), (a) => a.textContent);
    return `${told}` === "atticasleep · 1,meadowawake · 1";
  });
  await ann.evaluate(() => (window.beforeLeaving = true));
  await ann.click('#rooms a[data-room="attic"]');
  await ann.until("ann was in the attic", () => !window.beforeLeaving && document.documentElement?.dataset.state === "live");
  await ann.meets("ann", "owl");
  await ann.until("nobody was left behind", () => document.querySelector('#rooms a[data-room="meadow"] .aside')?.textContent === "awake");
});

test("a store that takes no more is said, waited for, and what was said is kept once", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await ann.say("before");
  await bob.sees("before");
  await gateway.failWrites();
  await ann.say("is this thing on?");
  for (const page of [ann, bob]) await page.roomIs("degraded");
  await ann.shows("#notice");
  await ann.shows("[data-pending]");
  await gateway.failWrites(false);
  for (const page of [ann, bob]) {
    await page.sees("is this thing on?");
    await page.until("the room was well", () => document.documentElement.dataset.room !== "degraded" && document.querySelector("#notice").hidden);
    assert.deepEqual(await texts(page), ["before", "is this thing on?"]);
    assert.equal((await page.state()).state, "live", "no connection was dropped");
    assert.deepEqual(page.faults, []);
  }
});
