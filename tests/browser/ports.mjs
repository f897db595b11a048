// Ports for those who must know theirs in advance, or come back to it after a restart.
//
// They lie below the range that the kernel gives to whoever asks for any port, browsers' outgoing
// connections among them: nobody takes one by chance while a gateway is down or not yet up.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";

const FIRST = 11_000; // behind the last that browsers refuse to ask
const END = Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s/)[0]);

/** Where the search goes on; two runs at once begin in different places. */
let next = FIRST + Math.floor(Math.random() * (END - FIRST));

/** A port that is free for TCP and UDP, and given out once. */
export async function freePort() {
  for (let tries = FIRST; tries < END; tries++) {
    const port = next;
    next = next + 1 < END ? next + 1 : FIRST;
    if (await isFree(port)) return port;
  }
  throw new Error(`no port from ${FIRST} to ${END - 1} is free`);
}

async function isFree(port) {
  const tcp = createServer();
  const udp = createSocket("udp4");
  try {
    await opened(tcp, () => tcp.listen(port, "127.0.0.1"));
    await opened(udp, () => udp.bind(port, "127.0.0.1"));
    return true;
  } catch (error) {
    if (error.code === "EADDRINUSE") return false;
    throw error;
  } finally {
    if (tcp.listening) await new Promise((done) => tcp.close(done));
    await new Promise((done) => udp.close(done));
  }
}

/** Rejects with what the socket says is wrong. */
async function opened(socket, open) {
  const listening = once(socket, "listening");
  open();
  await listening;
}
