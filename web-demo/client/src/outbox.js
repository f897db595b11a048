// What was asked of the gateway and is not answered yet, in order.
//
// - Every request settles exactly once: with its answer, with a refusal, or when the room closes.
// - It is encoded once, when it is made: what the application does to its data later changes
//   nothing, and what is sent again is the same byte for byte, key included.
// - What a lost link leaves unanswered is sent again on the next one, before anything newer. Only
//   what must not happen twice, and has no key, is given up: `once`.
// - At most `limit` requests and OUTBOX_BYTES wait; at most `window` are on their way.
// - A request over one of the gateway's limits is rejected alone: at once where the limits are
//   known, else when the gateway has told them.
// - A refusal with `retry_after` means "not now". Nothing newer is sent before it has been tried
//   again, and then one at a time until it goes well.

/** @import {Body, Frame} from "./framing.js" */
/** @import {Sizes} from "./limits.js" */
import { DormouseError, RequestError } from "./errors.js";
import { excess, fit } from "./limits.js";

/**
 * @typedef {object} Request
 * @property {number} id
 * @property {Body} body
 * @property {Sizes} sizes
 * @property {boolean} once
 * @property {boolean} isSent
 * @property {(answer: Frame) => void} resolve
 * @property {(error: DormouseError) => void} reject
 */

/** The most bytes that wait. */
const OUTBOX_BYTES = 4 * 1024 * 1024;
/** The least wait before a refused request is tried again. */
const SHORTEST_RETRY_MS = 100;

let nextId = 1;

export class Outbox {
  #limit;
  #window;
  #send;
  #changed;
  /** @type {Map<number, Request>} */
  #requests = new Map();
  #bytes = 0;
  #inFlight = 0;
  #isOpen = false;
  /** What the gateway takes, once it said so. @type {Sizes} */
  #limits = {};
  #isCareful = false;
  /** @type {any} */
  #held;

  /**
   * @param {object} options
   * @param {number} options.limit
   * @param {number} options.window
   * @param {(body: Body) => void} options.send
   * @param {() => void} [options.changed] how many wait has changed
   */
  constructor({ limit, window, send, changed = () => {} }) {
    this.#limit = limit;
    this.#window = window;
    this.#send = send;
    this.#changed = changed;
  }

  get size() {
    return this.#requests.size;
  }

  get isFull() {
    return this.#requests.size >= this.#limit || this.#bytes >= OUTBOX_BYTES;
  }

  /** Whether an answer is owed. */
  get isOwed() {
    return this.#inFlight > 0;
  }

  /**
   * Takes a request, without its `id`; resolves with its answer.
   * @param {Frame} frame
   * @param {{ once?: boolean, signal?: AbortSignal }} [options]
   * @returns {Promise<Frame>}
   */
  async add(frame, { once = false, signal } = {}) {
    signal?.throwIfAborted();
    if (this.isFull) throw new DormouseError("outbox_full", "too much is waiting");
    const id = nextId++;
    const { body, sizes } = fit({ ...frame, id }, this.#limits);
    /** @type {Promise<Frame>} */
    const answer = new Promise((resolve, reject) => {
      this.#requests.set(id, { id, body, sizes, once, isSent: false, resolve, reject });
    });
    this.#bytes += sizes.message;
    const abort = () => this.#settle(id)?.reject(signal?.reason);
    signal?.addEventListener("abort", abort);
    this.#changed();
    this.#pump();
    return answer.finally(() => signal?.removeEventListener("abort", abort));
  }

  /**
   * There is a link, and a seat.
   * @param {Sizes} limits what the gateway takes
   */
  open(limits) {
    this.#isOpen = true;
    this.#limits = limits;
    for (const { id, sizes } of [...this.#requests.values()]) {
      const error = excess(sizes, limits);
      if (error) this.#settle(id)?.reject(error);
    }
    this.#pump();
  }

  /** The link is gone. */
  lost() {
    this.#isOpen = false;
    this.#release();
    this.#inFlight = 0;
    for (const request of [...this.#requests.values()]) {
      const isGivenUp = request.isSent && request.once;
      request.isSent = false;
      if (!isGivenUp) continue;
      const error = new DormouseError("lost", "the connection was lost, and perhaps the message");
      this.#settle(request.id)?.reject(error);
    }
  }

  /**
   * An answer: `ok`, `page`, `members` or `error`. False if it was to nothing here.
   * @param {Frame} frame
   */
  answer(frame) {
    const request = this.#requests.get(frame.id);
    if (!request?.isSent) return false;
    if (frame.type === "error" && frame.retry_after !== undefined && !(request.once && frame.code === "recipient_busy")) {
      request.isSent = false;
      this.#inFlight--;
      this.#hold(frame.retry_after);
      return true;
    }
    this.#settle(request.id);
    if (frame.type === "error") request.reject(new RequestError(frame.code, frame.reason ?? frame.code));
    else request.resolve(frame);
    if (frame.type !== "error") this.#isCareful = false;
    this.#pump();
    return true;
  }

  /**
   * It is over.
   * @param {DormouseError} error
   */
  close(error) {
    this.#isOpen = false;
    this.#release();
    for (const id of [...this.#requests.keys()]) this.#settle(id)?.reject(error);
  }

  /** Sends what may be sent now, oldest first. */
  #pump() {
    if (!this.#isOpen || this.#held !== undefined) return;
    // At `in_flight` unanswered requests the gateway reads no further, and there are two outboxes.
    const window = this.#isCareful ? 1 : Math.min(this.#window, this.#limits.in_flight / 2 || Infinity);
    for (const request of this.#requests.values()) {
      if (this.#inFlight >= window) return;
      if (request.isSent) continue;
      request.isSent = true;
      this.#inFlight++;
      this.#send(request.body);
    }
  }

  /** @param {number} ms */
  #hold(ms) {
    this.#isCareful = true;
    clearTimeout(this.#held);
    this.#held = setTimeout(() => {
      this.#release();
      this.#pump();
    }, Math.max(ms, SHORTEST_RETRY_MS));
  }

  #release() {
    clearTimeout(this.#held);
    this.#held = undefined;
  }

  /**
   * Takes a request off the list.
   * @param {number} id
   */
  #settle(id) {
    const request = this.#requests.get(id);
    if (!request) return undefined;
    this.#requests.delete(id);
    this.#bytes -= request.sizes.message;
    if (request.isSent) this.#inFlight--;
    this.#changed();
    return request;
  }
}
