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
  /** @type {Map<string, Body>} */
  #newest = new Map();
  /** Those of this session; the gateway forgets none of them before its end. @type {Set<string>} */
  #keys = new Set();
  /** What the gateway takes, once it said so. @type {Sizes} */
  #limits = {};
  #every = EVERY_MS;
  /** @type {any} */
  #timer;
  #sentAt = -Infinity;

  /** @param {(body: Body) => boolean} send false when it should wait */
  constructor(send) {
    this.#send = send;
  }

  /** There is a seat. @param {Sizes} limits what the gateway takes */
  open(limits) {
    this.#limits = limits;
    this.#every = Math.max(EVERY_MS, PACE_MS / limits.ephemeral_rate || 0);
  }

  /**
   * Throws for what the gateway would refuse, also where there is no seat to show it from.
   * @param {string} key
   * @param {unknown} data
   * @param {boolean} isSeated
   */
  show(key, data, isSeated) {
    const { body } = fit({ type: "ephemeral", key, data }, this.#limits);
    if (!isSeated) return;
    const { ephemeral_keys: most = KEYS } = this.#limits;
    if (!this.#keys.has(key) && this.#keys.size >= most) {
      throw new DormouseError("too_many_keys", `at most ${most} keys may be used in a session`);
    }
    this.#keys.add(key);
    this.#newest.set(key, body);
    this.#timer ??= setTimeout(() => this.#flush(), Math.max(0, this.#sentAt + this.#every - Date.now()));
  }

  /** There is nobody to show them to. */
  clear() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#newest.clear();
    this.#keys.clear();
  }

  #flush() {
    this.#timer = undefined;
    this.#sentAt = Date.now();
    for (const [key, body] of [...this.#newest].slice(0, AT_ONCE)) {
      if (!this.#send(body)) break;
      this.#newest.delete(key);
    }
    if (this.#newest.size > 0) this.#timer = setTimeout(() => this.#flush(), this.#every);
  }
}
