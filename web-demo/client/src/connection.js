// One connection to one room: links come and go, and it says `hello` on each.
//
//     connecting ──▶ live ◀──▶ reconnecting       paused: let go of, until told otherwise
//                                                 closed: for good, by us or by the gateway
//
// - It comes back by itself unless told not to: at the moment that the gateway named, else after
//   a wait that grows and is different for everybody.
// - A WebTransport link that stalls is replaced by a WebSocket at once. It is the network's fault
//   and not WebTransport's if that does not open either.
// - It knows links and time. What is said, and where in the log one is, is the room's affair.

/** @import {Status, Transport} from "../dormouse.js" */
/** @import {Doors, Link} from "./doors.js" */
/** @import {Body, Frame} from "./framing.js" */
import { BackOff } from "./backoff.js";
import { AUTH_FAILED, CLOSE_REASONS, CloseError, DormouseError, RequestError, TOKEN_EXPIRED } from "./errors.js";
import { encode } from "./framing.js";
import { Liveness } from "./liveness.js";

/** For how long something may be owed without anything arriving. */
const PATIENCE_MS = { webtransport: 5_000, websocket: 10_000 };
/** Until the gateway has said better. */
const HEARTBEAT_MS = 25_000;
/** The least wait after a close that says "later". */
const LATER_MS = 1_000;
/** How long to wait for the answer to a goodbye. */
const GOODBYE_MS = 1_000;

/**
 * What a connection needs of its room.
 *
 * @typedef {object} House
 * @property {() => Promise<Body>} hello the first frame of the next link
 * @property {(frame: Frame) => void} welcome there is a seat
 * @property {(frame: Frame) => void} take any other frame
 * @property {() => void} lost the link is gone
 * @property {() => boolean} owes whether answers are owed
 * @property {() => boolean} renews whether the next hello will bring another token
 * @property {(status: Status) => void} tell
 * @property {(error: DormouseError | null) => void} ended it will not come back; null: as wanted
 */

/** @typedef {{ error?: DormouseError, delay?: number, isMove?: boolean, isFinal?: boolean, hasStalled?: boolean }} Ending */

export class Connection {
  #doors;
  #room;
  #house;
  #choice;
  /** What was decided last; "off" until it is started, and when it has ended. @type {"on" | "paused" | "off"} */
  mode = "off";
  /** @type {Link | undefined} */
  #link;
  isSeated = false;
  /** @type {Liveness | undefined} */
  #liveness;
  /** @type {(ending?: Ending) => void} */
  #over = () => {};
  /** @type {(isForced: boolean) => void} */
  #wake = () => {};
  /** @type {Promise<void> | undefined} */
  #running;
  #backOff = new BackOff();
  #pings = 0;
  #pingedAt = 0;
  /** @type {number | undefined} */
  rtt;

  /**
   * @param {Doors} doors
   * @param {string} room
   * @param {"auto" | Transport} choice
   * @param {House} house
   */
  constructor(doors, room, choice, house) {
    this.#doors = doors;
    this.#room = room;
    this.#choice = choice;
    this.#house = house;
  }

  /** @param {Body} body lost when there is no seat */
  send(body) {
    if (!this.isSeated) return;
    this.#link?.send(body);
    this.#liveness?.asked();
  }

  /** @param {Body} body */
  sendLossy(body) {
    return !this.isSeated || !this.#link || this.#link.sendLossy(body);
  }

  /** Connects, or comes back now, whatever it was waiting for. */
  start() {
    this.mode = "on";
    this.#wake(true);
    this.#running ??= this.#runOn();
  }

  pause() {
    if (this.mode === "on") this.mode = "paused";
    this.#over({ isMove: true });
    this.#wake(true);
  }

  /** @param {"auto" | Transport} choice */
  use(choice) {
    this.#choice = choice;
    this.#over({ isMove: true });
    this.#wake(false);
  }

  /** It may be gone, or possible again. */
  doubt() {
    this.#liveness?.check();
    this.#wake(false);
  }

  /** Gives the seat up; resolves when the gateway has agreed, or soon after. */
  async close() {
    this.mode = "off";
    this.#wake(true);
    if (!this.isSeated) this.#over();
    this.send(encode({ type: "bye" }));
    const timer = setTimeout(() => this.#over(), GOODBYE_MS);
    await this.#running;
    clearTimeout(timer);
  }

  async #runOn() {
    // The application listens first, and what it decides in the same turn counts: nothing is
    // opened for a connection that is closed or paused in the turn of its start.
    await undefined;
    do await this.#run();
    while (this.mode !== "off"); // it was started again by a listener that was told of its end
    this.#running = undefined;
  }

