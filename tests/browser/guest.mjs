// A member of a room without a browser, to fill rooms with.

import { once } from "node:events";
import { WebSocket } from "../../web-demo/node_modules/ws/wrapper.mjs";
import { within } from "./until.mjs";

export class Guest {
  sid;
  /** Who was there when it came, itself included. */
  members;
  #socket;
  #waiting = new Map();
  #nextId = 1;

  /** Joins over WebSocket and stays until the test `t` ends, or until it leaves. */
  static async join(t, gateway, { room = "meadow", name, color }) {
    const guest = new Guest();
    const socket = new WebSocket(`${gateway.url.replace("http", "ws")}/rooms/${room}/ws`, "dormouse.v1");
    guest.#socket = socket;
    t.after(() => socket.close());
    await within(`${name} was connected`, once(socket, "open"));
    const welcome = new Promise((resolve) => {
      socket.addEventListener("message", ({ data }) => {
        if (typeof data !== "string") return; // somebody said bytes
        const frame = JSON.parse(data);
        if (frame.type === "welcome") resolve(frame);
        if (frame.type === "error") throw new Error(`${name} is told ${data}`);
        guest.#waiting.get(frame.type === "ok" ? frame.id : null)?.();
      });
    });
    guest.#send({ type: "hello", name, history: 0, attachment: { color } });
    ({ sid: guest.sid, members: guest.members } = await within(`${name} was welcome`, welcome));
    return guest;
  }

  /** Says all of it, and resolves when it is on disk. */
  async say(...texts) {
    const kept = texts.map((text) => {
      const id = this.#nextId++;
      this.#send({ type: "publish", id, key: `k${id}`, data: { text } });
      return new Promise((resolve) => this.#waiting.set(id, resolve));
    });
    await within("all was said", Promise.all(kept));
  }

  show(key, data) {
    this.#send({ type: "ephemeral", key, data });
  }

  /** Goes away: for good, or as a lost connection. */
  leave({ lost = false } = {}) {
    this.#socket.close(lost ? undefined : 1000);
  }

  #send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }
}
