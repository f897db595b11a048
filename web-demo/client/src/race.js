// Two ways in, one winner.
//
// WebTransport starts; WebSocket follows after a head start, or at once when WebTransport fails.
// The first to open wins and the other is closed before it has said a word, so the gateway
// never seats anybody twice.

/** @import {Link} from "./doors.js" */

/**
 * Opens a link by whichever way is faster; rejects when neither opens.
 * @param {() => Link} first the preferred way
 * @param {() => Link} second the other
 * @param {{ headStart: number, firstTimeout: number, secondTimeout: number }} times in ms
 * @param {AbortSignal} signal closes both
 */
export async function race(first, second, { headStart, firstTimeout, secondTimeout }, signal) {
  const preferred = attempt(first, firstTimeout, signal);
  /** @type {any} */
  let timer;
  const started = new Promise((resolve) => (timer = setTimeout(resolve, headStart)));
  const early = await Promise.race([preferred.opened.catch(() => {}), started]);
  clearTimeout(timer);
  if (early) return /** @type {Link} */ (early);

  const other = attempt(second, secondTimeout, signal);
  const winner = await Promise.any([preferred.opened, other.opened]);
  (winner === preferred.link ? other : preferred).link?.close();
  return winner;
}

/**
 * Opens a link one way, or fails within `timeout` ms: browsers themselves may take 30 s.
 * @param {() => Link} open
 * @param {number} timeout
 * @param {AbortSignal} signal closes it
 */
export function openWithin(open, timeout, signal) {
  return attempt(open, timeout, signal).opened;
}

/**
 * @param {() => Link} open
 * @param {number} timeout
 * @param {AbortSignal} signal
 */
function attempt(open, timeout, signal) {
  /** @type {Link | undefined} */
  let link;
  /** @type {any} */
  let timer;
  const opened = new Promise((/** @type {(link: Link) => void} */ resolve, reject) => {
    signal.throwIfAborted();
    signal.addEventListener("abort", () => reject(signal.reason));
    const opening = (link = open());
    timer = setTimeout(() => reject(new Error("nothing answered in time")), timeout);
    opening.ready.then(() => resolve(opening), reject);
  });
  opened.then(
    () => clearTimeout(timer),
    () => {
      clearTimeout(timer);
      link?.close();
    },
  );
  return { link, opened };
}
