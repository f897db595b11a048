// Whether the other side is still there, by what the protocol owes us.
//
// A blocked write tells nothing, for browsers buffer megabytes. What tells is an answer that does
// not come: while one is owed, something must arrive every now and then. When nothing is owed, a
// ping after some silence makes that an answer is.
//
//     silence for `heartbeat`              a ping, so something is owed
//     owed, silent for half of `patience`  a ping, for the room may be busy but the gateway not
//     owed, silent for `patience`          it is gone
//
// A timer that comes late tells that this machine slept, or its clock was moved. Then nothing is
// concluded from silence: it is asked at once instead.

/** How long a check may take whose cause makes one doubt the connection. */
const CHECK_MS = 5_000;
/** How often one looks whether the clock has jumped. */
const LOOK_MS = 5_000;
/** A timer later than this was not just waiting for its turn. */
const LATE_MS = 3_000;

export class Liveness {
  #patience;
  #allowed;
  #heartbeat;
  #owes;
  #ping;
  #gone;
  #heardAt = Date.now();
  /** Since when something is owed. */
  #owedAt = 0;
  #isPinged = false;
  /** Whether it is silent because somebody doubted, not because it went still by itself. */
  #isDoubted = false;
  /** @type {any} */
  #timer;
  #dueAt = 0;
  #isStopped = false;

  /**
   * @param {object} options
   * @param {number} options.heartbeat
   * @param {number} options.patience
   * @param {() => boolean} options.owes whether an answer is owed, pings aside
   * @param {() => void} options.ping
   * @param {(isDoubted: boolean) => void} options.gone whether something outside made one doubt it
   */
  constructor({ heartbeat, patience, owes, ping, gone }) {
    this.#heartbeat = heartbeat;
    this.#patience = this.#allowed = patience;
    this.#owes = owes;
    this.#ping = ping;
    this.#gone = gone;
    this.#look();
  }

  /** Something has arrived. */
  heard() {
    this.#heardAt = Date.now();
    this.#allowed = this.#patience;
    this.#isDoubted = false;
    if (!this.#owes()) this.#owedAt = 0;
  }

  /**
   * The gateway has said after how much silence to ping.
   * @param {number} ms
   */
  set heartbeat(ms) {
    this.#heartbeat = ms;
    this.#look();
  }

  /** The pong has arrived. */
  answered() {
    this.#isPinged = false;
    this.#owedAt = this.#owes() ? Date.now() : 0;
    this.#look();
  }

  /** Something was asked. */
  asked() {
    this.#owedAt ||= Date.now();
    this.#look();
  }

  /** Is it there? An answer is due soon. */
  check() {
    if (this.#isStopped) return;
    this.#heardAt = this.#owedAt = Date.now();
    this.#allowed = Math.min(this.#patience, CHECK_MS);
    this.#isPinged = this.#isDoubted = true;
    this.#ping();
    this.#look();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#isStopped = true;
  }

  /** @returns {void} */
  #look() {
    clearTimeout(this.#timer);
    if (this.#isStopped) return;
    const now = Date.now();
    const isOwed = this.#isPinged || this.#owes();
    if (isOwed) this.#owedAt ||= now;
    const since = Math.max(this.#heardAt, isOwed ? this.#owedAt : 0);
    const due = since + (!isOwed ? this.#heartbeat : this.#isPinged ? this.#allowed : this.#patience / 2);
    if (now >= due && isOwed && this.#isPinged) return this.#gone(this.#isDoubted);
    if (now >= due) {
      if (!isOwed) this.#owedAt = now;
      this.#isPinged = true;
      this.#ping();
      return this.#look();
    }
    this.#dueAt = now + Math.min(due - now, LOOK_MS);
    this.#timer = setTimeout(() => {
      const late = Date.now() - this.#dueAt;
      if (Math.abs(late) > LATE_MS) this.check();
      else this.#look();
    }, this.#dueAt - now);
  }
}
