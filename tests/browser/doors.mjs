// Pages under other names and paths of a gateway: what is served there must lead back there.

import assert from "node:assert/strict";
import { Gateway } from "./gateway.mjs";
import { browsers, open, test } from "./stage.mjs";

const TRANSPORTS = ["webtransport", "websocket"];

for (const name of ["Chromium", "Firefox"]) {
  test(`the demo works under a name below localhost in ${name}`, async (t) => {
    const gateway = await Gateway.start(t);
    await isWhole(t, browsers[name.toLowerCase()], gateway.url.replace("localhost", "app.localhost"));
  });

  test(`the demo and the examples work below a base path in ${name}`, async (t) => {
    const gateway = await Gateway.start(t, { "--gateway-base-path": "/real/time" });
    const browser = browsers[name.toLowerCase()];
    await isWhole(t, browser, `${gateway.url}/real/time`);
    for (const example of ["plain", "seed"]) {
      const page = await open(t, browser);
      await page.goto(`${gateway.url}/real/time/examples/${example}.html?name=${example}`);
      await page.until(`${example} was in`, () => /web|seed/.test(document.querySelector("#status, #users")?.textContent));
    }
  });
}

/** The demo at that address, over both transports, with its list of rooms. */
async function isWhole(t, browser, address) {
  const pages = await Promise.all(TRANSPORTS.map(async (transport) => {
    const page = await open(t, browser);
    await page.goto(`${address}/?${new URLSearchParams({ room: "meadow", name: transport, transport })}`);
    await page.live(transport);
    return page;
  }));
  await pages[0].say("good evening");
  for (const page of pages) {
    await page.sees("good evening");
    await page.until("the rooms were listed", () => document.querySelector("#rooms")?.textContent.includes("meadow"));
    assert.deepEqual(page.faults, []);
  }
}