  async #run() {
    /** @type {Ending} */
    let ending = {};
    for (let isFirst = true; ; isFirst = false) {
      while (this.mode === "paused") {
        await this.#rest(Infinity, true, { state: "paused", transport: null });
        ending = {};
      }
      if (this.mode === "off") return this.#end(null);
      ending = await this.#visit({ state: isFirst ? "connecting" : "reconnecting", transport: null, error: ending.error }, ending.hasStalled);
      if (this.mode !== "on" || ending.isMove) continue;
      const { error } = ending;
      const { advice, closeCode } = /** @type {Partial<CloseError>} */ (error ?? {});
      if (ending.isFinal || advice === "never") {
        const isToken = closeCode === AUTH_FAILED || closeCode === TOKEN_EXPIRED;
        if (!(isToken && this.#house.renews())) return this.#end(error ?? null);
      }
      const least = advice === "later" ? LATER_MS : 0;
      const wait = ending.delay ?? Math.max(least, this.#backOff.next());
      await this.#rest(wait, ending.delay !== undefined, { state: "reconnecting", transport: null, error, retryIn: wait });
    }
  }

  /** @param {DormouseError | null} error */
  #end(error) {
    this.mode = "off";
    this.#house.ended(error);
    this.#house.tell({ state: "closed", transport: null, error: error ?? undefined });
  }

  /**
   * Opens a link, lives on it until it is over, and says how it ended.
   * @param {Status} status told first
   * @param {boolean} [hasStalled]
   * @returns {Promise<Ending>}
   */
  async #visit(status, hasStalled = false) {
    const stop = new AbortController();
    const { signal } = stop;
    const givenUp = new Promise((/** @type {(ending: Ending) => void} */ resolve) => {
      this.#over = () => {
        stop.abort();
        resolve({ isMove: true });
      };
    });
    this.#house.tell(status);
    const visit = async () => {
      signal.throwIfAborted(); // a listener has decided otherwise
      const hello = await this.#house.hello();
      const link = await this.#doors.open(this.#room, this.#choice, hasStalled, signal);
      if (!signal.aborted) return this.#live(link, hello);
      link.close();
      return {};
    };
    const ending = visit().catch((error) => ({
      error: error instanceof DormouseError ? error : new DormouseError("failed", String(error), { cause: error }),
    }));
    return Promise.race([givenUp, ending]);
  }

  /**
   * @param {Link} link
   * @param {Body} hello
   * @returns {Promise<Ending>}
   */
  #live(link, hello) {
    return new Promise((resolve) => {
      /** @type {Ending} what the gateway has said of it so far */
      const said = {};
      const ping = () => {
        this.#pingedAt = performance.now();
        link.send(encode({ type: "ping", id: ++this.#pings }));
      };
      const liveness = new Liveness({
        heartbeat: HEARTBEAT_MS,
        patience: PATIENCE_MS[link.transport],
        owes: () => !this.isSeated || this.#house.owes(),
        ping,
        gone: (isDoubted) => {
          const hasStalled = link.transport === "webtransport" && this.#choice === "auto" && !isDoubted;
          const error = new DormouseError("stalled", "the gateway no longer answers");
          this.#over({ error, hasStalled, isMove: hasStalled });
        },
      });

      this.#link = link;
      this.#liveness = liveness;
      this.#over = (ending = {}) => {
        this.#over = () => {};
        this.#link = this.#liveness = undefined;
        this.isSeated = false;
        liveness.stop();
        link.close(this.mode === "off" ? 1000 : undefined);
        this.#house.lost();
        resolve({ ...said, ...ending });
      };
      link.closed.then(({ code = 0 }) => {
        if (this.#link !== link) return;
        const isOurs = code >= 4000 && code in CLOSE_REASONS;
        this.#over({ error: isOurs ? new CloseError(code) : new DormouseError("lost", "the connection was lost") });
      });

      link.onframe = (frame) => {
        if (this.#link !== link) return; // frames that overtook our own closing
        if (!frame.lossy) liveness.heard();
        switch (frame.type) {
          case "welcome":
            this.isSeated = true;
            liveness.heartbeat = frame.heartbeat ?? HEARTBEAT_MS;
            return this.#house.welcome(frame);
          case "live":
            this.#backOff.live();
            this.#house.take(frame);
            if (this.#link !== link) return; // a listener has let go of it
            this.#house.tell({ state: "live", transport: link.transport });
            return ping(); // to know the round trip
          case "pong":
            if (frame.id === this.#pings) this.rtt = performance.now() - this.#pingedAt;
            return liveness.answered();
          case "drain":
            said.delay = frame.reconnect_after;
            return;
          case "close":
            said.error = new CloseError(frame.code, frame.reason, frame.retry_after);
            said.delay ??= frame.retry_after;
            return this.#over();
          case "error":
            if (this.isSeated) break;
            // A hello that is refused will be refused again, unless it is told when.
            return this.#over({
              error: new RequestError(frame.code, frame.reason),
              delay: frame.retry_after,
              isFinal: frame.retry_after === undefined,
            });
        }
        this.#house.take(frame);
      };
      link.send(hello);
    });
  }

  /**
   * @param {number} ms
   * @param {boolean} isFirm whether only a decision ends it early
   * @param {Status} status told meanwhile; a listener may end it
   */
  #rest(ms, isFirm, status) {
    return new Promise((/** @type {(value: void) => void} */ resolve) => {
      const timer = ms < Infinity ? setTimeout(resolve, ms) : undefined;
      this.#wake = (isForced) => {
        if (isFirm && !isForced) return;
        clearTimeout(timer);
        resolve();
      };
      this.#house.tell(status);
    });
  }
}
