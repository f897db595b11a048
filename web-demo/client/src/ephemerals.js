// What may be lost: of each key only the newest counts, and not too many in a second.
//
// The gateway drops what is over 60 a second, perhaps the very last, so that is not left to it:
// two keys every 40 ms go out, in turn, each with its newest value. What cannot be sent now waits
// for its successor.

/** @import {Body} from "./framing.js" */
import { DormouseError } from "./errors.js";
import { encode } from "./framing.js";

const EVERY_MS = 40;
const AT_ONCE = 2;
/** As many as the gateway keeps of one session. */
const KEYS = 8;

export class Ephemerals {
  #send;
  /** @type {Map<string, unknown>} */
  #newest = new Map();
  /** @type {any} */
  #timer;
  #sentAt = -Infinity;

  /** @param {(body: Body) => boolean} send false when it should wait */
  constructor(send) {
    this.#send = send;
  }

  /**
   * @param {string} key
   * @param {unknown} data
   */
  show(key, data) {
    if (!this.#newest.has(key) && this.#newest.size >= KEYS) {
      throw new DormouseError("too_many_keys", `at most ${KEYS} keys may be shown at a time`);
    }
    this.#newest.set(key, data);
    this.#timer ??= setTimeout(() => this.#flush(), Math.max(0, this.#sentAt + EVERY_MS - Date.now()));
  }

  /** There is nobody to show them to. */
  clear() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#newest.clear();
  }

  #flush() {
    this.#timer = undefined;
    this.#sentAt = Date.now();
    for (const [key, data] of [...this.#newest].slice(0, AT_ONCE)) {
      if (!this.#send(encode({ type: "ephemeral", key, data }))) break;
      this.#newest.delete(key);
    }
    if (this.#newest.size > 0) this.#timer = setTimeout(() => this.#flush(), EVERY_MS);
  }
}
