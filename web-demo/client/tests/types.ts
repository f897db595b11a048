// What is declared is what there is: this file is never run, only checked.

import type * as Declared from "../dormouse.js";
import { connect } from "../dormouse.js";
import * as real from "../src/index.js";

export const all: typeof Declared = real;

// And it reads as the guide says.
export async function asInTheGuide() {
  const room = connect("lobby", { name: "ada", token: async () => "…", save: true });
  for await (const { seq, from, data, gap } of room.messages()) console.log(seq + 1, from.name, data.text, gap?.lost);
  const { seq, dup } = await room.publish({ text: "hi" }, { key: "one" });
  const { reached } = await room.publish({ text: "psst" }, { to: { tag: "mod" } });
  const off = room.on("status", ({ state, transport, retryIn }) => console.log(state, transport, retryIn));
  room.on("presence", ({ joined, left }) => console.log(joined[0].name, left.length, room.members.get("s1")?.away));
  // @ts-expect-error there is no such event
  room.on("nonsense", () => {});
  // @ts-expect-error members are the gateway's word
  room.members.set("s1", {});
  off();
  return [seq, dup, reached];
}
