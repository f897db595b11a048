// Calls that the gateway would refuse: each rejects alone, and the room goes on, in every browser and
// over both transports.

import assert from "node:assert/strict";
import { Client } from "./client.mjs";
import { Gateway } from "./gateway.mjs";
import { Guest } from "./guest.mjs";
import { browsers, test } from "./stage.mjs";

for (const kind of ["chromium", "firefox"]) {
  for (const transport of ["webtransport", "websocket"]) {
    test(`a bad call rejects alone, and all else is said (${kind}, ${transport})`, async (t) => {
      const gateway = await Gateway.start(t);
      const bob = await Guest.join(t, gateway, { name: "bob" });
      const ann = await Client.join(t, browsers[kind], gateway, { name: "ann", transport });
      const { sid } = await ann.status();
      const heard = await ann.run(async ({ room, told }) => {
        room.on("trouble", ({ code }) => told.push({ type: "trouble", code }));
        const cut = "hi 😀".slice(0, 4);
        const deep = (levels) => (levels === 0 ? 0 : [deep(levels - 1)]);
        const calls = [
          () => room.publish({ text: cut }),
          () => room.publish({ [cut]: 1 }),
          () => room.publish(deep(40)),
          () => room.publish(1, { key: cut }),
          () => room.publish(1, { to: { tag: cut } }),
          () => room.publish(1, { to: { user: "a", tag: "b" } }),
          () => room.set({ attachment: { mood: cut } }),
          () => room.set({ tags: [cut] }),
          () => room.history({ before: -1 }),
          () => room.listMembers({ after: "nobody" }),
          async () => room.ephemeral(cut, 1),
          async () => room.ephemeral("k", deep(40)),
          () => room.publish("x".repeat(70_000)),
          () => room.publish(1, { key: "k".repeat(65) }),
          () => room.set({ attachment: "x".repeat(17_000) }),
          () => room.set({ tags: Array(11).fill("t") }),
          () => room.publish({ file: new Blob(["x"]) }),
          () => room.publish({ at: Infinity }),
          () => room.publish(new Map()),
          () => room.publish({ image: document.body }),
        ];
        const good = room.publish({ text: "good" });
        const ends = calls.map((call) => call().then(() => "said", ({ name, code }) => (name === "TypeError" ? name : code)));
        return { ends: await Promise.all(ends), good: await good };
      });
      assert.deepEqual(heard.ends, [...Array(12).fill("bad_request"), ...Array(4).fill("too_large"), ...Array(4).fill("TypeError")]);
      assert.deepEqual(heard.good, { seq: 1, dup: false });
      await ann.run(({ room }) => room.set({ attachment: { mood: "😀" } }));
      await bob.say("still here?");
      assert.deepEqual(await ann.heard(2), ["good", "still here?"]);
      const { state, sid: still } = await ann.status();
      assert.deepEqual([state, still, await ann.all("trouble")], ["live", sid, []]);
      const lost = (await ann.all("status")).filter(({ code }) => code !== undefined);
      assert.deepEqual([lost, ann.page.faults], [[], []]);
    });
  }
}

test("a hello that only the gateway can refuse closes the room with the gateway's error", async (t) => {
  const gateway = await Gateway.start(t);
  const ann = await Client.join(t, browsers.chromium, gateway, { name: "a".repeat(65), waits: false });
  await ann.state("closed");
  assert.equal((await ann.status()).error, "too_large");
});
