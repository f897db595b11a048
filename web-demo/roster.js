// Who is in the room, as far as the gateway tells. No page, no network.
//
// It begins with the members of a `welcome` and follows the `presence` frames. In a large room
// the gateway tells only how many there are; then nobody is known and `isWhole` is false.

export class Roster {
  /** Members by sid. */
  #members = new Map();
  /** How many are here, known or not. */
  count = 0;

  /** Whether everybody who is here is known. */
  get isWhole() {
    return this.#members.size === this.count;
  }

  get(sid) {
    return this.#members.get(sid);
  }

  /** Everybody who is known, longest here first. */
  all() {
    return [...this.#members.values()].sort((a, b) => a.since - b.since || (a.sid < b.sid ? -1 : 1));
  }

  /** A `welcome`: whatever was known before is void. */
  begin({ members = [], count = members.length }) {
    this.#replace(members);
    this.count = count;
  }

  /** A `presence` frame. */
  change({ reset, members, join = [], leave = [], update = [], count }) {
    const tellsOnlyHowMany = !reset && join.length + leave.length + update.length === 0;
    if (reset || tellsOnlyHowMany) this.#replace(members ?? []);
    // Joining twice is one joining, and nobody can leave who was not here: a welcome may know
    // already what the next frame tells.
    for (const member of [...join, ...update]) this.#members.set(member.sid, member);
    for (const sid of leave) this.#members.delete(sid);
    this.count = count ?? this.#members.size;
  }

  #replace(members) {
    this.#members = new Map(members.map((member) => [member.sid, member]));
  }
}
