// A link over WebSocket: one body per message.

/** @import {Link} from "./doors.js" */
import { decode } from "./framing.js";

/** Bytes on their way beyond which what may be lost waits. */
const BUSY_BYTES = 16 * 1024;

/**
 * @param {string} url
 * @param {typeof WebSocket} WebSocket
 * @returns {Link}
 */
export function openWebSocket(url, WebSocket) {
  const socket = new WebSocket(url, "dormouse.v1");
  socket.binaryType = "arraybuffer";
  let isOpen = false;

  /** @type {Link} */
  const link = {
    transport: "websocket",
    onframe: () => {},
    ready: new Promise((resolve, reject) => {
      socket.addEventListener("open", () => {
        isOpen = true;
        resolve();
      });
      const fail = (/** @type {any} */ { message }) => reject(new Error(message || "it did not open; is this page's origin allowed?"));
      // Of a WebSocket that the page's policy forbids Chromium tells an error and no close.
      socket.addEventListener("error", fail);
      socket.addEventListener("close", fail);
    }),
    closed: new Promise((resolve) => {
      socket.addEventListener("close", ({ code, reason }) => {
        isOpen = false;
        resolve({ code, reason });
      });
    }),
    send(body) {
      if (isOpen) socket.send(/** @type {any} */ (body));
    },
    sendLossy(body) {
      if (socket.bufferedAmount >= BUSY_BYTES) return false;
      link.send(body);
      return true;
    },
    close(code) {
      isOpen = false;
      socket.close(code);
    },
  };
  link.ready.catch(() => {}); // whoever lost the race has no more listeners

  socket.addEventListener("message", ({ data }) => {
    /** @type {import("./framing.js").Frame} */
    let frame;
    try {
      frame = decode(data);
    } catch {
      return link.close(); // that is no gateway; the next try may find one
    }
    link.onframe(frame);
  });
  return link;
}
