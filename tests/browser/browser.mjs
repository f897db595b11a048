// Headless Chromium by the DevTools protocol, with nothing but node.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { until, within } from "./until.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "chromium";

const FLAGS = [
  "--headless",
  "--no-sandbox", // root, and containers without user namespaces, have no sandbox to offer
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  "--hide-scrollbars",
  "--remote-debugging-port=0",
];

export class Browser {
  #child;
  #profile;
  #socket;
  #calls = new Map();
  #nextId = 1;
  #listeners = new Map();

  static async launch() {
    const browser = new Browser();
    browser.#profile = await mkdtemp(join(tmpdir(), "dormouse-chromium-"));
    const child = spawn(CHROMIUM, [...FLAGS, `--user-data-dir=${browser.#profile}`, "about:blank"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    browser.#child = child;
    const address = new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", (code) => reject(new Error(`${CHROMIUM} ended with ${code}`)));
      createInterface({ input: child.stderr }).on("line", (line) => {
        const [, url] = line.match(/DevTools listening on (ws:\S+)/) ?? [];
        if (url) resolve(url);
      });
    });
    address.catch(() => {});
    browser.#socket = new WebSocket(await within("Chromium was up", address));
    await within("Chromium could be spoken to", once(browser.#socket, "open"));
    browser.#socket.addEventListener("message", ({ data }) => browser.#take(JSON.parse(data)));
    return browser;
  }

  async close() {
    const gone = once(this.#child, "exit");
    this.#child.kill();
    await within("Chromium was gone", gone);
    // Its helpers may still be writing for a moment.
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }).catch(() => {});
  }

  /** A fresh tab in a profile of its own; it closes with the test `t`. */
  async open(t, url) {
    const { browserContextId } = await this.call("Target.createBrowserContext");
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    t.after(() => this.call("Target.disposeBrowserContext", { browserContextId }));
    const page = new Page(this, sessionId);
    await page.prepare();
    if (url) await page.goto(url);
    return page;
  }

  call(method, params = {}, sessionId) {
    const id = this.#nextId++;
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
    return within(`${method} was answered`, answer);
  }

  on(sessionId, method, listener) {
    this.#listeners.set(`${sessionId} ${method}`, listener);
  }

  #take({ id, method, params, sessionId, result, error }) {
    if (id === undefined) return this.#listeners.get(`${sessionId} ${method}`)?.(params);
    const { resolve, reject } = this.#calls.get(id);
    this.#calls.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  }
}

/** One tab with the demo in it, and what a visitor can do there. */
export class Page {
  /** What went wrong in the page: exceptions, and what the content security policy refused. */
  faults = [];
  #browser;
  #session;

  constructor(browser, session) {
    this.#browser = browser;
    this.#session = session;
  }

