// A gateway that a test plays itself: fake transports, a fake discovery, node's mock clock.

import { mock } from "node:test";
import { connect } from "../src/index.js";

/** What the real one says of itself. */
const DISCOVERY = {
  versions: ["dormouse.v1"],
  webtransport: { url: "https://127.0.0.1:4433" },
  policy: { webtransport: { safari: true }, head_start_ms: 200, ready_timeout_ms: 3_000, failures_before_websocket: 2 },
};

export class FakeGateway {
  /** Every link that was asked for, oldest first. @type {FakeLink[]} */
  links = [];
  discovery = structuredClone(DISCOVERY);
  /** Where the discovery was asked for, oldest first. @type {string[]} */
  asked = [];
  /** Whether the network leads to it; where not, every connection is refused. */
  isReachable = true;
  /** The answer to who asks for the discovery. @type {(signal: AbortSignal) => Promise<unknown>} */
  answer = async () => Response.json(this.discovery);
  storage = new FakeStorage();
  /** @type {import("../dormouse.js").Room[]} */
  rooms = [];

  /** @param {import("node:test").TestContext} t */
  constructor(t) {
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_800_000_000_000 });
    mock.method(Math, "random", () => 0.5);
    mock.method(globalThis, "fetch", async (/** @type {string} */ url, /** @type {RequestInit} */ { signal }) => {
      this.asked.push(url);
      if (!this.isReachable) throw new TypeError("fetch failed");
      return this.answer(/** @type {AbortSignal} */ (signal));
    });
    Object.defineProperty(globalThis, "localStorage", { value: this.storage, configurable: true });
    t.after(async () => {
      const closed = Promise.all(this.rooms.map((room) => room.close()));
      await pass(2_000);
      await closed;
      mock.timers.reset();
      mock.reset();
      delete (/** @type {any} */ (globalThis).localStorage);
    });
  }

  /** @param {import("../dormouse.js").Options} [options] */
  connect(options) {
    const room = connect("lobby", {
      gateway: "http://localhost:4433",
      WebSocket: fakeWebSocket(this),
      WebTransport: fakeWebTransport(this),
      transport: "websocket",
      ...options,
    });
    this.rooms.push(room);
    return room;
  }

  get link() {
    return /** @type {FakeLink} */ (this.links.at(-1));
  }

  /** Opens the newest link, seats who comes and says that all is there. @param {object} [more] */
  async seat(more = {}) {
    await settle();
    this.link.open();
    await settle();
    this.welcome(more);
    this.link.tell({ type: "live", seq: /** @type {any} */ (more).live ?? 0 });
    await settle();
  }

  welcome(more = {}) {
    this.link.tell({
      type: "welcome", session: "secret", sid: "s1", position: { epoch: "e1", seq: 0 }, heartbeat: 25_000,
      resumed: false, seat: "new", limits: { message: 65_536 }, members: [], count: 0, ...more,
    });
  }
}

/** One fake connection of either transport, as seen from the gateway. */
export class FakeLink {
  /** @param {"websocket" | "webtransport"} transport @param {string} url */
  constructor(transport, url) {
    this.transport = transport;
    this.url = url;
    /** Frames that the client has sent. @type {any[]} */
    this.heard = [];
    /** The code with which the client closed it; undefined as long as it has not. */
    this.closedWith = /** @type {number | "none" | undefined} */ (undefined);
  }

  open = () => {};
  /** @param {object} _ */
  tell = (_) => {};
  /** Tells in a datagram. @param {object} _ */
  tellBeside = (_) => {};
  /** @param {number} [_] */
  drop = (_) => {};
  /** As a page's policy does in Chromium: with an error and no close. */
  forbid = () => {};

  get isClosed() {
    return this.closedWith !== undefined;
  }

  /** Frames of one type. @param {string} type */
  all(type) {
    return this.heard.filter((frame) => frame.type === type);
  }

  /** The newest frame of a type. @param {string} type */
  last(type) {
    return this.all(type).at(-1);
  }
}

