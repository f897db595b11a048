// The client in a page of another origin: an empty one, with a room in it.
//
// What the page hears is kept in `window.lab`: `heard`, what the iterator gave; `told`, what the
// events told; `settled`, how each publish ended.

import { discoveryOf, hear } from "./discovery.mjs";
import { serve } from "./pages.mjs";

const EMPTY_PAGE = { "/": ["text/html", "<!doctype html><title>lab</title><link rel=icon href=data:,>"] };

export class Client {
  #page;

  /** Goes to an empty page in a tab of its own. */
  static async open(t, browser) {
    const client = new Client();
    const address = await serve(t, EMPTY_PAGE);
    client.#page = await browser.open(t, address);
    t.after(() => client.run((lab) => lab?.room.pause()).catch(() => {}));
    return client;
  }

  /** Goes there, and into a room at once. */
  static async join(t, browser, gateway, options) {
    const client = await Client.open(t, browser);
    await client.join(gateway, options);
    return client;
  }

  /**
   * Lets the page hear of the gateway at once, so that it tries WebTransport first. On a busy
   * machine WebSocket may win all the same, unless WebTransport gets as long as it needs.
   */
  async knows(gateway, { waits = false } = {}) {
    const { policy, ...rest } = await discoveryOf(gateway);
    const headStart = waits ? policy.ready_timeout_ms : policy.head_start_ms;
    await this.#page.evaluate(hear, { ...rest, policy: { ...policy, head_start_ms: headStart } });
  }

  get page() {
    return this.#page;
  }

  /** Enters a room and, unless told otherwise, waits until it is live. */
  async join({ url }, { room = "meadow", waits = true, ...options } = {}) {
    await this.#page.evaluate(async (url, name, options) => {
      const { connect } = await import(`${url}/dormouse.js`);
      const room = connect(name, options);
      const lab = (window.lab = { room, heard: [], told: [], settled: [] });
      for (const type of ["status", "gap", "back", "presence", "ephemeral", "direct", "mood", "outbox"]) {
        room.on(type, (event) => {
          const { error, ...rest } = event;
          lab.told.push({ type, ...rest, ...(error && { code: error.code }) });
        });
      }
      lab.read = async () => {
        lab.heard = [];
        try {
          for await (const { seq, data, own, gap } of room.messages()) lab.heard.push({ seq, data, own, gap });
          lab.end = "done";
        } catch (error) {
          lab.end = error.code;
        }
      };
      lab.read();
    }, url, room, options);
    if (waits) await this.live(options.transport === "auto" ? undefined : options.transport);
  }

  /** Runs a function in the page; it gets `lab` first. */
  run(fn, ...args) {
    return this.#page.evaluate(`async (...args) => (${fn})(window.lab, ...args)`, ...args);
  }

  /** Waits until a function gives something truthy in the page. */
  async until(what, fn, ...args) {
    return this.#page.until(what, `async (...args) => (${fn})(window.lab, ...args)`, ...args);
  }

  live(transport) {
    return this.until(
      `the room was live${transport ? ` over ${transport}` : ""}`,
      (lab, transport) => lab?.room.status.state === "live" && (!transport || lab.room.status.transport === transport),
      transport,
    );
  }

  state(state) {
    return this.until(`the room was ${state}`, (lab, state) => lab.room.status.state === state, state);
  }

  status() {
    return this.run(({ room: { status, sid, session, position, rtt } }) => ({ ...status, error: status.error?.code, sid, session, position, rtt }));
  }

  /** Publishes texts, one right behind the other; `settled` waits for what became of them. */
  say(...texts) {
    return this.run((lab, texts) => {
      for (const text of texts) {
        lab.room.publish({ text }).then(
          ({ seq, dup }) => lab.settled.push({ text, seq, dup }),
          (error) => lab.settled.push({ text, code: error.code }),
        );
      }
    }, texts);
  }

  /** How publishes ended, once `n` have. */
  async settled(n) {
    await this.until(`${n} publishes had settled`, (lab, n) => lab.settled.length >= n, n);
    return this.run((lab) => lab.settled);
  }

  /** The texts of what was heard, once there are `n`. */
  async heard(n) {
    await this.until(`${n} messages had come`, (lab, n) => lab.heard.length >= n, n);
    return this.run((lab) => lab.heard.map(({ data }) => data.text));
  }

  /** Waits for an event and gives it. */
  told(what, fn, ...args) {
    return this.until(what, `(lab, ...args) => lab.told.find((event) => (${fn})(event, ...args))`, ...args);
  }

  /** Everything that was told of one type. */
  all(type) {
    return this.run((lab, type) => lab.told.filter((event) => event.type === type), type);
  }
}
