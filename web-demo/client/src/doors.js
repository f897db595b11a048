// The ways into a gateway, and which of them to take.
//
// Every opening asks the gateway first how it wants to be reached. That also tells whether it
// is there at all: browsers punish a page for each WebTransport handshake that fails, so a
// gateway that restarts must not be knocked at that way.
//
// Where WebTransport has lost twice in a row, or has stalled, it is not tried for a day; that is
// remembered where pages remember things, for every page of the same origin.

/** @import {Transport} from "../dormouse.js" */
/** @import {Body, Frame} from "./framing.js" */
import { DormouseError } from "./errors.js";
import { openWithin, race } from "./race.js";
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

const DISCOVERY_TIMEOUT_MS = 5_000;
const WEBSOCKET_TIMEOUT_MS = 10_000;
const DAY_MS = 24 * 3_600_000;
/** More losses than any policy forgives. */
const GIVEN_UP = 99;

export class Doors {
  #base;
  #WebSocket;
  #WebTransport;
  #slot;
  /** In a row, with the time of the last: how often WebSocket was there first. */
  #losses = { count: 0, at: 0 };

  /**
   * @param {URL} base the gateway's address
   * @param {{ WebSocket: any, WebTransport?: any }} transports
   */
  constructor(base, { WebSocket, WebTransport }) {
    this.#base = base;
    this.#WebSocket = WebSocket;
    this.#WebTransport = WebTransport;
    this.#slot = `dormouse.losses ${base.origin}`;
  }

  /**
   * Opens a link into `room`.
   * @param {string} room
   * @param {"auto" | Transport} choice
   * @param {boolean} hasStalled WebTransport opened the last time and then came to a halt
   * @param {AbortSignal} signal gives it up: no request and no socket stays open, and none follows
   */
  async open(room, choice, hasStalled, signal) {
    const gateway = await this.#discover(signal);
    const path = `/rooms/${encodeURIComponent(room)}`;
    const { url: address, certificate_hashes: hashes } = gateway.webtransport ?? {};
    const policy = gateway.policy ?? {};
    const readyTimeout = policy.ready_timeout_ms ?? 3_000;

    const websocket = () => {
      const url = new URL(`${path}/ws`, this.#base);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      return openWebSocket(url.href, this.#WebSocket);
    };
    const webtransport = () => openWebTransport(new URL(`${path}/wt`, address).href, this.#WebTransport, hashes);

    if (choice === "webtransport") {
      if (!this.#WebTransport) throw unreachable("there is no WebTransport here; it needs a secure context");
      if (!address) throw unreachable("this gateway offers no WebTransport");
      return openWithin(webtransport, readyTimeout, signal).catch((cause) => {
        throw unreachable("WebTransport does not open; UDP may be blocked on the way", cause);
      });
    }
    const suits = this.#WebTransport && address && policy.webtransport?.[engine()] === true;
    const hasFailed = this.#recall() >= (policy.failures_before_websocket ?? 2);
    const opening = async () => {
      if (choice === "websocket" || !suits || hasFailed || hasStalled) {
        const link = await openWithin(websocket, WEBSOCKET_TIMEOUT_MS, signal);
        // So the network was not to blame.
        if (hasStalled) this.#remember(GIVEN_UP);
        return link;
      }
      const link = await race(webtransport, websocket, {
        headStart: policy.head_start_ms ?? 200,
        firstTimeout: readyTimeout,
        secondTimeout: WEBSOCKET_TIMEOUT_MS,
      }, signal);
      this.#remember(link.transport === "websocket" ? this.#recall() + 1 : 0);
      return link;
    };
    return opening().catch((cause) => {
      throw unreachable("the gateway answers, but lets nobody in; it may be full, or not know this page's origin", cause);
    });
  }

  /** @param {AbortSignal} signal */
  async #discover(signal) {
    const url = new URL("/.well-known/dormouse", this.#base);
    const late = AbortSignal.timeout(DISCOVERY_TIMEOUT_MS);
    try {
      // A browser without `any` ends a request that is given up when it is late.
      const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.any?.([signal, late]) ?? late });
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      return await answer.json();
    } catch (cause) {
      throw unreachable("the gateway cannot be reached", cause);
    }
  }

  #recall() {
    try {
      const kept = localStorage.getItem(this.#slot);
      if (kept) this.#losses = JSON.parse(kept);
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

/**
 * @param {string} message
 * @param {unknown} [cause]
 */
function unreachable(message, cause) {
  return new DormouseError("unreachable", message, { cause });
}

/** The browser's family, by which the gateway's policy tells whether WebTransport suits it. */
function engine() {
  const userAgent = globalThis.navigator?.userAgent ?? "";
  if (/(Chrome|Chromium)\//.test(userAgent)) return "chromium";
  if (/Firefox\//.test(userAgent)) return "firefox";
  return "safari"; // on iOS everything is; whatever else there may be goes by the strictest rule
}
