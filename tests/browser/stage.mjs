// What every test of the page begins with: a browser that is there once, and visitors in it.

import { after, before } from "node:test";
import { Chromium } from "./chromium.mjs";

let chromium;
before(async () => (chromium = await Chromium.launch()));
after(() => chromium?.close());

/** An empty tab. */
export function open(t, browser = chromium) {
  return browser.open(t);
}

/** A page of its own in `room`. */
export async function visit(t, gateway, { room = "meadow", name, transport = "auto", discovery, browser }) {
  const page = await open(t, browser);
  if (discovery) await page.rewriteDiscovery(discovery);
  await page.goto(`${gateway.url}/?${new URLSearchParams({ room, name, transport })}`);
  return page;
}

/** Ann over WebTransport and Bob over WebSocket, both seated. */
export async function annAndBob(t, gateway, browser) {
  const ann = await visit(t, gateway, { name: "ann", transport: "webtransport", browser });
  const bob = await visit(t, gateway, { name: "bob", transport: "websocket", browser });
  await Promise.all([ann.live("webtransport"), bob.live("websocket")]);
  return { ann, bob };
}

export const texts = async (page) => (await page.messages()).map(({ text }) => text);
export const seqs = async (page) => (await page.messages()).map(({ seq }) => seq);
