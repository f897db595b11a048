// The newest messages, and readers that go through them at their own pace.
//
// A reader is a cursor into what is kept here, as a session is one into the gateway's ring. Who
// is so slow that the next message is no longer kept gets it from the gateway, page by page, until
// it has caught up. So a reader costs nothing, and none misses anything because it was slow.

/** @import {Gap, Message, Page} from "../dormouse.js" */

const PAGE = 100;

export class Log {
  #limit;
  #page;
  /** One after the other, without a hole. @type {Message[]} */
  #messages = [];
  /** The newest that is behind us but not kept. */
  #before = 0;
  /** Another number for every time the log did not go on where it was. */
  #run = 0;
  /** @type {Error | null | undefined} null: it ended well */
  #end;
  /** @type {Set<() => void>} */
  #waiting = new Set();
  /** Where readers are. @type {Set<Cursor>} */
  #cursors = new Set();

  /**
   * @param {number} limit
   * @param {(after: number, limit: number, signal: AbortSignal) => Promise<Page>} page asks the gateway
   */
  constructor(limit, page) {
    this.#limit = limit;
    this.#page = page;
  }

  /** @param {Message} message */
  push(message) {
    if (message.gap) this.begin();
    if (this.#messages.length === 0) this.#before = message.seq - 1;
    this.#messages.push(message);
    if (this.#messages.length > this.#limit) this.#before = this.#messages.shift()?.seq ?? 0;
    this.#wake();
  }

  /** What comes next does not follow what came before. */
  begin() {
    this.#messages = [];
    this.#run++;
  }

  /** @param {Error | null} error why there is no more; null when that was wanted */
  end(error) {
    this.#end = error;
    this.#wake();
  }

  /** It goes on after all, for readers to come. */
  reopen() {
    this.#end = undefined;
  }

  /**
   * The newest that all readers have behind them.
   * @param {number} heard what has been heard, if nobody reads
   */
  processed(heard) {
    const first = this.#messages[0]?.seq ?? heard + 1;
    const places = Array.from(this.#cursors, ({ run, seq }) => (run === this.#run ? seq : first - 1));
    return Math.min(heard, ...places);
  }

  /**
   * A reader. Its `return` and `throw` end it at once, also while a `next` waits.
   * @param {AbortSignal} [signal]
   * @returns {AsyncIterableIterator<Message>}
   */
  read(signal) {
    const cursor = { run: this.#run, seq: (this.#messages[0]?.seq ?? Infinity) - 1, stop: new AbortController() };
    const reader = this.#read(cursor, signal);
    // A generator settles its calls in order: those that wait must end before these can.
    for (const name of /** @type {const} */ (["return", "throw"])) {
      const end = reader[name];
      reader[name] = (value) => {
        this.#stop(cursor);
        return end.call(reader, value);
      };
    }
    return reader;
  }

  /** @param {Cursor} cursor */
  #stop(cursor) {
    this.#cursors.delete(cursor);
    cursor.stop.abort();
    this.#wake();
  }

  /**
   * @param {Cursor} cursor
   * @param {AbortSignal} [signal]
   * @returns {AsyncGenerator<Message, void, any>}
   */
  async *#read(cursor, signal) {
    this.#cursors.add(cursor);
    const abort = () => this.#stop(cursor);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
    try {
      while (!cursor.stop.signal.aborted) {
        const message = this.#after(cursor);
        if (message === "behind" && this.#end === undefined) {
          yield* this.#catchUp(cursor);
        } else if (message && message !== "behind") {
          yield message;
          if (cursor.run === this.#run) cursor.seq = message.seq; // it is behind us now
        } else if (this.#end !== undefined) {
          if (this.#end) throw this.#end;
          return;
        } else {
          await new Promise((/** @type {(value: void) => void} */ resolve) => this.#waiting.add(resolve));
        }
      }
    } finally {
      this.#cursors.delete(cursor);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** @param {Cursor} cursor */
  #after(cursor) {
    const first = this.#messages[0];
    if (!first) return undefined;
    if (cursor.run !== this.#run || cursor.seq === Infinity) {
      Object.assign(cursor, { run: this.#run, seq: first.seq - 1 });
    }
    if (cursor.seq < this.#before) return "behind";
    return this.#messages[cursor.seq + 1 - first.seq];
  }

  /**
   * A page of what a slow reader has not read.
   * @param {Cursor} cursor
   * @returns {AsyncGenerator<Message, void, undefined>}
   */
  async *#catchUp(cursor) {
    const { run, stop: { signal } } = cursor;
    const messages = await this.#page(cursor.seq, PAGE, signal).then((page) => page.messages, (error) => {
      if (this.#end === undefined && !signal.aborted) throw error;
    });
    if (!messages || run !== this.#run) return;
    for (const message of messages) {
      if (run !== this.#run || message.seq > this.#before) return;
      /** @type {Gap | undefined} */
      const gap = message.seq > cursor.seq + 1 ? { why: "retention", after: cursor.seq, lost: message.seq - cursor.seq - 1 } : undefined;
      yield gap ? { ...message, gap } : message;
      if (run === this.#run) cursor.seq = message.seq;
    }
    if (messages.length === 0) cursor.seq = this.#before; // all of it is gone by now
  }

  #wake() {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

/** @typedef {{ run: number, seq: number, stop: AbortController }} Cursor `seq` is behind it; Infinity: it waits for the first */
