// Bytes into frames and back. No I/O.
//
// On a WebTransport stream every frame says its length first, since a stream has no messages:
//
//     varint length │ kind │ body          the length counts the kind byte and the body
//
// Kind 1 is a JSON object. Kind 2, and a binary frame on WebSocket, is a message whose `data`
// is bytes: varint header length │ JSON header │ bytes.

const JSON_KIND = 1;
const BINARY_KIND = 2;

/** The longest frame read; far above what a gateway sends, far below what hurts a tab. */
const FRAME_LIMIT = 16 * 1024 * 1024;

const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true });

/** One JSON object as a frame for a WebTransport stream. */
export function encodeFrame(object) {
  const body = utf8.encode(JSON.stringify(object));
  const length = encodeVarint(body.length + 1);
  const frame = new Uint8Array(length.length + 1 + body.length);
  frame.set(length);
  frame[length.length] = JSON_KIND;
  frame.set(body, length.length + 1);
  return frame;
}

/** Cuts a stream's chunks into objects, whatever the chunks' borders. */
export class FrameReader {
  #rest = new Uint8Array(0);

  /** Takes a chunk and gives the objects that are complete now. Throws on what is no frame. */
  push(chunk) {
    const bytes = join(this.#rest, chunk);
    const objects = [];
    let at = 0;
    for (let length; (length = decodeVarint(bytes, at)); ) {
      if (length.value > FRAME_LIMIT) throw new RangeError("a frame is too long");
      const end = length.next + length.value;
      if (end > bytes.length) break;
      const object = decodeBody(bytes[length.next], bytes.subarray(length.next + 1, end));
      if (object) objects.push(object);
      at = end;
    }
    this.#rest = bytes.slice(at);
    return objects;
  }
}

/** A message with a binary payload: the header's object with `data` put in. */
export function decodeBinary(bytes) {
  const length = decodeVarint(bytes, 0);
  if (!length || length.next + length.value > bytes.length) throw new RangeError("a header is cut off");
  const end = length.next + length.value;
  return { ...JSON.parse(text.decode(bytes.subarray(length.next, end))), data: bytes.slice(end) };
}

/** The object in a frame, or null when its kind is one that later versions may define. */
function decodeBody(kind, body) {
  if (kind === JSON_KIND) return JSON.parse(text.decode(body));
  if (kind === BINARY_KIND) return decodeBinary(body);
  return null;
}

function join(left, right) {
  if (left.length === 0) return right;
  const both = new Uint8Array(left.length + right.length);
  both.set(left);
  both.set(right, left.length);
  return both;
}

// QUIC's variable-length integers (RFC 9000, 16): the first two bits say how many bytes.

function encodeVarint(value) {
  if (value < 0x40) return Uint8Array.of(value);
  if (value < 0x4000) return Uint8Array.of(0x40 | (value >> 8), value);
  if (value < 0x4000_0000) return Uint8Array.of(0x80 | (value >> 24), value >> 16, value >> 8, value);
  throw new RangeError("a frame is too long");
}

function decodeVarint(bytes, at) {
  if (at >= bytes.length) return null;
  const next = at + (1 << (bytes[at] >> 6));
  if (next > bytes.length) return null;
  let value = bytes[at] & 0x3f;
  for (let i = at + 1; i < next; i++) value = value * 256 + bytes[i];
  return { value, next };
}
