// Does with the JavaScript client what it is told, a JSON line each, and says what happens.
//
// The words are those of tests/clients/player.rs, which does the same with the Rust client.

import { createInterface } from "node:readline";
import { connect } from "../../web-demo/client/dormouse.js";

const WebSocket = globalThis.WebSocket ?? (await import("../../web-demo/node_modules/ws/wrapper.mjs")).default;

const say = (event) => console.log(JSON.stringify(event));

let room;

const commands = {
  connect({ url, session, since }) {
    room = connect("lobby", { gateway: url, transport: "websocket", WebSocket, name: "ada", session, since });
    room.ready.catch(() => {}); // the status says it
    room.on("gap", ({ why }) => say({ is: "gap", why }));
    room.on("message", ({ seq }) => say({ is: "message", seq }));
    room.on("status", ({ state, retryIn, error }) => {
      if (state === "live") say({ is: "live" });
      if (retryIn !== undefined) say({ is: "lost", retry_ms: Math.round(retryIn) });
      if (state === "closed") say({ is: "ended", code: error?.closeCode ?? null });
    });
  },
  publish({ id, data }) {
    room.publish(data).then(
      ({ seq, dup }) => say({ is: "published", id, seq, dup }),
      () => say({ is: "refused", id }),
    );
  },
  direct({ id, data }) {
    room.publish(data, { to: { sid: "s2" } }).then(
      ({ reached }) => say({ is: "reached", id, reached }),
      () => say({ is: "refused", id }),
    );
  },
  save() {
    say({ is: "saved", session: room.session, since: room.position });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: what, ...how } = JSON.parse(line);
  commands[what](how);
}
process.exit(0); // whoever drives it is done
