// The sizes of what a client says, and the limits that the gateway tells in `welcome`.

/** @import {Body, Frame} from "./framing.js" */
import { DormouseError } from "./errors.js";
import { encode, sizeOf } from "./framing.js";

/** By the names that `welcome` has for the limits. @typedef {Record<string, number>} Sizes */

/**
 * Encodes a frame and measures it; throws for what the gateway would refuse.
 * @param {Frame} frame
 * @param {Sizes} limits those that are known
 * @returns {{ body: Body, sizes: Sizes }}
 */
export function fit(frame, limits) {
  const body = encode(frame);
  const { name = "", key = "", tags = [], attachment } = frame;
  const sizes = {
    message: sizeOf(body),
    name: [...name].length,
    key: sizeOf(key),
    tags: tags.length,
    tag: Math.max(0, ...tags.map(sizeOf)),
    attachment: sizeOf(JSON.stringify(attachment) ?? ""),
  };
  const error = excess(sizes, limits);
  if (error) throw error;
  return { body, sizes };
}

/**
 * The error of a frame that is too large for the gateway.
 * @param {Sizes} sizes
 * @param {Sizes} limits
 */
export function excess(sizes, limits) {
  const name = Object.keys(sizes).find((name) => sizes[name] > limits[name]);
  return name && new DormouseError("too_large", `${name} is ${sizes[name]} long, at most ${limits[name]}`);
}
