// How it looks: every state, narrow and wide, by day and by night; and whether it can be read and
// used without a mouse, and without anything that moves.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { faintTexts } from "./contrast.mjs";
import { Gateway } from "./gateway.mjs";
import { Guest } from "./guest.mjs";
import { annAndBob, test, visit } from "./stage.mjs";

test("the page looks right in every state, narrow and wide, by day and by night", async (t) => {
  const gateway = await Gateway.start(t, { "--room-sleep-after": "40s" });
  const { ann, bob } = await annAndBob(t, gateway);
  await Promise.all([ann, bob].map((page) => page.meets("ann", "bob")));
  await Guest.join(t, gateway, { room: "attic", name: "owl" });
  await Guest.join(t, gateway, { room: "burrow", name: "vole" });
  const quiet = await visit(t, gateway, { room: "a-new-room", name: "ann" });
  await quiet.live();
  await quiet.until("the list was there", () => document.querySelectorAll("#rooms li").length === 4);
  await photograph(quiet, "empty");

  const fern = await Guest.join(t, gateway, { name: "fern", color: "#0ca678" });
  const wren = await Guest.join(t, gateway, { name: "wren", color: "#e64980" });
  const lark = await Guest.join(t, gateway, { name: "lark", color: "#9c36b5" });
  const conversation = [
    [ann, "Is anyone still up?"],
    [bob, "Just me. The room dozed off a while ago, but my socket never noticed."],
    [ann, "Mine neither, and I came by QUIC."],
    [ann, "So who wakes it?"],
    [fern, "Whoever speaks next. Nothing we said is lost meanwhile."],
    [wren, "Good night, then."],
  ];
  await ann.click('#colours input[value="#e0a100"]');
  await bob.click('#colours input[value="#4263eb"]');
  for (const [who, text] of conversation) {
    await who.say(text);
    await Promise.all([ann.sees(text), bob.sees(text)]);
  }
  lark.leave({ lost: true });
  await ann.shows(`#people [data-sid="${lark.sid}"][data-away]`);
  await whileTheyMove(ann, [[bob, 0.62, 0.3], [fern, 0.86, 0.52], [wren, 0.5, 0.8]], () => photograph(ann, "busy"));

  await gateway.hibernate("meadow");
  await ann.roomIs("asleep");
  await photograph(ann, "asleep");

  await ann.click("#unplug");
  await ann.shows("html[data-unplugged]");
  await ann.say("Did you hear that?");
  await photograph(ann, "unplugged");
  await fern.say(...Array.from({ length: 12 }, (_, i) => `This is thing ${i + 1} that ann did not hear.`));
  await ann.live();
  await ann.sees("Did you hear that?");
  await ann.shows(".mark");
  await photograph(ann, "resumed");

  await ann.look({ width: 390, height: 800, scheme: "dark" });
  for (const sheet of ["company", "settings"]) {
    await ann.click(`[popovertarget="${sheet}"]`);
    await photograph(ann, sheet, [390]);
    await ann.press("Escape");
    await ann.until(`Escape closed ${sheet}`, (sheet) => !document.getElementById(sheet).matches(":popover-open"), sheet);
  }

  await gateway.failWrites();
  await ann.say("Is this being written down?");
  await ann.roomIs("degraded");
  await photograph(ann, "degraded");
  await gateway.failWrites(false);
  await ann.sees("Is this being written down?");

  await gateway.stop();
  await ann.until("the page was reconnecting", () => !document.querySelector("#notice").hidden && document.documentElement.dataset.state === "reconnecting");
  await photograph(ann, "reconnecting");
  assert.deepEqual(ann.faults, []);
});

