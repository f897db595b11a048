// How long to stay away: longer after every try that led nowhere, and never the same for
// everybody, so that a thousand clients do not come back as one.

const FIRST_MS = 500;
const LONGEST_MS = 30_000;
/** How long a connection must have lasted for the next wait to be short again. */
const STABLE_MS = 30_000;

export class BackOff {
  #tries = 0;
  #since = Infinity;

  /** It is live now. */
  live() {
    this.#since = Date.now();
  }

  /** It is over; the next wait in ms, anything up to twice the longest that the last could be. */
  next() {
    if (Date.now() - this.#since >= STABLE_MS) this.#tries = 0;
    this.#since = Infinity;
    return Math.random() * Math.min(FIRST_MS * 2 ** this.#tries++, LONGEST_MS);
  }
}
