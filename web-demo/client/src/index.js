// Dormouse's client. docs/client.md is its guide, dormouse.d.ts says what there is.

/** @import {Options, Room} from "../dormouse.js" */
import { DormouseRoom } from "./room.js";
import { checkPlatform } from "./surroundings.js";

export { CloseError, DormouseError, RequestError } from "./errors.js";

/**
 * @param {string} room
 * @param {Options} [options]
 * @returns {Room}
 */
export function connect(room, options) {
  checkPlatform();
  return new DormouseRoom(room, options);
}
