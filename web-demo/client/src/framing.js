// Frames into bodies and back. No I/O.
//
// A *body* is what both transports carry: a text with a JSON object, or bytes that begin with
// one: varint header length │ JSON header │ the bytes that stand for `data`. A WebSocket has
// messages of either kind; on a WebTransport stream each body says its length and kind first:
//
//     varint length │ kind │ body          the length counts the kind byte and the body

import { toJson } from "./json.js";

/** @typedef {Record<string, any>} Frame a JSON object with a `type`; its `data` may be bytes */
/** @typedef {string | Uint8Array} Body */

const JSON_KIND = 1;
const BINARY_KIND = 2;

/** The longest frame read; far above what a gateway sends, far below what hurts a tab. */
const FRAME_LIMIT = 16 * 1024 * 1024;

// `connect` says it where they are missing.
export const utf8 = globalThis.TextEncoder && new TextEncoder();
export const text = globalThis.TextDecoder && new TextDecoder("utf-8", { fatal: true });

/**
 * Throws for what the gateway would refuse; json.js says how.
 * @param {Frame} frame
 * @returns {Body}
 */
export function encode(frame) {
  const { data, ...header } = frame;
  const bytes = bytesOf(data);
  if (!bytes) return toJson(frame);
  const head = utf8.encode(toJson(header));
  return join(varint(head.length), head, bytes);
}

/**
 * @param {string | ArrayBuffer | Uint8Array} body
 * @returns {Frame}
 */
export function decode(body) {
  if (typeof body === "string") return JSON.parse(body);
  const bytes = new Uint8Array(body);
  const length = /** @type {NonNullable<ReturnType<typeof readVarint>>} */ (readVarint(bytes, 0));
  const end = length.next + length.value;
  return { ...JSON.parse(text.decode(bytes.subarray(length.next, end))), data: bytes.slice(end) };
}

/**
 * How many bytes a body has, as the gateway's limits count them.
 * @param {Body} body
 */
export function sizeOf(body) {
  return bytesIn(body).length;
}

/**
 * A body as it goes on a WebTransport stream.
 * @param {Body} body
 */
export function wrap(body) {
  const bytes = bytesIn(body);
  return join(varint(bytes.length + 1), Uint8Array.of(typeof body === "string" ? JSON_KIND : BINARY_KIND), bytes);
}

/** Cuts a stream's chunks into frames, whatever the chunks' borders. */
export class FrameReader {
  /** The beginning of a frame that is not complete. */
  #rest = new Uint8Array();

  /**
   * Takes a chunk and gives the frames that are complete now. Throws on what is no frame.
   * @param {Uint8Array} chunk
   */
  push(chunk) {
    const bytes = join(this.#rest, chunk);
    /** @type {Frame[]} */
    const frames = [];
    let at = 0;
    for (let length; (length = readVarint(bytes, at)); ) {
      if (length.value < 1 || length.value > FRAME_LIMIT) throw new RangeError();
      const end = length.next + length.value;
      if (end > bytes.length) break;
      const body = bytes.subarray(length.next + 1, end);
      const kind = bytes[length.next];
      // Of other kinds later versions may make use.
      if (kind === JSON_KIND) frames.push(decode(text.decode(body)));
      else if (kind === BINARY_KIND) frames.push(decode(body));
      at = end;
    }
    this.#rest = bytes.subarray(at);
    return frames;
  }
}

/** @param {Body} body */
function bytesIn(body) {
  return typeof body === "string" ? utf8.encode(body) : body;
}

/**
 * A copy of what is bytes of any kind.
 * @param {unknown} data
 */
export function bytesOf(data) {
  if (data instanceof ArrayBuffer) return new Uint8Array(data.slice(0));
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  return undefined;
}

/** @param {string} base64 */
export function fromBase64(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

/** @param {Uint8Array[]} parts */
function join(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// QUIC's variable-length integers (RFC 9000, 16): the first two bits say how many bytes.

/** @param {number} value far below 2^30, for an outbox holds no more than 4 MiB */
function varint(value) {
  if (value < 0x40) return Uint8Array.of(value);
  return Uint8Array.of(0x80 | (value >> 24), value >> 16, value >> 8, value);
}

/**
 * @param {Uint8Array} bytes
 * @param {number} at
 */
function readVarint(bytes, at) {
  if (at >= bytes.length) return undefined;
  const next = at + (1 << (bytes[at] >> 6));
  if (next > bytes.length) return undefined;
  let value = bytes[at] & 0x3f;
  for (let i = at + 1; i < next; i++) value = value * 256 + bytes[i];
  return { value, next };
}
