// The main scenario in every engine there is: two pages, both transports, a nap, a pulled plug.

import assert from "node:assert/strict";
import { Gateway } from "./gateway.mjs";
import { Guest } from "./guest.mjs";
import { annAndBob, chromium, firefox, seqs, test, texts } from "./stage.mjs";

test("an evening in Firefox", (t) => evening(t, firefox));
test("an evening in Chromium", (t) => evening(t, chromium));

async function evening(t, browser) {
  const gateway = await Gateway.start(t);
  const { ann, bob } = await annAndBob(t, gateway, browser);
  for (const page of [ann, bob]) await page.meets("ann", "bob");

  await ann.say("good evening");
  await bob.sees("good evening");
  await ann.wave(0.25, 0.5);
  await bob.seesCursor("ann", 0.25, 0.5);
  await bob.wave(0.5, 0.25);
  await ann.seesCursor("bob", 0.5, 0.25);

  await gateway.hibernate("meadow");
  for (const page of [ann, bob]) await page.roomIs("asleep");
  await bob.say("still here?");
  for (const page of [ann, bob]) {
    await page.sees("still here?");
    await page.roomIs("awake");
  }

  for (const page of [ann, bob]) await page.click("#unplug");
  for (const page of [ann, bob]) await page.shows("html[data-unplugged]");
  const guest = await Guest.join(t, gateway, { name: "cyd" });
  await guest.say("one", "two", "three");
  await ann.say("four");
  for (const page of [ann, bob]) {
    await page.live();
    await page.sees("four");
    assert.deepEqual(await texts(page), ["good evening", "still here?", "one", "two", "three", "four"]);
    assert.deepEqual(await seqs(page), [1, 2, 3, 4, 5, 6]);
    // Bob may have come after ann's word, which he then missed as well.
    assert.match(await page.text(".mark"), page === ann ? /^3 missed, 0 lost/ : /^[34] missed, 0 lost/);
    await page.meets("ann", "bob", "cyd");
    assert.deepEqual(page.faults, []);
  }
  assert.equal((await ann.state()).transport, "webtransport");
  assert.equal((await bob.state()).transport, "websocket");

  await bob.choose("webtransport");
  await bob.live("webtransport");
  await bob.say("and over here");
  await ann.sees("and over here");
  await ann.reload();
  await ann.live("webtransport");
  await ann.sees("and over here");
  await ann.meets("ann", "bob", "cyd");
  assert.equal((await gateway.room("meadow")).seats, 3);
}
