// What every test begins with: browsers that are there once, and visitors in them.

import { after, before, describe, it } from "node:test";
import { Chromium } from "./chromium.mjs";
import { discoveryOf } from "./discovery.mjs";
import { Firefox } from "./firefox.mjs";

/** Most of a test is waiting for somebody else; a second one has time meanwhile. */
const AT_ONCE = 2;

export let chromium;
export let firefox;
/** The same by name. */
export const browsers = {};

const tests = [];

/** A test: it gets what node's own get, and runs when `run` is called. */
export function test(name, act) {
  tests.push([name, act]);
}

/** Runs every test there is so far. */
export function run() {
  describe("in browsers", { concurrency: AT_ONCE }, () => {
    before(async () => {
      [chromium, firefox] = await Promise.all([Chromium.launch(), Firefox.launch()]);
      Object.assign(browsers, { chromium, firefox });
    });
    after(() => Promise.all([chromium, firefox].map((browser) => browser?.close())));
    for (const [name, act] of tests) it(name, act);
  });
}

/** An empty tab. */
export function open(t, browser = chromium) {
  return browser.open(t);
}

/** A page of its own in `room`; `discovery` changes what it hears of the gateway. */
export async function visit(t, gateway, { room = "meadow", name, transport = "auto", discovery, browser }) {
  const page = await open(t, browser);
  if (discovery) await page.hears(discovery(await discoveryOf(gateway)));
  await page.goto(`${gateway.url}/?${new URLSearchParams({ room, name, transport })}`);
  return page;
}

/** Ann over WebTransport and Bob over WebSocket, both seated. */
export async function annAndBob(t, gateway, browser) {
  const [ann, bob] = await Promise.all([
    visit(t, gateway, { name: "ann", transport: "webtransport", browser }),
    visit(t, gateway, { name: "bob", transport: "websocket", browser }),
  ]);
  await Promise.all([ann.live("webtransport"), bob.live("websocket")]);
  return { ann, bob };
}

export const texts = async (page) => (await page.messages()).map(({ text }) => text);
export const seqs = async (page) => (await page.messages()).map(({ seq }) => seq);
