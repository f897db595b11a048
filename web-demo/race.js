// Two ways in, one winner.
//
// WebTransport starts; WebSocket follows after a head start, or at once when WebTransport fails.
// The first to open wins and the other is closed before it has said a word, so the gateway
// never seats anybody twice.

/**
 * Opens a link by whichever way is faster.
 *
 * @param {() => Link} first the preferred way
 * @param {() => Link} second the other
 * @param {{headStart: number, firstTimeout: number, secondTimeout: number}} times in ms
 * @returns {Promise<Link>} rejects when neither opens
 */
export async function race(first, second, { headStart, firstTimeout, secondTimeout }) {
  const preferred = attempt(first, firstTimeout);
  await Promise.race([preferred.outcome, sleep(headStart)]);
  if (preferred.isOpen) return preferred.link;

  const other = attempt(second, secondTimeout);
  try {
    const winner = await Promise.any([preferred.opened, other.opened]);
    (winner === preferred.link ? other : preferred).abandon();
    return winner;
  } catch (none) {
    throw new Error("the gateway cannot be reached", { cause: none });
  }
}

/** Opens a link one way, or fails within `timeout` ms: browsers themselves may take 30 s. */
export function openWithin(open, timeout) {
  return attempt(open, timeout).opened;
}

function attempt(open, timeout) {
  const it = { link: null, isOpen: false, opened: null, outcome: null, abandon };
  it.opened = (async () => {
    it.link = open();
    const timer = sleep(timeout).then(() => Promise.reject(new Error("nothing answered in time")));
    try {
      await Promise.race([it.link.ready, timer]);
    } catch (error) {
      abandon();
      throw error;
    }
    it.isOpen = true;
    return it.link;
  })();
  it.outcome = it.opened.catch(() => {});
  return it;

  function abandon() {
    it.link?.close();
  }
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
