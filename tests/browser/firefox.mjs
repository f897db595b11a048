// Headless Firefox by WebDriver BiDi, with nothing but node.

import { Page } from "./page.mjs";
import { Wire, startBrowser } from "./wire.mjs";

const FIREFOX = process.env.FIREFOX ?? "firefox-esr";

/** Keys by their names, as WebDriver writes them. */
const KEYS = { Enter: "\uE007", Escape: "\uE00C", Tab: "\uE004" };

export class Firefox {
  #process;
  #wire;

  static async launch() {
    const browser = new Firefox();
    browser.#process = await startBrowser(FIREFOX, (profile) => [
      "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0", "about:blank",
    ]);
    browser.#wire = await Wire.open(`${browser.#process.address}/session`, (event) => `${event.params?.source?.context} ${event.method}`);
    await browser.#wire.call("session.new", { capabilities: {} });
    await browser.#wire.call("session.subscribe", { events: ["log.entryAdded"] });
    return browser;
  }

  close() {
    return this.#process.end();
  }

  /** A fresh window in a profile of its own; it closes with the test `t`. */
  async open(t, url) {
    const { userContext } = await this.#wire.call("browser.createUserContext");
    // A window and not a tab: of tabs only one is visible, and the others sleep a little.
    const { context } = await this.#wire.call("browsingContext.create", { type: "window", userContext });
    t.after(async () => {
      await this.#wire.call("browsingContext.navigate", { context, url: "about:blank", wait: "complete" });
      await this.#wire.call("browser.removeUserContext", { userContext });
    });
    const page = new FirefoxPage(this.#wire, context);
    if (url) await page.goto(url);
    return page;
  }
}

class FirefoxPage extends Page {
  #wire;
  #context;

  constructor(wire, context) {
    super();
    this.#wire = wire;
    this.#context = context;
    wire.on(`${context} log.entryAdded`, ({ level, type, text }) => {
      // A network that is down is not the page's fault, whatever Firefox calls it.
      if (/CORS request did not succeed|can’t establish a connection/.test(text)) return;
      if (level === "error" && (type === "javascript" || /Content-Security-Policy/.test(text))) this.faults.push(text);
    });
  }

  async goto(url) {
    await this.#call("browsingContext.navigate", { url, wait: "complete" });
  }

  async reload() {
    await this.#call("browsingContext.reload", { wait: "complete" });
  }

  /** Runs a function in the page; what it takes and gives must be JSON. */
  async evaluate(fn, ...args) {
    const { type, result, exceptionDetails } = await this.#wire.call("script.evaluate", {
      expression: `(async () => JSON.stringify(await (${fn})(...${JSON.stringify(args)})))()`,
      target: { context: this.#context },
      awaitPromise: true,
    });
    if (type === "exception") throw new Error(exceptionDetails.text);
    return result.type === "undefined" ? undefined : JSON.parse(result.value);
  }

  async type(text) {
    await this.#keys(...Array.from(text));
  }

  async press(key) {
    await this.#keys(KEYS[key]);
  }

  async point(x, y) {
    const move = { type: "pointerMove", x, y };
    await this.#perform({ type: "pointer", id: "mouse", parameters: { pointerType: "mouse" }, actions: [move] });
  }

  #keys(...values) {
    const actions = values.flatMap((value) => [{ type: "keyDown", value }, { type: "keyUp", value }]);
    return this.#perform({ type: "key", id: "keys", actions });
  }

  #perform(action) {
    return this.#call("input.performActions", { actions: [action] });
  }

  #call(method, params) {
    return this.#wire.call(method, { context: this.#context, ...params });
  }
}
