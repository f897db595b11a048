// One visitor's connection to one room, for as long as the page lives: through naps of the
// laptop, restarts of the gateway and changes of transport.
//
// - Links come and go; a connection says `hello` on each with the position it has reached, so
//   that what was missed comes and nothing comes twice.
// - Its position is the last `message` or `live` it has processed, never the one in `welcome`:
//   that one lies behind messages which are still on their way.
// - What was published and not answered is published again on the next link, with the same key,
//   so that it takes effect once.
// - Frames of a type it does not know are ignored.
//
// It knows nothing of the page. What happens is told as events, each with a `detail`:
//
//     state      { state, transport, delay?, unplugged?, trouble?, final? }
//                  state is "connecting", "live", "reconnecting" or "closed"
//     seated     { session, sid, resumed, fresh }   fresh: forget what was shown, it comes anew
//     caught-up  { missed, lost, why?, away } after coming back, before "live": how many
//                  messages came that were said meanwhile, how many did not, for how many ms
//     message    a `message` frame, each once and in order of `seq`
//     direct     a `message` frame for this seat alone: it has no `seq` and is no position
//     answer     { key, seq } for a publish that is on disk, { key, code, reason } for a refused one
//     presence   who is here has changed; see `roster`
//     ephemeral  { key, from, data }
//     room       a `room` frame: asleep, awake, degraded or well
//     trouble    { reason }, an error that belongs to no publish

import { explain, mayReturn } from "./close-reasons.js";
import { Doors } from "./doors.js";
import { Roster } from "./roster.js";

const WELCOME_TIMEOUT_MS = 10_000;
const PONG_TIMEOUT_MS = 10_000;
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 15_000;
const SHORTEST_RETRY_MS = 100;
const MESSAGE_TOO_LARGE = 4510;
/** The most publishes that wait for an answer, fewer than the gateway lets be in flight. */
const UNANSWERED = 50;

export class Connection extends EventTarget {
  /** Who is here. */
  roster = new Roster();
  #room;
  #name;
  #attachment;
  #session;
  #choice;
  #doors;
  #link = null;
  #position = null;
  /** Publishes without an answer, by request number, in order. */
  #unanswered = new Map();
  /** Requests that live and die with their link, by number: { frame, resolve, reject }. */
  #requests = new Map();
  /** While what was missed comes: where the log was left, when, and what has come since. */
  #away = null;
  #lostAt = 0;
  #unpluggedFor = 0;
  #nextId = 1;
  #keyPrefix = randomText();
  #wanted = false;
  #running = null;
  #attempts = 0;
  #wake = () => {};

  /**
   * @param {object} options
   * @param {string} options.base the gateway's address
   * @param {string} options.room
   * @param {string} options.name shown to others
   * @param {object} [options.attachment] what else others should know, as JSON
   * @param {string} [options.session] from an earlier `seated`, to take that seat back
   * @param {"auto" | "webtransport" | "websocket"} [options.transport]
   */
  constructor({ base, room, name, attachment, session, transport = "auto" }) {
    super();
    this.#doors = new Doors(base);
    this.#room = room;
    this.#name = name;
    this.#attachment = attachment;
    this.#session = session;
    this.#choice = transport;
  }

  /** Connects, and comes back whenever it is cut off, until told otherwise. */
  start() {
    this.#wanted = true;
    this.#running ??= this.#run().finally(() => (this.#running = null));
  }

  /** Lets go of the link. The seat is kept for a while, and `start` takes it back. */
  pause() {
    this.#wanted = false;
    this.#link?.close();
    this.#wake();
  }

  /** Gives the seat up. */
  leave() {
    this.#link?.close(1000);
    this.pause();
  }

  /** Changes to another way in, at once, without missing anything. */
  use(transport) {
    this.#choice = transport;
    this.#link?.close();
    this.retryNow();
  }

