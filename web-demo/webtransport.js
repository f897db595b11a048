// A link over WebTransport: frames on the first bidirectional stream that we open.
//
// The browser learns a close code from nobody here; what must be known is said in-band. When the
// stream ends the link has ended.

import { FrameReader, encodeFrame } from "./framing.js";

/** Opens a link; see doors.js for what a link is. `hashes` are base64, of certificates to trust. */
export function openWebTransport(url, hashes = []) {
  const options = { protocols: ["dormouse.v1"] };
  // An empty list would trust nobody: leave it out and the browser checks the certificate itself.
  if (hashes.length > 0) {
    options.serverCertificateHashes = hashes.map((hash) => ({
      algorithm: "sha-256",
      value: Uint8Array.from(atob(hash), (char) => char.charCodeAt(0)),
    }));
  }
  const transport = new WebTransport(url, options);
  let writer = null;

  const link = {
    transport: "webtransport",
    onframe: null,
    ready: open(),
    closed: null,
    send(frame) {
      writer?.write(encodeFrame(frame)).catch(() => {}); // `closed` tells
    },
    close(code) {
      try {
        transport.close(code === undefined ? undefined : { closeCode: code, reason: "" });
      } catch {
        // It was closed already, or not open yet in a browser that minds.
      }
    },
  };
  link.closed = link.ready.then(receive).then(
    () => ({}),
    (error) => ({ reason: String(error?.message ?? error) }),
  );
  link.ready.catch(() => {}); // whoever lost the race has no more listeners
  transport.closed.catch(() => {});
  return link;

  async function open() {
    await transport.ready;
    const stream = await transport.createBidirectionalStream();
    writer = stream.writable.getWriter();
    writer.closed.catch(() => {});
    return stream.readable.getReader();
  }

  async function receive(reader) {
    const frames = new FrameReader();
    // Firefox does not always fail a pending read when the session ends.
    const gone = transport.closed.then(() => ({ done: true }));
    try {
      for (;;) {
        const { done, value } = await Promise.race([reader.read(), gone]);
        if (done) return;
        for (const frame of frames.push(value)) link.onframe?.(frame);
      }
    } finally {
      link.close();
    }
  }
}
