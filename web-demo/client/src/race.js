// Two ways in, one winner.
//
// WebTransport starts; WebSocket follows after a head start, or at once when WebTransport fails.
// The first to open wins and the other is closed before it has said a word, so the gateway
// never seats anybody twice.

/** @import {Link} from "./doors.js" */

/**
 * What opens, or does not.
 * @typedef {{ ready: Promise<unknown>, close: () => void }} Opening
 */

/**
 * A try to open something in one way.
 *
 * @template {Opening} T
 * @typedef {object} Attempt
 * @property {() => Promise<T>} begin begins, when it is called first; gives what is open, and
 *   rejects with a message that names the way when it does not open in time
 * @property {(taken?: object) => void} drop closes it, unless it is the one that is taken; what has
 *   not begun will not
 */

/**
 * @template {Opening} T
 * @param {string} name of the way
 * @param {() => T} open
 * @param {object} options
 * @param {number} options.timeout in ms; browsers themselves may take 30 s
 * @param {string} [options.hint] why nothing may have answered
 * @param {AbortSignal} options.signal drops it
 * @returns {Attempt<T>}
 */
export function attempt(name, open, { timeout, hint = "", signal }) {
  /** @type {T | undefined} */
  let opening;
  /** @type {Promise<T> | undefined} */
  let opened;
  let isDropped = signal.aborted;
  const run = async () => {
    /** @type {any} */
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`nothing answered in time${hint}`)), timeout);
    });
    try {
      if (isDropped) throw new Error("not tried");
      opening = open();
      await Promise.race([opening.ready, late]);
      return opening;
    } catch (/** @type {any} */ cause) {
      opening?.close();
      throw new Error(`${name}: ${cause?.message || cause}`, { cause });
    } finally {
      clearTimeout(timer);
    }
  };
  const drop = (/** @type {object | undefined} */ taken = undefined) => {
    isDropped = true;
    if (opening !== taken) opening?.close();
  };
  signal.addEventListener("abort", drop);
  return { begin: () => (opened ??= run()), drop };
}

/**
 * Opens a link by whichever way is faster; rejects when neither opens. The second may have begun
 * before: then it is taken at the end of the head start, or when the first has failed.
 * @param {Attempt<Link>} first the preferred way
 * @param {Attempt<Link>} second the other
 * @param {number} headStart in ms
 */
export async function race(first, second, headStart) {
  const winner = (await within(headStart, first.begin())) ?? (await Promise.any([first.begin(), second.begin()]));
  first.drop(winner);
  second.drop(winner);
  return winner;
}

/**
 * What `promise` gives, or undefined when it fails or takes longer.
 * @template T
 * @param {number} ms
 * @param {Promise<T>} promise
 * @returns {Promise<T | undefined>}
 */
export async function within(ms, promise) {
  /** @type {any} */
  let timer;
  const late = new Promise((/** @type {(value: any) => void} */ resolve) => (timer = setTimeout(resolve, ms)));
  return Promise.race([promise.catch(() => {}), late]).finally(() => clearTimeout(timer));
}
