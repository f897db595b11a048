// The network between a browser and a gateway, to be broken at will: TCP and UDP on a port of its
// own, handed on byte for byte.
//
// What the gateway says of itself names the address it was asked at, so whoever asks through a
// relay finds WebTransport behind the relay, too.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { freePort } from "./ports.mjs";

export class Relay {
  url;
  /** How many datagrams came from browsers. */
  knocks = 0;
  #target;
  #server;
  #udp;
  /** Browser's socket and gateway's, of every TCP connection. */
  #pairs = new Set();
  /** A socket towards the gateway for each address that datagrams come from. */
  #peers = new Map();
  #passesUdp = true;
  #isCut = false;
  #isSilent = false;

  /** Stands before a gateway until the test `t` ends. */
  static async start(t, gateway) {
    const relay = new Relay();
    relay.#target = Number(new URL(gateway.url).port);
    const port = await freePort();
    relay.#server = createServer({ allowHalfOpen: true }, (socket) => relay.#join(socket)).listen(port, "127.0.0.1");
    relay.#udp = createSocket("udp4").on("message", (bytes, from) => relay.#fromBrowser(bytes, from));
    relay.#udp.bind(port, "127.0.0.1");
    await Promise.all([once(relay.#server, "listening"), once(relay.#udp, "listening")]);
    relay.url = `http://localhost:${port}`;
    t.after(() => {
      relay.cut();
      relay.#server.close();
      relay.#udp.close();
      for (const peer of relay.#peers.values()) peer.close();
    });
    return relay;
  }

  /** Datagrams are lost, as behind a firewall that came later; with `false` they pass again. */
  blockUdp(isBlocked = true) {
    this.#passesUdp = !isBlocked;
  }

  /** The cable is pulled: connections break, new ones do too, and datagrams are lost. */
  cut() {
    this.#isCut = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** A black hole: nothing breaks and nothing passes. */
  silence() {
    this.#isSilent = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** All is well again. What a black hole took is gone, with its connections. */
  mend() {
    if (this.#isSilent) for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#isCut = this.#isSilent = false;
  }

  #join(browser) {
    browser.on("error", () => {});
    if (this.#isCut) return browser.destroy();
    const gateway = connect({ port: this.#target, host: "127.0.0.1", allowHalfOpen: true });
    gateway.on("error", () => {});
    const pair = [browser, gateway];
    this.#pairs.add(pair);
    browser.pipe(gateway);
    gateway.pipe(browser);
    for (const socket of pair) {
      if (this.#isSilent) socket.pause();
      socket.on("close", () => {
        this.#pairs.delete(pair);
        for (const other of pair) other.destroy();
      });
    }
  }

  #fromBrowser(bytes, { port }) {
    this.knocks++;
    if (!this.#passes) return;
    let peer = this.#peers.get(port);
    if (!peer) {
      peer = createSocket("udp4").on("message", (answer) => {
        if (this.#passes) this.#udp.send(answer, port, "127.0.0.1");
      });
      peer.on("error", () => {});
      this.#peers.set(port, peer);
    }
    peer.send(bytes, this.#target, "127.0.0.1");
  }

  get #passes() {
    return this.#passesUdp && !this.#isCut && !this.#isSilent;
  }
}
