// A seat and a position that outlive the page.
//
// While a page lives its seat is not in the storage: another tab, or a copy of this one, would
// find it there and take it. It is put back when the page goes. The position stays. A room that
// is closed before it connects takes nothing.

/** @import {Options, Position} from "../dormouse.js" */
import { toJson } from "./json.js";

/** How long a position may be newer than the one that is kept. */
const EVERY_MS = 250;

export class Saved {
  /** @type {Exclude<Options["save"], boolean>} */
  #storage;
  #slot;
  /** @type {any} */
  #timer;
  /** @type {Position | undefined} */
  since;
  #isTaken = false;

  /**
   * @param {Options["save"]} save
   * @param {string} slot
   */
  constructor(save, slot) {
    this.#slot = slot;
    try {
      this.#storage = save === true ? localStorage : save || undefined;
    } catch {
      // There is no storage, or it is denied to this page: nothing is kept.
    }
    this.since = this.#read().since;
  }

  /**
   * Takes the seat out of the storage, once.
   * @returns {string | undefined}
   */
  take() {
    if (this.#isTaken) return undefined;
    this.#isTaken = true;
    const { session } = this.#read();
    if (session) this.#write({});
    return session;
  }

  /**
   * There is a newer position, which `read` gives when it is time to write it down.
   * @param {() => Position | undefined} read
   */
  touch(read) {
    if (!this.#storage) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.since = read();
      this.#write({});
    }, EVERY_MS);
  }

  /**
   * The page goes, or this room is left: `session` then is undefined.
   * @param {Position | undefined} since
   * @param {string | undefined} session
   */
  keep(since, session) {
    if (!this.#isTaken) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.since = since;
    this.#write({ session });
  }

  /** @returns {{ session?: string, since?: Position }} */
  #read() {
    try {
      const { session, since } = JSON.parse(this.#storage?.getItem(this.#slot) || "{}");
      toJson({ session, since });
      return { session, since };
    } catch {
      return {}; // nothing that can be read is nothing at all
    }
  }

  /** @param {{ session?: string }} more */
  #write(more) {
    try {
      this.#storage?.setItem(this.#slot, JSON.stringify({ since: this.since, ...more }));
    } catch {
      // A full or forbidden storage costs a reload its shortcut, nothing else.
    }
  }
}
