// What the page tells a connection: it is seen again, the network is back, it is about to go.
// Where there is no page, nothing is told.

/**
 * @param {object} listeners
 * @param {() => void} listeners.doubt the connection may be gone, and a new one possible
 * @param {() => void} listeners.leave the page goes, perhaps for ever
 * @param {() => void} listeners.comeBack it has been brought back as it was
 * @returns {() => void} ends it
 */
export function watchSurroundings({ doubt, leave, comeBack }) {
  const ended = new AbortController();
  const { document, addEventListener } = globalThis;
  if (!document || !addEventListener) return () => {};
  const { signal } = ended;
  const seen = () => {
    if (!document.hidden) doubt();
  };
  document.addEventListener("visibilitychange", seen, { signal });
  document.addEventListener("resume", doubt, { signal }); // Chromium froze the tab and thaws it
  addEventListener("online", doubt, { signal });
  addEventListener("pagehide", leave, { signal });
  addEventListener("pageshow", ({ persisted }) => persisted && comeBack(), { signal });
  return () => ended.abort();
}
