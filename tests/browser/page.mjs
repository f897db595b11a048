// One tab with the demo in it, and what a visitor can do there, in whichever browser.

import { until } from "./until.mjs";

/**
 * What a browser adds: `goto(url)`, `reload()`, `evaluate(fn, ...args)`, and with the visitor's
 * hands `type(text)`, `press(key)` and `point(x, y)`.
 */
export class Page {
  /** What went wrong in the page: exceptions, and what the content security policy refused. */
  faults = [];

  /** Waits until a function gives something truthy in the page. */
  until(what, fn, ...args) {
    // A navigation in the middle of a look is not yet an answer.
    const probe = () => this.evaluate(fn, ...args).catch((error) => (/navigat|context/i.test(error.message) ? null : Promise.reject(error)));
    return until(what, probe, async () => JSON.stringify({ ...(await this.state()), shown: await this.messages(), faults: this.faults }, null, 1));
  }

  /** The page's own word on how things stand: state, transport, room. */
  state() {
    return this.evaluate(() => ({ ...document.documentElement.dataset, notice: document.querySelector("#notice-text")?.textContent }));
  }

  /** The messages shown that are on disk, in the order shown. */
  messages() {
    return this.evaluate(() =>
      Array.from(document.querySelectorAll("#messages [data-seq]"), (item) => ({
        seq: Number(item.dataset.seq),
        text: item.lastChild.textContent,
        own: "own" in item.dataset,
      })),
    );
  }

  live(transport) {
    return this.until(
      `the page was live${transport ? ` over ${transport}` : ""}`,
      (transport) => {
        const { state, transport: used } = document.documentElement.dataset;
        return state === "live" && (!transport || used === transport);
      },
      transport,
    );
  }

  sees(text) {
    return this.until(
      `"${text}" was shown`,
      (text) => Array.from(document.querySelectorAll("#messages [data-seq]")).some((item) => item.lastChild.textContent === text),
      text,
    );
  }

  roomIs(state) {
    return this.until(`the page showed the room ${state}`, (state) => document.documentElement.dataset.room === state, state);
  }

  /** Types a message and presses Enter. */
  async say(text) {
    await this.evaluate(() => document.querySelector("#text").focus());
    await this.type(text);
    await this.press("Enter");
  }

  /** Chooses a transport by the page's own switch. */
  choose(transport) {
    return this.click(`#transports [value="${transport}"]`);
  }

  click(selector) {
    return this.evaluate((selector) => document.querySelector(selector).click(), selector);
  }

  /** Whether something is there and shown. */
  shows(selector) {
    return this.until(
      `${selector} was shown`,
      (selector) => Array.from(document.querySelectorAll(selector)).some((found) => found.checkVisibility({ opacityProperty: true })),
      selector,
    );
  }

  text(selector) {
    return this.evaluate((selector) => document.querySelector(selector)?.textContent, selector);
  }

  /** The names in the list of who is here, in its order. */
  people() {
    return this.evaluate(() => Array.from(document.querySelectorAll("#people .name"), (name) => name.textContent));
  }

  meets(...names) {
    return this.until(
      `the page knew ${names}`,
      (names) => {
        const shown = Array.from(document.querySelectorAll("#people li:not([data-away]) .name"), (name) => name.textContent);
        return shown.length === names.length && names.every((name) => shown.includes(name));
      },
      names,
    );
  }

  /** Moves the pointer to a place in the message area, in parts of its size. */
  async wave(x, y) {
    const box = await this.evaluate(() => {
      const { left, top, width, height } = document.querySelector(".scroller").getBoundingClientRect();
      return { left, top, width, height };
    });
    await this.point(Math.round(box.left + box.width * x), Math.round(box.top + box.height * y));
  }

  /** Waits for somebody's cursor near a place, in parts of the area. */
  seesCursor(name, x, y) {
    return this.until(
      `${name}'s cursor was at ${x}, ${y}`,
      (name, x, y) =>
        Array.from(document.querySelectorAll(".cursor")).some((cursor) => {
          const at = (axis) => Number(cursor.style.getPropertyValue(axis));
          return cursor.textContent === name && Math.abs(at("--x") - x) < 0.02 && Math.abs(at("--y") - y) < 0.02;
        }),
      name, x, y,
    );
  }
}
