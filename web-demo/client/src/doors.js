// The ways into a gateway, and which of them to take.
//
// Every opening asks the gateway first how it wants to be reached (the discovery). A proxy may
// show the rooms alone, and a page may be forbidden to ask: without an answer, with another one,
// and while it is waited for there is WebSocket. WebTransport is tried after an answer only, for
// that tells whether the gateway is there: browsers punish a page for each WebTransport handshake
// that fails. A gateway that has answered before and now does not is not knocked at either:
// Firefox makes a page wait for each WebSocket that failed.
//
// Where WebTransport has lost twice in a row, or has stalled, it is not tried for a day; that is
// remembered where pages remember things, for every page of the same origin.

/** @import {Transport} from "../dormouse.js" */
/** @import {Body, Frame} from "./framing.js" */
import { DormouseError } from "./errors.js";
import { attempt, race, within } from "./race.js";
import { openWebSocket } from "./websocket.js";
import { openWebTransport } from "./webtransport.js";

/**
 * What any transport gives a connection, and all that a connection knows of it.
 *
 * @typedef {object} Link
 * @property {Transport} transport
 * @property {Promise<void>} ready rejects when it will not open
 * @property {Promise<{ code?: number, reason?: string }>} closed resolves when it is over
 * @property {(frame: Frame) => void} onframe called with every frame that arrives
 * @property {(body: Body) => void} send silently lost on a link that is over
 * @property {(body: Body) => boolean} sendLossy the same for what may be lost on the way; false
 *   when it should wait for what is newer
 * @property {(code?: number) => void} close 1000 gives the seat up; without a code it is kept
 */

const DISCOVERY_PATH = "/.well-known/dormouse";
const DISCOVERY_TIMEOUT_MS = 5_000;
/** How long WebSocket waits for the discovery, and for WebTransport unless the gateway says otherwise. */
const HEAD_START_MS = 200;
const WEBSOCKET_TIMEOUT_MS = 10_000;
const DAY_MS = 24 * 3_600_000;
/** More losses than any policy forgives. */
const GIVEN_UP = 99;

/**
 * How a gateway wants to be reached.
 *
 * @typedef {object} Discovery
 * @property {{ url?: string, certificate_hashes?: string[] } | null} [webtransport] where it is, with the path before `/rooms`
 * @property {Record<string, any>} [policy] how to choose
 */

export class Doors {
  #base;
  #WebSocket;
  #WebTransport;
  #slot;
  /** In a row, with the time of the last: how often WebSocket was there first. */
  #losses = { count: 0, at: 0 };
  /** Whether the last that was heard of the gateway was how it wants to be reached. */
  #isKnown = false;

  /**
   * @param {string} base the gateway's address, without a slash at the end
   * @param {{ WebSocket: any, WebTransport?: any }} transports
   */
  constructor(base, { WebSocket, WebTransport }) {
    this.#base = base;
    this.#WebSocket = WebSocket;
    this.#WebTransport = WebTransport;
    this.#slot = `dormouse.losses ${base}`;
  }

  /**
   * Opens a link into `room`.
   * @param {string} room
   * @param {"auto" | Transport} choice
   * @param {boolean} hasStalled WebTransport opened the last time and then came to a halt
   * @param {AbortSignal} signal gives it up: no request and no socket stays open, and none follows
   */
  async open(room, choice, hasStalled, signal) {
    const path = `/rooms/${encodeURIComponent(room)}`;
    const asked = Date.now();
    const discovery = attempt(DISCOVERY_PATH, () => this.#ask(), { timeout: DISCOVERY_TIMEOUT_MS, signal });
    const websocket = attempt(
      "WebSocket",
      () => openWebSocket(`${this.#base.replace("http", "ws")}${path}/ws`, this.#WebSocket),
      { timeout: WEBSOCKET_TIMEOUT_MS, signal },
    );
    const webtransport = (/** @type {Discovery} */ { webtransport: place, policy }) => {
      const open = () => {
        if (!this.#WebTransport) throw new Error("there is none here; it needs a secure context");
        if (!place?.url) throw new Error("this gateway offers none");
        return openWebTransport(`${place.url}${path}/wt`, this.#WebTransport, place.certificate_hashes);
      };
      return attempt("WebTransport", open, { timeout: policy?.ready_timeout_ms ?? 3_000, hint: "; UDP may be blocked", signal });
    };
    const open = async () => {
      const answer = discovery.begin().then(({ ready }) => ready);
      if (choice === "webtransport") return webtransport(await answer).begin();
      answer.catch(() => this.#isKnown && websocket.drop());
      const found = (await within(HEAD_START_MS, answer)) ?? (await Promise.any([websocket.begin(), answer]));
      if ("transport" in found) return found;
      const policy = found.policy ?? {};
      const suits = this.#WebTransport && found.webtransport?.url && policy.webtransport?.[engine()] === true;
      const hasFailed = this.#recall() >= (policy.failures_before_websocket ?? 2);
      if (choice === "websocket" || !suits || hasFailed || hasStalled) return websocket.begin();
      // On a slow path the WebSocket has begun already; then WebTransport gets as long as the discovery took.
      const headStart = Math.max(policy.head_start_ms ?? HEAD_START_MS, Date.now() - asked);
      const link = await race(webtransport(found), websocket, headStart);
      this.#remember(link.transport === "websocket" ? this.#recall() + 1 : 0);
      return link;
    };
    try {
      const link = await open();
      // So the network was not to blame.
      if (hasStalled && link.transport === "websocket") this.#remember(GIVEN_UP);
      return link;
    } catch (/** @type {any} */ cause) {
      const tried = (cause.errors ?? [cause]).map((/** @type {Error} */ { message }) => message);
      throw new DormouseError("unreachable", `no way into ${this.#base}: ${tried.join("; ")}`, { cause });
    } finally {
      discovery.drop();
    }
  }

  /** Asks the gateway how it wants to be reached. @returns {{ ready: Promise<Discovery>, close: () => void }} */
  #ask() {
    const asking = new AbortController();
    const ask = async () => {
      const answer = await fetch(this.#base + DISCOVERY_PATH, { cache: "no-store", signal: asking.signal });
      // Of a proxy whose gateway is down; any other answer is news.
      if (answer.status < 500) this.#isKnown = false;
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      const found = await answer.json();
      if (!found?.versions) throw new Error("it is no gateway");
      this.#isKnown = true;
      return found;
    };
    return { ready: ask(), close: () => asking.abort() };
  }

  #recall() {
    try {
      const kept = localStorage.getItem(this.#slot);
      if (kept) this.#losses = JSON.parse(kept) ?? this.#losses;
    } catch {
      // No storage, or not for us: this page remembers by itself.
    }
    const isPast = !(Math.abs(Date.now() - this.#losses.at) < DAY_MS);
    return isPast ? 0 : this.#losses.count;
  }

  /** @param {number} count */
  #remember(count) {
    this.#losses = { count, at: Date.now() };
    try {
      if (count > 0) localStorage.setItem(this.#slot, JSON.stringify(this.#losses));
      else localStorage.removeItem(this.#slot);
    } catch {
      // As above.
    }
  }
}

/** The browser's family, by which the gateway's policy tells whether WebTransport suits it. */
function engine() {
  const userAgent = globalThis.navigator?.userAgent ?? "";
  if (/(Chrome|Chromium)\//.test(userAgent)) return "chromium";
  if (/Firefox\//.test(userAgent)) return "firefox";
  return "safari"; // on iOS everything is; whatever else there may be goes by the strictest rule
}
