// Who is in the room, as far as the gateway tells. No page, no network.
//
// It begins with the members of a `welcome` and follows the `presence` frames. In a large room
// the gateway tells only how many there are; then nobody is known and `isWhole` is false.

/** @import {Member, PresenceChange} from "../dormouse.js" */
/** @import {Frame} from "./framing.js" */

/** @extends {Map<string, Member>} */
export class Roster extends Map {
  /** How many are here, known or not. */
  count = 0;

  /** Whether everybody who is here is known. */
  get isWhole() {
    return this.size === this.count;
  }

  /**
   * A `welcome`: it tells anew who is here.
   * @param {Frame} frame
   * @returns {PresenceChange}
   */
  begin({ members = [], count = members.length }) {
    return this.change({ reset: true, members, count });
  }

  /**
   * A `presence` frame.
   * @param {Frame} frame
   * @returns {PresenceChange}
   */
  change({ reset = false, members = [], join = [], leave = [], update = [], count }) {
    // A frame without anybody tells only how many there are.
    const isAnew = reset || join.length + leave.length + update.length === 0;
    const known = new Set(this.keys());
    if (isAnew) this.clear();
    /** @type {PresenceChange} */
    const change = { joined: [], updated: [], left: [], reset: isAnew, count: 0 };
    // Joining twice is one joining, and nobody can leave who was not here: a welcome may know
    // already what the next frame tells. A member who stayed while we were away has not joined.
    for (const member of [...members, ...join, ...update]) {
      (known.has(member.sid) ? change.updated : change.joined).push(member);
      known.add(member.sid);
      this.set(member.sid, member);
    }
    for (const sid of leave) if (this.delete(sid)) change.left.push(sid);
    change.count = this.count = count ?? this.size;
    for (const sid of known) if (reset && this.isWhole && !this.has(sid)) change.left.push(sid);
    return change;
  }
}