if (process.argv.includes("--update-docs")) {
  test("the README shows the page as it is", async (t) => {
    const gateway = await Gateway.start(t, { "--room-sleep-after": "10s" });
    const { ann, bob } = await annAndBob(t, gateway);
    const fern = await Guest.join(t, gateway, { name: "fern", color: "#0ca678" });
    const wren = await Guest.join(t, gateway, { name: "wren", color: "#e64980" });
    const owl = await Guest.join(t, gateway, { room: "hayloft", name: "owl" });
    await Guest.join(t, gateway, { room: "attic", name: "moth" });
    await Guest.join(t, gateway, { room: "burrow", name: "vole" });
    await ann.click('#colours input[value="#e0a100"]');
    await bob.click('#colours input[value="#4263eb"]');
    const talk = async (...lines) => {
      for (const [who, text] of lines) {
        await who.say(text);
        await bob.sees(text);
      }
    };
    await talk(
      [bob, "Is anyone still up?"],
      [ann, "Me. The room fell asleep an hour ago, but my connection never noticed."],
      [fern, "Mine neither, and I came by WebSocket."],
      [wren, "So who wakes it?"],
      [bob, "You just did."],
    );
    await gateway.hibernate("meadow");
    await ann.click("#unplug");
    await ann.shows("html[data-unplugged]");
    await talk([fern, "Has ann lost her connection?"], [wren, "Looks like it. Go on, she will hear every word."]);
    await ann.live();
    await ann.shows(".mark");
    assert.match(await ann.text(".mark"), /^2 missed, 0 lost/);
    await owl.say("hoo");
    await talk([ann, "I did."]);
    await ann.sees("I did.");
    await ann.look({ width: 1240, height: 840, scheme: "dark", scale: 2 });
    await ann.until("the list was new", () => document.querySelectorAll('#rooms [data-state="awake"]').length === 2);
    await whileTheyMove(ann, [[bob, 0.62, 0.33], [fern, 0.74, 0.66], [wren, 0.38, 0.43]], async () =>
      save(new URL("../../docs/room.png", import.meta.url), await ann.picture()));
  });
}

test("the keyboard reaches everything, in the order in which it is read", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann } = await annAndBob(t, gateway);
  await ann.meets("ann", "bob");
  await ann.until("the list was there", () => document.querySelector("#rooms a"));
  await ann.evaluate(() => document.activeElement.blur());
  const order = [];
  for (let n = 0; n < 11; n++) {
    await ann.press("Tab");
    order.push(await ann.evaluate(() => {
      const { activeElement: it } = document;
      const outline = getComputedStyle(it.matches("[type=radio]") ? it.nextElementSibling : it).outlineWidth;
      const name = it.id || it.name || it.dataset.room || (it.matches("button") ? it.textContent : it.className);
      return parseFloat(outline) >= 2 ? name : `${name}, unseen`;
    }));
  }
  assert.deepEqual(order, [
    "transport", "unplug", "colour", "room", "name", "Go there", "scroller", "text", "Send", "bob", "meadow",
  ]);
});

test("nothing moves for those who do not like it", async (t) => {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway);
  await Promise.all([ann.meets("ann", "bob"), bob.meets("ann", "bob")]);
  const moving = () => ann.evaluate(() => document.getAnimations().map((it) => it.animationName ?? it.transitionProperty));
  await bob.wave(0.2, 0.2);
  await ann.seesCursor("bob", 0.2, 0.2);
  await bob.wave(0.8, 0.8);
  await ann.seesCursor("bob", 0.8, 0.8);
  assert.deepEqual(await moving(), []);
  await ann.look({ width: 1280, height: 800, scheme: "dark", motion: true });
  await ann.until("the stars twinkled for the others", () => document.getAnimations().length > 0);
});

/** Takes a picture while cursors stand in their places and have not faded. */
async function whileTheyMove(page, cursors, act) {
  const move = () => Promise.all(cursors.map(([who, x, y]) => (who instanceof Guest ? who.show("cursor", [x, y]) : who.wave(x, y))));
  await move();
  await page.until("all cursors were there", (n) => document.querySelectorAll(".cursor:not([data-still])").length === n, cursors.length);
  // A hand is never quite still, and a cursor that is, fades.
  const jitter = setInterval(() => {
    for (const [who, x, y] of cursors) {
      if (who instanceof Guest) who.show("cursor", [x, y]);
      else who.wave(x + Math.random() / 200, y).catch(() => {});
    }
  }, 400);
  await act().finally(() => clearInterval(jitter));
}

async function photograph(page, name, widths = [390, 1280]) {
  for (const width of widths) {
    for (const scheme of ["light", "dark"]) {
      await page.look({ width, height: 800, scheme });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${name} is ${wide} px too wide at ${width} px`);
      await save(new URL(`screenshots/${name}-${width}-${scheme}.png`, import.meta.url), await page.picture());
      const faint = await page.evaluate(faintTexts);
      assert.deepEqual(faint, [], `${name} at ${width} px, ${scheme}: too faint to read`);
    }
  }
}

async function save(url, bytes) {
  await mkdir(new URL(".", url), { recursive: true });
  await writeFile(url, bytes);
}
