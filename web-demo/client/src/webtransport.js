// A link over WebTransport: bodies on the first bidirectional stream that we open, and what may
// be lost in datagrams of one JSON object each.
//
// The browser learns a close code from nobody here; what must be known is said in-band. When the
// stream ends the link has ended.

/** @import {Link} from "./doors.js" */
/** @import {Frame} from "./framing.js" */
import { FrameReader, decode, fromBase64, text, utf8, wrap } from "./framing.js";

/** A datagram of this size gets through, whatever the path; a larger one is dropped unsaid. */
const DATAGRAM_BYTES = 1_150;

/**
 * @param {string} url
 * @param {typeof WebTransport} WebTransport
 * @param {string[]} [hashes] base64, of certificates to trust
 * @returns {Link}
 */
export function openWebTransport(url, WebTransport, hashes = []) {
  /** @type {any} newer than the types that know of it */
  const options = { protocols: ["dormouse.v1"] };
  // An empty list would trust nobody: leave it out and the browser checks the certificate itself.
  if (hashes.length > 0) {
    options.serverCertificateHashes = hashes.map((hash) => ({ algorithm: "sha-256", value: fromBase64(hash) }));
  }
  const transport = new WebTransport(url, options);
  /** @type {WritableStreamDefaultWriter<any> | undefined} */
  let writer;
  /** @type {WritableStreamDefaultWriter<any> | undefined} */
  let datagrams;
  /** Whether the browser has not yet taken the last of what may be lost. */
  let isBusy = false;

  const opened = open();
  /** @type {Link} */
  const link = {
    transport: "webtransport",
    onframe: () => {},
    ready: opened.then(() => {}),
    closed: opened.then(receive).then(
      () => ({}),
      (error) => ({ reason: String(error?.message ?? error) }),
    ),
    send(body) {
      writer?.write(wrap(body)).catch(() => {}); // `closed` tells
    },
    sendLossy(body) {
      if (isBusy) return false;
      isBusy = true;
      const taken = () => void (isBusy = false);
      const bytes = typeof body === "string" ? utf8.encode(body) : undefined;
      const isSmall = bytes && bytes.length <= DATAGRAM_BYTES;
      (isSmall ? datagrams : writer)?.write(isSmall ? bytes : wrap(body)).then(taken, taken);
      return true;
    },
    close(code) {
      try {
        transport.close(code === undefined ? undefined : { closeCode: code, reason: "" });
      } catch {
        // It was closed already, or not open yet in a browser that minds.
      }
    },
  };
  link.ready.catch(() => {}); // whoever lost the race has no more listeners
  transport.closed.catch(() => {});
  return link;

  async function open() {
    await transport.ready;
    const stream = await transport.createBidirectionalStream();
    writer = stream.writable.getWriter();
    writer.closed.catch(() => {});
    /** @type {any} `createWritable` is the standard's, `writable` what most have */
    const both = transport.datagrams;
    datagrams = /** @type {WritableStreamDefaultWriter<any>} */ ((both.createWritable?.() ?? both.writable).getWriter());
    datagrams.closed.catch(() => {});
    receiveDatagrams(both.readable.getReader()).catch(() => {}); // `closed` tells
    return /** @type {ReadableStreamDefaultReader<Uint8Array>} */ (stream.readable.getReader());
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  async function receive(reader) {
    const frames = new FrameReader();
    // Firefox does not always fail a pending read when the session ends.
    const gone = transport.closed.then(() => ({ done: /** @type {const} */ (true), value: undefined }));
    try {
      for (;;) {
        const { done, value } = await Promise.race([reader.read(), gone]);
        if (done) return;
        for (const frame of frames.push(value)) link.onframe(frame);
      }
    } finally {
      link.close();
    }
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  async function receiveDatagrams(reader) {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const frame = parse(value);
      if (frame) link.onframe({ ...frame, lossy: true });
    }
  }
}

/**
 * A datagram's object; what cannot be read is lost like any other.
 * @param {Uint8Array} bytes
 * @returns {Frame | undefined}
 */
function parse(bytes) {
  try {
    return decode(text.decode(bytes));
  } catch {
    return undefined;
  }
}
