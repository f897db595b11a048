// A link over WebTransport: frames on the first bidirectional stream that we open, and what may
// be lost in datagrams of one JSON object each.
//
// The browser learns a close code from nobody here; what must be known is said in-band. When the
// stream ends the link has ended.

import { FrameReader, encodeFrame } from "./framing.js";

/** A datagram of this size gets through, whatever the path; a larger one is dropped unsaid. */
const DATAGRAM_BYTES = 1_150;

const utf8 = new TextEncoder();
const text = new TextDecoder();

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
  let datagrams = null;

  const link = {
    transport: "webtransport",
    onframe: null,
    ready: open(),
    closed: null,
    send(frame) {
      writer?.write(encodeFrame(frame)).catch(() => {}); // `closed` tells
    },
    sendLossy(frame) {
      const bytes = utf8.encode(JSON.stringify(frame));
      if (bytes.length > DATAGRAM_BYTES) link.send(frame);
      else datagrams?.write(bytes).catch(() => {});
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
    const { datagrams: both } = transport;
    datagrams = (both.createWritable?.() ?? both.writable).getWriter();
    datagrams.closed.catch(() => {});
    receiveDatagrams(both.readable.getReader()).catch(() => {}); // `closed` tells
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

  async function receiveDatagrams(reader) {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const frame = parse(value);
      if (frame) link.onframe?.(frame);
    }
  }
}

/** A datagram's object; what cannot be read is lost like any other. */
function parse(bytes) {
  try {
    return JSON.parse(text.decode(bytes));
  } catch {
    return null;
  }
}
