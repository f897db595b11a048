// The rules by which a page merges what it is told of who is here.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Roster } from "../src/roster.js";

const member = (sid, more) => ({ sid, name: sid, since: 1, ...more });
const sids = (roster) => [...roster.keys()];

function rosterOf(...members) {
  const roster = new Roster();
  roster.begin({ members: members.map((sid) => member(sid)), count: members.length, presence_version: 1 });
  return roster;
}

test("a roster joins, updates and leaves, whoever it knew before", () => {
  const roster = rosterOf("s1", "s2");
  const change = roster.change({ version: 2, join: [member("s2", { name: "new" }), member("s3")], leave: ["s1", "s9"], count: 2 });
  assert.deepEqual(change.left, ["s1"], "only members leave");
  assert.deepEqual([change.joined, change.updated].map((all) => all.map(({ sid }) => sid)), [["s3"], ["s2"]]);
  assert.deepEqual(sids(roster), ["s2", "s3"]);
  assert.equal(roster.get("s2").name, "new");
  roster.change({ version: 3, update: [member("s3", { away: true })], count: 2 });
  assert.equal(roster.get("s3").away, true);
  assert.ok(roster.isWhole);
});

test("a reset or another welcome makes everything before it void", () => {
  const roster = rosterOf("s1", "s2");
  roster.change({ version: 9, reset: true, members: [member("s4")], count: 1 });
  assert.deepEqual(sids(roster), ["s4"]);
  roster.begin({ members: [member("s5")], count: 1 });
  assert.deepEqual(sids(roster), ["s5"]);
});

test("a member who stayed while this client was away has not joined, and one who went has left", () => {
  const retold = { members: [member("s2", { away: true }), member("s3")], count: 2 };
  const tell = {
    "another welcome": (roster) => roster.begin(retold),
    "a reset": (roster) => roster.change({ version: 9, reset: true, ...retold }),
  };
  for (const [how, again] of Object.entries(tell)) {
    const { joined, updated, left, reset } = again(rosterOf("s1", "s2"));
    assert.deepEqual([joined.map(({ sid }) => sid), updated.map(({ sid }) => sid), left, reset], [["s3"], ["s2"], ["s1"], true], how);
  }
  // Of a large room nobody is told: who is still there is not known.
  const { joined, updated, left } = rosterOf("s1", "s2").begin({ count: 400 });
  assert.deepEqual([joined, updated, left], [[], [], []]);
});

test("a large room is a number, until it is small again", () => {
  const roster = rosterOf("s1");
  roster.change({ version: 2, count: 201 });
  assert.deepEqual([sids(roster), roster.count, roster.isWhole], [[], 201, false]);
  roster.change({ version: 3, reset: true, members: [member("s1"), member("s2")], count: 2 });
  assert.ok(roster.isWhole);
  roster.begin({ count: 400 });
  assert.deepEqual([sids(roster), roster.isWhole], [[], false]);
});
