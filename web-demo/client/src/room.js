// A room as its application sees it: where in the log one is, who is here, what waits.
//
// - Its position is the last `message` or `live` it has processed, never the one in `welcome`:
//   that one lies behind messages which are still on their way.
// - What came already is not told again, and what should have come and did not is told as a gap.
// - Frames of a type it does not know are ignored.

/** @import {Direct, Gap, Message, Options, Position, Room, Status, Transport} from "../dormouse.js" */
/** @import {Frame} from "./framing.js" */
import { baseOf } from "./address.js";
import { Connection } from "./connection.js";
import { Doors } from "./doors.js";
import { Emitter } from "./emitter.js";
import { Ephemerals } from "./ephemerals.js";
import { DormouseError, RequestError, TAKEN_OVER } from "./errors.js";
import { fromBase64 } from "./framing.js";
import { toJson } from "./json.js";
import { fit } from "./limits.js";
import { Log } from "./log.js";
import { Outbox } from "./outbox.js";
import { Roster } from "./roster.js";
import { Saved } from "./saved.js";
import { watchSurroundings } from "./surroundings.js";
import { Token } from "./token.js";

const ROOM_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/;
const WAITING_PUBLISHES = 256;
const WAITING_REQUESTS = 32;
const KEPT_MESSAGES = 1_000;
/** Together fewer than the gateway lets be unanswered; then it would read no further. */
const PUBLISHES_IN_FLIGHT = 32;
const REQUESTS_IN_FLIGHT = 8;
/** How many former seats are still known as one's own. */
const OWN_SIDS = 64;

/** @implements {Room} */
export class DormouseRoom extends Emitter {
  members = new Roster();
  /** @type {Status} */
  status = { state: "connecting", transport: null };
  /** @type {string | undefined} */
  sid;
  /** @type {string | undefined} */
  session;
  /** @type {Position | undefined} */
  position;
  /** What the next `hello` says of the seat and of what to tell it. @type {Frame} */
  #told;
  #connection;
  #outbox;
  #requests;
  #ephemerals;
  #log;
  #saved;
  #token;
  /** Takes the listener off the signal of the options. */
  #forgetSignal;
  /** @type {Promise<void> | undefined} */
  #closing;
  /** What the gateway takes, once it said so. @type {Record<string, number>} */
  #limits = {};
  #epoch = "";
  /** @type {Set<string>} */
  #ownSids = new Set();
  /** Before the next message. @type {Gap | undefined} */
  #gap;
  /** @type {{ lostAt: number, missed: number, lost: number, why?: Gap["why"] } | undefined} */
  #away;
  #lostAt = 0;
  #isLive = false;
  #hasRenewed = false;
  #leftPage = false;
  #keyPrefix = randomText();
  #keys = 0;
  /** Of `ready`. @type {any} */
  #settle;
  #ignore = () => {};

