// A browser's process, and the socket by which it takes orders: numbered calls and events.
//
// The socket is that of the package `ws`. Node 20's own masks every frame with zeros once the process
// has sent some four thousand, and Firefox hangs up at the first.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { WebSocket } from "../../web-demo/node_modules/ws/wrapper.mjs";
import { within } from "./until.mjs";

/** Starts a browser with a profile of its own: `{ address, end }`. */
export async function startBrowser(binary, flags) {
  const profile = await mkdtemp(join(tmpdir(), "dormouse-browser-"));
  const child = spawn(binary, flags(profile), { stdio: ["ignore", "ignore", "pipe"] });
  const said = new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${binary} ended with ${code}`)));
    createInterface({ input: child.stderr }).on("line", (line) => {
      const [, url] = line.match(/(?:DevTools|WebDriver BiDi) listening on (ws:\S+)/) ?? [];
      if (url) resolve(url);
    });
  });
  said.catch(() => {});
  const end = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const gone = once(child, "exit");
      child.kill();
      await within(`${binary} was gone`, gone);
    }
    // Its helpers may still be writing for a moment.
    await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }).catch(() => {});
  };
  try {
    return { address: await within(`${binary} was up`, said), end };
  } catch (error) {
    await end();
    throw error;
  }
}

export class Wire {
  #socket;
  #nameOf;
  #nextId = 1;
  #calls = new Map();
  #listeners = new Map();
  #isOver = false;

  /** `nameOf` gives the name by which listeners of an event ask for it. */
  static async open(address, nameOf) {
    const wire = new Wire();
    wire.#nameOf = nameOf;
    wire.#socket = new WebSocket(address);
    await within("the browser could be spoken to", once(wire.#socket, "open"));
    wire.#socket.addEventListener("message", ({ data }) => wire.#take(JSON.parse(data)));
    wire.#socket.addEventListener("close", () => {
      wire.#isOver = true;
      for (const { reject } of wire.#calls.values()) reject(new Error("the browser is gone"));
    });
    return wire;
  }

  call(method, params = {}, more = {}) {
    if (this.#isOver) return Promise.reject(new Error(`the browser is gone before ${method}`));
    const id = this.#nextId++;
    this.#socket.send(JSON.stringify({ id, method, params, ...more }));
    const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
    return within(`${method} was answered`, answer);
  }

  on(name, listener) {
    this.#listeners.set(name, listener);
  }

  #take(heard) {
    if (heard.id === undefined || heard.id === null) return this.#listeners.get(this.#nameOf(heard))?.(heard.params);
    const { resolve, reject } = this.#calls.get(heard.id);
    this.#calls.delete(heard.id);
    if (heard.error) reject(new Error(heard.message ?? heard.error.message));
    else resolve(heard.result);
  }
}
