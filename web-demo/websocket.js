// A link over WebSocket: one JSON object per text frame.

import { decodeBinary } from "./framing.js";

/** Bytes on their way beyond which what may be lost is. */
const BUSY_BYTES = 16 * 1024;

/** Opens a link; see doors.js for what a link is. */
export function openWebSocket(url) {
  const socket = new WebSocket(url, "dormouse.v1");
  socket.binaryType = "arraybuffer";

  const link = {
    transport: "websocket",
    onframe: null,
    ready: new Promise((resolve, reject) => {
      socket.addEventListener("open", () => resolve());
      socket.addEventListener("close", () => reject(new Error("WebSocket did not open")));
    }),
    closed: new Promise((resolve) => {
      socket.addEventListener("close", ({ code, reason }) => resolve({ code, reason }));
    }),
    send(frame) {
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
    },
    sendLossy(frame) {
      if (socket.bufferedAmount < BUSY_BYTES) link.send(frame);
    },
    close(code) {
      if (code === undefined) socket.close();
      else socket.close(code);
    },
  };
  link.ready.catch(() => {}); // whoever lost the race has no more listeners

  socket.addEventListener("message", ({ data }) => {
    try {
      link.onframe?.(typeof data === "string" ? JSON.parse(data) : decodeBinary(new Uint8Array(data)));
    } catch (error) {
      console.error("dormouse: a frame that cannot be read", error);
      socket.close();
    }
  });
  return link;
}