  /**
   * @param {string} name
   * @param {Options} [options]
   */
  constructor(name, options = {}) {
    super();
    if (typeof name !== "string" || !ROOM_NAME.test(name)) throw new DormouseError("bad_name", "a room's name is 1 to 128 letters, digits or any of . _ ~ -");
    const { WebSocket = globalThis.WebSocket, WebTransport = globalThis.WebTransport } = options;
    if (!WebSocket) throw new DormouseError("no_websocket", "there is no WebSocket here; hand one in");
    const base = baseOf(options.gateway);
    this.name = name;
    const { name: shown, session, since, history, watch, presence, tags, attachment, signal } = options;
    const token = typeof options.token === "function" ? undefined : options.token;
    const position = since && { epoch: since.epoch, seq: since.seq };
    this.#told = copy({ type: "hello", name: shown, session, since: position, history, watch, presence, tags, attachment, token });
    this.#saved = new Saved(options.save, `dormouse.room ${base}/${name}`);
    this.session = session;
    this.position = position ?? this.#saved.since;
    this.#log = new Log(options.buffer ?? KEPT_MESSAGES, (after, limit, signal) => this.history({ after, limit }, signal));
    this.#token = new Token(options.token, (token) => this.#connection.send(this.#body({ type: "token", token })));
    this.#connection = new Connection(new Doors(base, { WebSocket, WebTransport }), name, options.transport ?? "auto", {
      hello: () => this.#hello(),
      welcome: (frame) => this.#welcome(frame),
      take: (frame) => this.#take(frame),
      lost: () => this.#lost(),
      owes: () => this.#outbox.isOwed || this.#requests.isOwed,
      renews: () => this.#renews(),
      tell: (status) => this.emit("status", (this.status = status)),
      ended: (error) => this.#ended(error),
    });
    const send = (/** @type {string | Uint8Array} */ body) => this.#connection.send(body);
    this.#ephemerals = new Ephemerals((body) => this.#connection.sendLossy(body));
    this.#requests = new Outbox({ limit: WAITING_REQUESTS, window: REQUESTS_IN_FLIGHT, send });
    this.#outbox = new Outbox({
      limit: options.outbox ?? WAITING_PUBLISHES,
      window: PUBLISHES_IN_FLIGHT,
      send,
      changed: () => this.emit("outbox", { waiting: this.waiting, full: this.#outbox.isFull }),
    });
    this.ready = new Promise((/** @type {(value: void) => void} */ resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(() => {}); // whoever does not ask need not know
    const abort = () => void this.close();
    this.#forgetSignal = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    this.resume();
    if (signal?.aborted) abort();
  }

  get rtt() {
    return this.#connection.rtt;
  }

  get waiting() {
    return this.#outbox.size;
  }

  messages({ signal } = /** @type {{ signal?: AbortSignal }} */ ({})) {
    return this.#log.read(signal);
  }

  /**
   * @param {unknown} data
   * @param {{ key?: string, to?: object, signal?: AbortSignal }} [options]
   * @returns {Promise<any>}
   */
  async publish(data, { key, to, signal } = {}) {
    this.#mustBeOpen();
    if (to != null) {
      const { reached } = await this.#outbox.add({ type: "publish", to, data }, { once: true, signal });
      return { reached };
    }
    key ??= `${this.#keyPrefix}-${++this.#keys}`;
    const { seq, dup } = await this.#outbox.add({ type: "publish", key, data }, { signal });
    return { seq, dup };
  }

  /**
   * @param {string} key
   * @param {unknown} data
   */
  ephemeral(key, data) {
    this.#ephemerals.show(key, data, this.#limits, this.#connection.isSeated);
  }

  /** @param {{ attachment?: unknown, tags?: string[] }} change */
  async set({ attachment, tags }) {
    this.#mustBeOpen();
    const change = copy({ attachment, tags });
    await this.#requests.add({ type: "set", ...change });
    // The next hello says it again, now that the gateway has taken it: with a hello that is
    // refused the room would end.
    this.#told = { ...this.#told, ...change };
  }

  /**
   * @param {{ before?: number, after?: number, limit?: number }} [options]
   * @param {AbortSignal} [signal]
   */
  async history({ before, after, limit } = {}, signal) {
    this.#mustBeOpen();
    // Both exclude each other, so that a pair of them is refused.
    const pair = before == null || after == null ? after : [before, after];
    const { messages, more } = await this.#requests.add({ type: "history", before, after: pair, limit }, { signal });
    return { messages: messages.map((/** @type {Frame} */ frame) => this.#message(frame)), more };
  }

  /** @param {{ after?: string, limit?: number }} [options] */
  async listMembers({ after, limit } = {}) {
    this.#mustBeOpen();
    const { members, more } = await this.#requests.add({ type: "members", after, limit });
    return { members, more };
  }

  /** @param {"auto" | Transport} transport */
  use(transport) {
    this.#connection.use(transport);
  }

  pause() {
    this.#connection.pause();
  }

  resume() {
    if (this.#closing) return;
    this.#log.reopen();
    this.#ignore();
    this.#ignore = watchSurroundings({
      doubt: () => this.#connection.doubt(),
      leave: () => this.#leave(),
      comeBack: () => {
        if (this.#leftPage) this.resume();
      },
    });
    this.#leftPage = false;
    this.#connection.start();
  }

  close() {
    return (this.#closing ??= this.#close());
  }

  async #close() {
    this.#forgetSignal();
    await this.#connection.close();
    // Of a room that the gateway had closed the seat is still known.
    this.session = undefined;
    this.#saved.keep(this.#processed(), undefined);
  }

  // ---- What the connection asks and tells ----

  async #hello() {
    const saved = this.#saved.take();
    this.session ??= saved;
    /** @type {string | undefined} */
    let token;
    try {
      token = await this.#token.get();
    } catch (cause) {
      throw new DormouseError("no_token", "there is no token", { cause });
    }
    return this.#body({ ...this.#told, session: this.session, since: this.position, token });
  }

  /** @param {Frame} frame */
  #welcome({ session, sid, position, resumed, why, limits = {}, ...frame }) {
    const known = this.position;
    if (known) this.#away ??= { lostAt: this.#lostAt, missed: 0, lost: 0 };
    if (known && this.#away && resumed === false) {
      this.#gap = { why, after: known.seq };
      this.#away = { ...this.#away, why, missed: 0, lost: 0 };
      this.position = undefined;
      this.#log.begin();
    }
    this.#epoch = position.epoch;
    this.session = session;
    this.sid = sid;
    this.#ownSids.delete(sid);
    this.#ownSids.add(sid);
    for (const oldest of this.#ownSids) if (this.#ownSids.size > OWN_SIDS) this.#ownSids.delete(oldest);
    this.#limits = limits;
    this.emit("presence", this.members.begin(frame));
    this.#requests.open(limits);
    this.#outbox.open(limits);
  }

  /** @param {Frame} frame */
  #take({ type, lossy, ...frame }) {
    switch (type) {
      case "message":
        if (frame.direct) return this.emit("direct", /** @type {Direct} */ (this.#message(frame)));
        return this.#hear(this.#message(frame));
      case "live":
        this.#reach(frame.seq, frame.seq);
        return this.#live();
      case "presence":
        return this.emit("presence", this.members.change(frame));
      case "ephemeral":
        return this.emit("ephemeral", /** @type {any} */ (frame));
      case "room":
        return this.emit("mood", /** @type {any} */ (frame));
      case "ok":
      case "page":
      case "members":
      case "error":
        if (this.#outbox.answer({ type, ...frame }) || this.#requests.answer({ type, ...frame })) return;
        if (type === "error") this.emit("trouble", new RequestError(frame.code, frame.reason ?? frame.code));
    }
  }

  /** @param {Message} message */
  #hear(message) {
    // What was replayed may come again when a link broke in the middle of it.
    if (message.seq <= (this.position?.seq ?? 0)) return;
    this.#reach(message.seq - 1, message.seq);
    if (this.#gap) message.gap = this.#gap;
    this.#gap = undefined;
    if (this.#away) this.#away.missed++;
    this.#log.push(message);
    this.emit("message", message);
  }

  /**
   * Moves the position to `seq`; everything up to `expected` should have come before.
   * @param {number} expected
   * @param {number} seq
   */
  #reach(expected, seq) {
    const known = this.position?.seq;
    const gap = this.#gap;
    if (known !== undefined && expected > known) {
      this.#tellGap({ why: "hole", after: known, lost: expected - known });
    } else if (gap?.why === "retention" && gap.lost === undefined) {
      this.#tellGap({ ...gap, lost: Math.max(0, expected - gap.after) });
    } else if (gap && known === undefined) {
      this.#tellGap(gap);
    }
    this.position = { epoch: this.#epoch, seq: Math.max(seq, known ?? 0) };
    this.#saved.touch(() => this.#processed());
  }

  /** @param {Gap} gap */
  #tellGap(gap) {
    this.#gap = gap;
    if (this.#away) this.#away.lost += gap.lost ?? 0;
    this.emit("gap", gap);
  }

  #live() {
    this.#isLive = true;
    this.#hasRenewed = false;
    this.#settle.resolve();
    if (!this.#away) return;
    const { missed, lost, why, lostAt } = this.#away;
    this.#away = undefined;
    this.emit("back", { missed, lost, why, away: lostAt ? Date.now() - lostAt : 0 });
  }

  #lost() {
    if (this.#isLive) this.#lostAt = Date.now();
    this.#isLive = false;
    this.#ephemerals.clear();
    this.#requests.lost();
    this.#outbox.lost();
  }

  #renews() {
    // Once without being let in: a fresh token that is refused would be refused again.
    const may = this.#token.canRenew && !this.#hasRenewed;
    this.#hasRenewed = true;
    this.#token.forget();
    return may;
  }

  /** @param {DormouseError | null} error */
  #ended(error) {
    const closed = error ?? new DormouseError("closed", "the room was closed");
    this.#ignore();
    this.#token.stop();
    this.#log.end(error);
    // The seat is somebody else's now, or nobody's.
    if (!error || /** @type {any} */ (error).closeCode === TAKEN_OVER) this.session = undefined;
    this.#saved.keep(this.#processed(), this.session);
    this.#settle.reject(closed);
    this.#requests.close(closed);
    this.#outbox.close(closed); // last, for a listener of the outbox may resume the room
  }

  /** Firefox would keep a WebTransport session for as long as it runs, so a page that goes closes it. */
  #leave() {
    this.#saved.keep(this.#processed(), this.session);
    this.#leftPage = this.#connection.mode !== "paused";
    this.#connection.pause();
  }

  // ---- Odds and ends ----

  /**
   * The body of a frame that is no request; throws for what the gateway would refuse.
   * @param {Frame} frame
   */
  #body(frame) {
    return fit(frame, this.#limits).body;
  }

  #processed() {
    const { position } = this;
    return position && { ...position, seq: this.#log.processed(position.seq) };
  }

  /**
   * @param {Frame} frame
   * @returns {Message}
   */
  #message({ seq, time, from, data, data64 }) {
    const message = { seq, time, from, data: data64 === undefined ? data : fromBase64(data64), own: this.#ownSids.has(from?.sid) };
    if (seq === undefined) delete message.seq;
    return message;
  }

  #mustBeOpen() {
    if (this.#connection.mode === "off") throw this.status.error ?? new DormouseError("closed", "the room was closed");
  }
}

/**
 * What the gateway will read of a frame; throws for what it would refuse.
 * @param {Frame} frame
 * @returns {Frame}
 */
function copy(frame) {
  return JSON.parse(toJson(frame));
}

/** Of 128 bits, also where there is no secure context. It is unique and no secret. */
function randomText() {
  const words = globalThis.crypto?.getRandomValues(new Uint32Array(4)) ?? [1, 2, 3, 4].map(Math.random);
  return Array.from(words, (word) => word.toString(36)).join("");
}
