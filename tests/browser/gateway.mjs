// The built binary on ports and in a directory of its own.

import { execFile, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { freePort } from "./ports.mjs";
import { within } from "./until.mjs";

const BINARY =
  process.env.DORMOUSE_BIN ?? fileURLToPath(new URL("../../target/release/dormouse", import.meta.url));

/** Runs what follows in a process that survives the signal of a disk that takes no more. */
const UNSINKABLE = ["-c", 'trap "" XFSZ; exec "$0" "$@"'];

export class Gateway {
  url;
  #flags;
  #dir;
  #operator;
  #child = null;
  #output = "";

  /** Starts a gateway; `flags` as on the command line. It ends with the test `t`. */
  static async start(t, flags = {}) {
    const gateway = new Gateway();
    gateway.#dir = await mkdtemp(join(tmpdir(), "dormouse-test-"));
    const [listen, operator] = [await freePort(), await freePort()];
    gateway.#operator = `http://127.0.0.1:${operator}`;
    gateway.#flags = Object.entries({
      "--listen": `127.0.0.1:${listen}`,
      "--operator-listen": `127.0.0.1:${operator}`,
      "--data-dir": join(gateway.#dir, "data"),
      "--certs-dir": join(gateway.#dir, "certs"),
      "--room-sleep-after": "300s", // a test says itself when it is bedtime
      ...flags,
    }).flat();
    t.after(async () => {
      await gateway.stop("SIGKILL");
      await rm(gateway.#dir, { recursive: true, force: true });
      if (!t.passed) t.diagnostic(gateway.#output);
    });
    await gateway.start();
    return gateway;
  }

  /** Starts the binary, again if it was stopped: same ports, same data. */
  async start() {
    const child = spawn("sh", [...UNSINKABLE, BINARY, ...this.#flags], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    child.stderr.on("data", (text) => (this.#output += text));
    const opened = new Promise((resolve, reject) => {
      child.on("error", (error) => reject(new Error(`cannot start ${BINARY}: ${error.message}`)));
      child.on("exit", (code, signal) => reject(new Error(`the gateway ended (${code ?? signal}):\n${this.#output}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        this.#output += `${line}\n`;
        const [, url] = line.match(/Dormouse is open at (http:\S+)/) ?? [];
        if (url) resolve(url);
      });
    });
    opened.catch(() => {}); // an exit later on is nobody's news
    this.url = await within("the gateway was open", opened);
  }

  /** Ends the binary and waits until it is gone. */
  async stop(signal = "SIGTERM") {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill(signal);
    await within(`the gateway obeyed ${signal}`, gone);
  }

  /** Starts anew with another certificate, as when the old one has run out. */
  async renewCertificate() {
    await this.stop();
    await rm(join(this.#dir, "certs"), { recursive: true });
    await this.start();
  }

  /** The operator's view of a room. */
  async room(name) {
    return (await this.#ask("GET", name)).json();
  }

  /** Sends a room to sleep at once, whatever it was doing. */
  async hibernate(name) {
    await this.#ask("POST", `${name}/hibernate`);
  }

  /** Deletes a room, whoever is in it. */
  async delete(name) {
    await this.#ask("DELETE", name);
  }

  /** Lets every write to a file fail from now on, or with `false` work again. */
  async failWrites(fail = true) {
    const limit = fail ? "0" : "unlimited";
    await promisify(execFile)("prlimit", [`--pid=${this.#child.pid}`, `--fsize=${limit}:unlimited`]);
  }

  async #ask(method, path) {
    const answer = await fetch(`${this.#operator}/v1/rooms/${path}`, { method });
    if (!answer.ok) throw new Error(`${method} ${path} answers ${answer.status}: ${await answer.text()}`);
    return answer;
  }
}

/** A UDP port that swallows everything, as a firewall does, and counts who knocked. */
export async function blackHole(t) {
  const socket = createSocket("udp4");
  const knocks = new Set();
  socket.on("message", (_, from) => knocks.add(from.port));
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  t.after(() => socket.close());
  return { port: socket.address().port, knocks };
}