  /** Cuts the link without a word, and stays away for `ms` before it comes back. */
  unplug(ms) {
    if (!this.#link?.seated) return;
    this.#unpluggedFor = ms;
    this.#link.close();
  }

  /** Ends the wait before the next try, but for that of `unplug`. */
  retryNow() {
    if (!this.#unpluggedFor) this.#wake();
  }

  /** Forgets the seat, so that the next `hello` gets a new one. */
  forgetSeat() {
    this.#session = undefined;
  }

  /**
   * Publishes `data`, now or once there is a connection. Returns the key by which `answer` will
   * speak of it, or null when too much is waiting already.
   */
  publish(data) {
    if (this.#unanswered.size >= UNANSWERED) return null;
    const id = this.#nextId++;
    const publish = { type: "publish", id, key: `${this.#keyPrefix}-${id}`, data };
    this.#unanswered.set(id, publish);
    if (this.#link?.seated) this.#link.send(publish);
    return publish.key;
  }

  /** Says `data` to one seat alone; resolves with how many connections it `reached`. */
  whisper(sid, data) {
    return this.#ask({ type: "publish", to: { sid }, data });
  }

  /** Shows the others something that may be dropped: of each key only the newest counts. */
  show(key, data) {
    if (this.#link?.seated) this.#link.sendLossy({ type: "ephemeral", key, data });
  }

  /** Changes what others know of this seat, now and whenever it begins anew. */
  attach(attachment) {
    this.#attachment = attachment;
    if (!this.#link?.seated) return;
    this.#ask({ type: "set", attachment }).catch(() => {}); // the next `hello` says it again
  }

  /** A page of the log, oldest first: `{ messages, more }`. */
  history({ before, limit }) {
    return this.#ask({ type: "history", before, limit });
  }

  /** Rejects when the gateway refuses, or when the link is gone before it answers. */
  #ask(request) {
    if (!this.#link?.seated) return Promise.reject(new Error("there is no connection"));
    const frame = { ...request, id: this.#nextId++ };
    this.#link.send(frame);
    return new Promise((resolve, reject) => this.#requests.set(frame.id, { frame, resolve, reject }));
  }

  async #run() {
    let trouble;
    for (let first = true; this.#wanted; first = false) {
      this.#tell("state", { state: first ? "connecting" : "reconnecting", transport: "none", trouble });
      let ending;
      try {
        const choice = this.#choice;
        const link = await this.#doors.open(this.#room, choice);
        ending = await this.#live(link, choice);
        trouble = explain(ending);
      } catch (error) {
        ending = {};
        trouble = `${capital(error.message)}.`;
      }
      if (!this.#wanted) break;
      if (this.#unpluggedFor) {
        const delay = this.#unpluggedFor;
        this.#tell("state", { state: "reconnecting", transport: "none", delay, unplugged: true });
        await this.#rest(delay);
        this.#unpluggedFor = 0;
        trouble = undefined;
        continue;
      }
      if (ending.code === MESSAGE_TOO_LARGE) this.#refuseAll(ending);
      if (!mayReturn(ending.code)) {
        this.#wanted = false;
        this.#tell("state", { state: "closed", transport: "none", trouble, final: ending.code });
        return;
      }
      if (ending.moving) {
        trouble = undefined;
        continue;
      }
      const delay = ending.delay ?? this.#backOff();
      this.#tell("state", { state: "reconnecting", transport: "none", delay, trouble });
      await this.#rest(delay);
    }
    this.#tell("state", { state: "closed", transport: "none" });
  }

  /** Lives on a link until it is over, and says how it ended. */
  #live(link, choice) {
    if (!this.#wanted || choice !== this.#choice) link.close(); // the visitor was faster
    return new Promise((resolve) => {
      const ending = {};
      let silence;
      const expect = (ms, then) => {
        clearTimeout(silence);
        silence = setTimeout(then, ms);
      };
      const giveUp = () => link.close();

      link.seated = false;
      link.onframe = (frame) => {
        if (this.#link !== link) return; // frames that overtook our own closing
        if (frame.type === "welcome") {
          link.seated = true;
          link.heartbeat = frame.heartbeat ?? 25_000;
        }
        if (frame.type === "drain") ending.delay = frame.reconnect_after;
        if (frame.type === "close") {
          ending.code = frame.code;
          ending.reason = frame.reason;
          ending.delay ??= frame.retry_after;
          link.close();
          return;
        }
        if (link.seated) {
          expect(link.heartbeat, () => {
            link.send({ type: "ping", id: this.#nextId++ });
            expect(PONG_TIMEOUT_MS, giveUp);
          });
        }
        this.#take(link, frame);
      };
      link.closed.then(({ code, reason }) => {
        clearTimeout(silence);
        if (this.#link === link) this.#link = null;
        if (link.seated) this.#lostAt = performance.now();
        for (const { reject } of this.#requests.values()) reject(new Error("the connection was lost"));
        this.#requests.clear();
        ending.code ??= code;
        ending.reason ??= reason;
        ending.moving = choice !== this.#choice;
        resolve(ending);
      });

      this.#link = link;
      expect(WELCOME_TIMEOUT_MS, giveUp);
      link.send({
        type: "hello",
        name: this.#name,
        session: this.#session,
        since: this.#position ?? undefined,
        history: 100,
        watch: true,
        attachment: this.#attachment,
      });
    });
  }

  #take(link, frame) {
    switch (frame.type) {
      case "welcome":
        return this.#welcome(link, frame);
      case "message":
        if (frame.direct) return this.#tell("direct", frame);
        // What was replayed may come again when a link broke in the middle of it.
        if (frame.seq <= (this.#position?.seq ?? 0)) return;
        this.#position = { epoch: link.epoch, seq: frame.seq };
        if (this.#away) this.#away.missed++;
        return this.#tell("message", frame);
      case "live":
        this.#position = { epoch: link.epoch, seq: Math.max(frame.seq, this.#position?.seq ?? 0) };
        this.#attempts = 0;
        this.#catchUp(frame.seq);
        return this.#tell("state", { state: "live", transport: link.transport });
      case "ok":
      case "page":
        if (this.#requests.has(frame.id)) return this.#settle(frame.id).resolve(frame);
        return this.#answer(frame, { seq: frame.seq });
      case "presence":
        this.roster.change(frame);
        return this.#tell("presence");
      case "ephemeral":
        return this.#tell("ephemeral", frame);
      case "error":
        return this.#refusal(link, frame);
      case "room":
        return this.#tell("room", frame);
    }
  }

  #welcome(link, frame) {
    const { session, sid, resumed, why } = frame;
    const back = this.#position !== null;
    const fresh = back && resumed === false;
    // A link may break while it brings what was missed: then it is still the same absence.
    if (back) this.#away ??= { from: this.#position.seq, lostAt: this.#lostAt, missed: 0 };
    if (fresh) {
      this.#away = { ...this.#away, why, missed: 0, forgotten: frame.oldest - 1 - this.#away.from };
      this.#position = null;
    }
    link.epoch = frame.position.epoch;
    this.#session = session;
    this.roster.begin(frame);
    this.#tell("seated", { session, sid, resumed, fresh });
    this.#tell("presence");
    for (const publish of this.#unanswered.values()) link.send(publish);
  }

  /** What was missed has come, or it has not: the log is gap-free, so it can be counted. */
  #catchUp(newest) {
    if (!this.#away) return;
    const { from, lostAt, missed, why, forgotten } = this.#away;
    this.#away = null;
    const lost = { epoch: 0, retention: forgotten }[why] ?? newest - from - missed;
    this.#tell("caught-up", { missed, lost: Math.max(0, lost), why, away: performance.now() - lostAt });
  }

  /** A refusal with `retry_after` is a "not now": the same is sent again, by itself. */
  #refusal(link, frame) {
    const { id, code, reason, retry_after } = frame;
    const isOpen = () => this.#unanswered.get(id) ?? this.#requests.get(id)?.frame;
    if (isOpen() && retry_after !== undefined) {
      setTimeout(() => {
        if (this.#link === link && isOpen()) link.send(isOpen());
      }, Math.max(retry_after, SHORTEST_RETRY_MS));
      return;
    }
    if (this.#requests.has(id)) this.#settle(id).reject(new Error(reason ?? code));
    else if (this.#unanswered.has(id)) this.#answer(frame, { code, reason });
    else this.#tell("trouble", { reason: reason ?? code });
  }

  /** Takes a request off the list. */
  #settle(id) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    return request;
  }

  /** Whichever of them it was: sent again, it would end the next link as well. */
  #refuseAll(ending) {
    const refusal = { code: ending.code, reason: explain(ending) };
    for (const id of [...this.#unanswered.keys()]) this.#answer({ id }, refusal);
  }

  #answer(frame, detail) {
    const publish = this.#unanswered.get(frame.id);
    if (!publish) return;
    this.#unanswered.delete(frame.id);
    this.#tell("answer", { key: publish.key, ...detail });
  }

  /** Longer after every try that led nowhere, and never the same for everybody. */
  #backOff() {
    const longest = Math.min(FIRST_DELAY_MS * 2 ** this.#attempts++, LONGEST_DELAY_MS);
    return longest * (0.5 + Math.random() / 2);
  }

  #rest(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function capital(sentence) {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

function randomText() {
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, "0")).join("");
}
