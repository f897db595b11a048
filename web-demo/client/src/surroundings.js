// The platform: what of it there must be, and what it tells a connection. A page is seen again or
// is about to go, the network is back; where there is no page, as in a worker, the rest is told.

import { DormouseError } from "./errors.js";

/** Without these nothing works. Of all else a platform may have the client does without. */
const NEEDED = "AbortController TextDecoder TextEncoder URL atob performance queueMicrotask setTimeout clearTimeout";

/** Throws `unsupported` where something is missing that there must be. */
export function checkPlatform() {
  for (const name of NEEDED.split(" ")) {
    if (!(/** @type {any} */ (globalThis)[name])) throw new DormouseError("unsupported", `there is no ${name} here`);
  }
}

/**
 * @param {object} listeners
 * @param {() => void} listeners.doubt the connection may be gone, and a new one possible
 * @param {() => void} listeners.leave the page goes, perhaps for ever
 * @param {() => void} listeners.comeBack it has been brought back as it was
 * @returns {() => void} ends it
 */
export function watchSurroundings({ doubt, leave, comeBack }) {
  const ended = new AbortController();
  const { signal } = ended;
  const { document } = globalThis;
  const seen = () => {
    if (!document.hidden) doubt();
  };
  const on = (/** @type {any} */ target, /** @type {string} */ type, /** @type {(event: any) => void} */ listener) =>
    target?.addEventListener?.(type, listener, { signal });
  on(document, "visibilitychange", seen);
  on(document, "resume", doubt); // Chromium froze the tab and thaws it
  on(globalThis, "online", doubt);
  on(globalThis, "pagehide", leave);
  on(globalThis, "pageshow", ({ persisted }) => persisted && comeBack());
  return () => ended.abort();
}
