// Headless Chromium by the DevTools protocol, with nothing but node.

import { hear } from "./discovery.mjs";
import { Page } from "./page.mjs";
import { Wire, startBrowser } from "./wire.mjs";

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

const SHIFT = 8;

/** What Chromium needs to know of a key beside its name. */
const KEYS = {
  Enter: { windowsVirtualKeyCode: 13, text: "\r" },
  Escape: { windowsVirtualKeyCode: 27 },
  Tab: { windowsVirtualKeyCode: 9 },
};

export class Chromium {
  #process;
  #wire;

  static async launch() {
    const browser = new Chromium();
    browser.#process = await startBrowser(CHROMIUM, (profile) => [...FLAGS, `--user-data-dir=${profile}`, "about:blank"]);
    browser.#wire = await Wire.open(browser.#process.address, (event) => `${event.sessionId} ${event.method}`);
    return browser;
  }

  close() {
    return this.#process.end();
  }

  /** A fresh tab in a profile of its own; it closes with the test `t`. */
  async open(t, url) {
    const { browserContextId } = await this.#wire.call("Target.createBrowserContext");
    const { targetId } = await this.#wire.call("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.#wire.call("Target.attachToTarget", { targetId, flatten: true });
    t.after(() => this.#wire.call("Target.disposeBrowserContext", { browserContextId }));
    const page = new ChromiumPage(this.#wire, sessionId);
    await page.prepare();
    if (url) await page.goto(url);
    return page;
  }
}

class ChromiumPage extends Page {
  #wire;
  #session;

  constructor(wire, session) {
    super();
    this.#wire = wire;
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

  async type(text) {
    await this.#call("Input.insertText", { text });
  }

  async press(key) {
    const name = key.replace("Shift+", "");
    const keys = { ...KEYS[name], key: name, code: name, modifiers: key === name ? 0 : SHIFT };
    await this.#call("Input.dispatchKeyEvent", { type: "keyDown", ...keys });
    await this.#call("Input.dispatchKeyEvent", { type: "keyUp", ...keys });
  }

  async point(x, y) {
    await this.#call("Input.dispatchMouseEvent", { type: "mouseMoved", x, y });
  }

  /** What the page, and those after it in this tab, hear of the gateway: as `hear` takes it. */
  async hears(answer) {
    const source = `(${hear})(${JSON.stringify(answer)})`;
    await this.#call("Page.addScriptToEvaluateOnNewDocument", { source });
    await this.#call("Runtime.evaluate", { expression: source });
  }

  /** Changes the window and the colours; nothing moves unless asked, so that pictures can be compared. */
  async look({ width, height, scheme, scale = 1, motion = false }) {
    await this.#call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: scale, mobile: width < 500 });
    await this.#call("Emulation.setEmulatedMedia", {
      features: [
        { name: "prefers-color-scheme", value: scheme },
        { name: "prefers-reduced-motion", value: motion ? "no-preference" : "reduce" },
      ],
    });
  }

  /** Stops the page as Chromium does with tabs that nobody has looked at for long. */
  async freeze() {
    await this.#call("Page.setWebLifecycleState", { state: "frozen" });
  }

  async thaw() {
    await this.#call("Page.setWebLifecycleState", { state: "active" });
  }

  async picture() {
    const { data } = await this.#call("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data, "base64");
  }

  #call(method, params) {
    return this.#wire.call(method, params, { sessionId: this.#session });
  }

  #on(method, listener) {
    this.#wire.on(`${this.#session} ${method}`, listener);
  }
}
