// What may be lost: of each key only the newest counts, and not too many in a second.
//
// The gateway drops what is over its rate, perhaps the very last, so that is not left to it: two
// keys every 40 ms go out (less often where the gateway's rate is below 60 a second), in turn,
// each with its newest value. What cannot be sent now waits for its successor.

/** @import {Body} from "./framing.js" */
/** @import {Sizes} from "./limits.js" */
import { DormouseError } from "./errors.js";
import { fit } from "./limits.js";

const EVERY_MS = 40;
const AT_ONCE = 2;
/** As many as the gateway keeps of one session. */
const KEYS = 8;
/** What AT_ONCE costs at one a second, with a fifth to spare. */
const PACE_MS = AT_ONCE * 1_200;

export class Ephemerals {
  #send;
  /** By key, those sent longest ago first; empty when it is sent. @type {Map<string, Body>} */
  #newest = new Map();
  /** @type {any} */
  #timer;
  #sentAt = -Infinity;
  #every = EVERY_MS;

  /** @param {(body: Body) => boolean} send false when it should wait */
  constructor(send) {
    this.#send = send;
  }

  /**
   * Throws for what the gateway would refuse, also where there is no seat to show it from.
   * @param {string} key
   * @param {unknown} data
   * @param {Sizes} limits what the gateway takes
   * @param {boolean} isSeated
   */
  show(key, data, limits, isSeated) {
    const { body } = fit({ type: "ephemeral", key, data }, limits);
    if (!isSeated) return;
    const { ephemeral_keys: most = KEYS, ephemeral_rate: rate } = limits;
    // The gateway forgets no key before the end of the session.
    if (!this.#newest.has(key) && this.#newest.size >= most) {
      throw new DormouseError("too_many_keys", `at most ${most} keys`);
    }
    this.#newest.set(key, body);
    this.#every = Math.max(EVERY_MS, PACE_MS / rate || 0);
    this.#timer ??= setTimeout(() => this.#flush(), Math.max(0, this.#sentAt + this.#every - Date.now()));
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
    const waiting = () => [...this.#newest].filter(([, body]) => body);
    for (const [key, body] of waiting().slice(0, AT_ONCE)) {
      if (!this.#send(body)) break;
      this.#newest.delete(key);
      this.#newest.set(key, "");
    }
    if (waiting().length > 0) this.#timer = setTimeout(() => this.#flush(), this.#every);
  }
}
