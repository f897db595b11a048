// The ways into a gateway, and which of them to take.
//
// A *link* is what any transport gives a connection, and all that a connection knows of it:
//
//     transport   "webtransport" or "websocket"
//     ready       resolves when it is open; rejects when it will not be
//     closed      resolves with { code?, reason? } when it is over
//     onframe     called with every object that arrives
//     send(frame) takes an object; silently lost on a link that is over
//     sendLossy(frame)
//                 the same for what may be lost on the way, and should be rather than wait
//     close(code) 1000 gives the seat up; without a code the seat is kept for a while
//
// Every opening asks the gateway first how it wants to be reached. That also tells whether it
// is there at all: browsers punish a page for each WebTransport handshake that fails, so a
// gateway that restarts must not be knocked at that way.

import { openWithin, race } from "./race.js";
import { openWebSocket } from "./websocket.js";
import { openWebTransport } from "./webtransport.js";

const DISCOVERY_TIMEOUT_MS = 5_000;
const WEBSOCKET_TIMEOUT_MS = 10_000;

export class Doors {
  #base;
  /** Times that WebSocket opened although WebTransport had the head start. */
  #losses = 0;

  /** @param {string} base the gateway's address, as in `https://chat.example` */
  constructor(base) {
    this.#base = new URL(base);
  }

  /**
   * Opens a link into `room`.
   *
   * @param {string} room
   * @param {"auto" | "webtransport" | "websocket"} choice
   */
  async open(room, choice) {
    const gateway = await this.#discover();
    const path = `/rooms/${encodeURIComponent(room)}`;
    const policy = gateway.policy ?? {};
    const readyTimeout = policy.ready_timeout_ms ?? 3_000;

    const websocket = () => {
      const url = new URL(`${path}/ws`, this.#base);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      return openWebSocket(url.href);
    };
    const webtransport = () =>
      openWebTransport(new URL(`${path}/wt`, gateway.webtransport.url).href, gateway.webtransport.certificate_hashes);

    if (choice === "webtransport") {
      if (!("WebTransport" in globalThis)) throw new Error("this browser has no WebTransport here");
      if (!gateway.webtransport) throw new Error("this gateway offers no WebTransport");
      return openWithin(webtransport, readyTimeout).catch((cause) => {
        throw new Error("WebTransport does not open; UDP may be blocked on the way", { cause });
      });
    }
    const failed = this.#losses >= (policy.failures_before_websocket ?? 2);
    if (choice === "websocket" || failed || !gateway.webtransport || !suits(policy.webtransport)) {
      return openWithin(websocket, WEBSOCKET_TIMEOUT_MS);
    }
    const link = await race(webtransport, websocket, {
      headStart: policy.head_start_ms ?? 200,
      firstTimeout: readyTimeout,
      secondTimeout: WEBSOCKET_TIMEOUT_MS,
    });
    this.#losses = link.transport === "websocket" ? this.#losses + 1 : 0;
    return link;
  }

  async #discover() {
    const url = new URL("/.well-known/dormouse", this.#base);
    try {
      const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(DISCOVERY_TIMEOUT_MS) });
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      return await answer.json();
    } catch (cause) {
      throw new Error("the gateway cannot be reached", { cause });
    }
  }
}

/** Whether the gateway's policy lets this browser use WebTransport. */
function suits(policy = {}) {
  return "WebTransport" in globalThis && policy[engine()] === true;
}

function engine() {
  const agent = navigator.userAgent;
  if (/(Chrome|Chromium)\//.test(agent)) return "chromium";
  if (/Firefox\//.test(agent)) return "firefox";
  return "safari"; // on iOS everything is; whatever else there may be goes by the strictest rule
}