  async prepare() {
    this.#on("Runtime.exceptionThrown", ({ exceptionDetails: { text, exception } }) =>
      this.faults.push(exception?.description ?? text),
    );
    this.#on("Log.entryAdded", ({ entry }) => {
      if (/Content Security Policy/.test(entry.text)) this.faults.push(entry.text);
    });
    for (const domain of ["Page", "Runtime", "Log"]) await this.#call(`${domain}.enable`);
    await this.look({ width: 1280, height: 800, scheme: "dark" });
  }

  async goto(url) {
    await this.#call("Page.navigate", { url });
    await this.until("the page was there", () => location.href !== "about:blank" && document.readyState === "complete");
  }

  async reload() {
    await this.evaluate(() => (window.beforeReload = true));
    await this.#call("Page.reload");
    await this.until("the page was there again", () => !window.beforeReload && document.readyState === "complete");
  }

  /** Runs a function in the page; what it takes and gives must be JSON. */
  async evaluate(fn, ...args) {
    const { result, exceptionDetails } = await this.#call("Runtime.evaluate", {
      expression: `(${fn})(...${JSON.stringify(args)})`,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until a function gives something truthy in the page. */
  until(what, fn, ...args) {
    // A navigation in the middle of a look is not yet an answer.
    const probe = () => this.evaluate(fn, ...args).catch((error) => (/navigat|context/i.test(error.message) ? null : Promise.reject(error)));
    return until(what, probe, async () => JSON.stringify({ ...(await this.state()), shown: await this.messages(), faults: this.faults }, null, 1));
  }

  /** The page's own word on how things stand: state, transport, room. */
  state() {
    return this.evaluate(() => ({ ...document.documentElement.dataset, notice: document.querySelector("#notice-text").textContent }));
  }

  /** The messages shown that are on disk, in the order shown. */
  messages() {
    return this.evaluate(() =>
      Array.from(document.querySelectorAll("#messages [data-seq]"), (item) => ({
        seq: Number(item.dataset.seq),
        text: item.lastChild.textContent,
        own: "own" in item.dataset,
      })),
    );
  }

  live(transport) {
    return this.until(
      `the page was live${transport ? ` over ${transport}` : ""}`,
      (transport) => {
        const { state, transport: used } = document.documentElement.dataset;
        return state === "live" && (!transport || used === transport);
      },
      transport,
    );
  }

  sees(text) {
    return this.until(
      `"${text}" was shown`,
      (text) => Array.from(document.querySelectorAll("#messages [data-seq]")).some((item) => item.lastChild.textContent === text),
      text,
    );
  }

  roomIs(state) {
    return this.until(`the page showed the room ${state}`, (state) => document.documentElement.dataset.room === state, state);
  }

  /** Types a message and presses Enter. */
  async say(text) {
    await this.evaluate(() => document.querySelector("#text").focus());
    await this.#call("Input.insertText", { text });
    const key = { key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, text: "\r" };
    await this.#call("Input.dispatchKeyEvent", { type: "keyDown", ...key });
    await this.#call("Input.dispatchKeyEvent", { type: "keyUp", ...key });
  }

  /** Chooses a transport by the page's own switch. */
  choose(transport) {
    return this.evaluate((value) => document.querySelector(`#transports [value="${value}"]`).click(), transport);
  }

  /**
   * Puts `change` between the page and what the gateway says of itself; it gets that object and
   * gives another, or null as if nobody answered. Without `change` all is as before.
   */
  async rewriteDiscovery(change) {
    if (!change) return this.#call("Fetch.disable");
    this.#on("Fetch.requestPaused", async ({ requestId, request }) => {
      const changed = await fetch(request.url).then((answer) => answer.json()).then(change).catch(() => null);
      if (changed === null) return this.#call("Fetch.failRequest", { requestId, errorReason: "ConnectionRefused" }).catch(() => {});
      await this.#call("Fetch.fulfillRequest", {
        requestId,
        responseCode: 200,
        responseHeaders: [{ name: "Content-Type", value: "application/json" }],
        body: Buffer.from(JSON.stringify(changed)).toString("base64"),
      }).catch(() => {}); // the page may have gone on without it
    });
    await this.#call("Fetch.enable", { patterns: [{ urlPattern: "*/.well-known/dormouse" }] });
  }

  /** Changes the window and the colours; nothing moves, so that pictures can be compared. */
  async look({ width, height, scheme, scale = 1 }) {
    await this.#call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: scale, mobile: width < 500 });
    await this.#call("Emulation.setEmulatedMedia", {
      features: [
        { name: "prefers-color-scheme", value: scheme },
        { name: "prefers-reduced-motion", value: "reduce" },
      ],
    });
  }

  /** A picture of the window as it is, PNG. */
  async picture() {
    const { data } = await this.#call("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data, "base64");
  }

  #call(method, params) {
    return this.#browser.call(method, params, this.#session);
  }

  #on(method, listener) {
    this.#browser.on(this.#session, method, listener);
  }
}
