// Dormouse's client. docs/client.md is its guide, dormouse.d.ts says what there is.

/** @import {Options, Room} from "../dormouse.js" */
import { DormouseRoom } from "./room.js";

export { CloseError, DormouseError, RequestError } from "./errors.js";

/**
 * @param {string} room
 * @param {Options} [options]
 * @returns {Room}
 */
export function connect(room, options) {
  return new DormouseRoom(room, options);
}
