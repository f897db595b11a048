// A token that is fetched when it is needed and renewed before it runs out.

/** @import {Options} from "../dormouse.js" */
import { encode } from "./framing.js";

/** How long before its end a token is renewed. */
const EARLY_MS = 60_000;
/** The longest wait that a timer can be told. */
const LONGEST_MS = 2 ** 31 - 1;

export class Token {
  #source;
  #renewed;
  /** Another number after every `stop`. */
  #run = 0;
  /** @type {string | undefined} */
  #token;
  /** @type {any} */
  #timer;

  /**
   * @param {Options["token"]} source
   * @param {(token: string) => void} renewed there is a newer one than `get` gave
   */
  constructor(source, renewed) {
    this.#source = source;
    this.#renewed = renewed;
  }

  /** Whether another can be had. */
  get canRenew() {
    return typeof this.#source === "function";
  }

  /** The token for the next `hello`. Fails as the application's function does, or with a bad token. */
  async get() {
    const run = this.#run;
    const token = this.#token ?? (typeof this.#source === "function" ? await this.#source() : this.#source);
    encode({ token }); // throws for one that the gateway would refuse
    this.#token = token;
    if (run === this.#run) this.#watch(); // else it was stopped meanwhile
    return token;
  }

  /** The gateway says that this one is no longer good. */
  forget() {
    this.#token = undefined;
    this.stop();
  }

  stop() {
    this.#run++;
    clearTimeout(this.#timer);
  }

  #watch() {
    clearTimeout(this.#timer);
    const end = this.#token && this.canRenew ? expiryOf(this.#token) : undefined;
    if (end === undefined) return;
    const wait = Math.min(Math.max(end - EARLY_MS - Date.now(), 0), LONGEST_MS);
    // One that is given out in its last minute is used as long as it lasts.
    if (wait > 0) this.#timer = setTimeout(() => this.#renew(), wait);
  }

  async #renew() {
    const old = this.#token;
    this.#token = undefined;
    try {
      const token = await this.get();
      if (token) this.#renewed(token);
    } catch {
      this.#token ??= old; // the gateway will say when it is over, and then it is asked again
    }
  }
}

/**
 * When a JWT ends, in ms since 1970.
 * @param {string} token
 */
function expiryOf(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return typeof claims.exp === "number" ? claims.exp * 1_000 : undefined;
  } catch {
    return undefined; // it is no JWT, or none of ours to read
  }
}