/** @param {FakeGateway} gateway */
export function fakeWebSocket(gateway) {
  return class extends EventTarget {
    bufferedAmount = 0;
    binaryType = "";

    /** @param {string} url */
    constructor(url) {
      super();
      const link = (this.link = new FakeLink("websocket", url));
      gateway.links.push(link);
      if (!gateway.isReachable) queueMicrotask(() => link.drop());
      link.open = () => void this.dispatchEvent(new Event("open"));
      link.tell = (frame) => void this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(frame) }));
      link.forbid = () => void this.dispatchEvent(new Event("error"));
      link.drop = (code = 1006) => void this.dispatchEvent(Object.assign(new Event("close"), { code, reason: "" }));
    }

    /** @param {string} body */
    send(body) {
      this.link.heard.push(typeof body === "string" ? JSON.parse(body) : body);
    }

    /** @param {number} [code] */
    close(code) {
      if (this.link.isClosed) return;
      this.link.closedWith = code ?? "none";
      queueMicrotask(() => this.link.drop(code ?? 1005));
    }
  };
}

/** @param {FakeGateway} gateway */
export function fakeWebTransport(gateway) {
  return class {
    /** @param {string} url @param {object} options */
    constructor(url, options) {
      const link = (this.link = Object.assign(new FakeLink("webtransport", url), { options }));
      gateway.links.push(link);
      /** @type {any} */
      let opened, failed, ended;
      this.ready = new Promise((resolve, reject) => ([opened, failed] = [resolve, reject]));
      this.ready.catch(() => {});
      this.closed = new Promise((resolve) => (ended = resolve));
      /** @type {any} */
      let toClient;
      const readable = new ReadableStream({ start: (controller) => void (toClient = controller) });
      const writable = new WritableStream({ write: (bytes) => void link.heard.push(...cut(bytes)) });
      this.datagrams = {
        readable: new ReadableStream({
          start: (controller) => {
            link.tellBeside = (frame) => controller.enqueue(new TextEncoder().encode(JSON.stringify(frame)));
          },
        }),
        writable: new WritableStream({ write: (bytes) => void link.heard.push({ ...JSON.parse(new TextDecoder().decode(bytes)), lossy: true }) }),
      };
      this.createBidirectionalStream = async () => ({ readable, writable });
      link.open = () => opened();
      link.tell = (frame) => {
        const body = new TextEncoder().encode(JSON.stringify(frame));
        toClient.enqueue(Uint8Array.of(0x80, 0, (body.length + 1) >> 8, body.length + 1, 1, ...body));
      };
      link.drop = () => {
        failed(new Error("Opening handshake failed."));
        ended({});
      };
    }

    /** @param {{ closeCode?: number }} [info] */
    close(info) {
      this.link.closedWith ??= info?.closeCode ?? "none";
      this.link.drop();
    }
  };

  /** @param {Uint8Array} bytes */
  function cut(bytes) {
    const skip = 1 << (bytes[0] >> 6);
    return [JSON.parse(new TextDecoder().decode(bytes.subarray(skip + 1)))];
  }
}

export class FakeStorage extends Map {
  /** @param {string} key */
  getItem(key) {
    return this.get(key) ?? null;
  }
  /** @param {string} key @param {string} value */
  setItem(key, value) {
    this.set(key, value);
  }
  /** @param {string} key */
  removeItem(key) {
    this.delete(key);
  }
}

/** Lets everything happen that waits for nothing but its turn. */
export async function settle() {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Lets time pass, in steps, so that what one timer starts others can end. @param {number} ms */
export async function pass(ms) {
  await settle();
  const step = ms <= 1_000 ? 10 : 100;
  for (let passed = 0; passed < ms; passed += step) {
    mock.timers.tick(Math.min(step, ms - passed));
    if (ms <= 10_000 || passed % 1_000 === 0) await settle();
  }
  await settle();
}

/** A message as the gateway sends it. @param {number} seq @param {unknown} [data] */
export function message(seq, data = `m${seq}`) {
  return { type: "message", seq, time: 1_800_000_000_000 + seq, from: { sid: "s2", user: null, name: "bob" }, data };
}
