// A token that is fetched when it is needed and renewed before it runs out.

/** @import {Options} from "../dormouse.js" */
import { encode } from "./framing.js";

/** How long before its end a token is renewed. */
const EARLY_MS = 60_000;
/** The longest wait that a timer can be told. */
const LONGEST_MS = 2 ** 31 - 1;

export class Token {
  /** Whether another can be had. */
  canRenew;
  #source;
  #renewed;
  /** Whether it is to be renewed. */
  #isWatched = false;
  /** @type {string | undefined} */
  #token;
  /** @type {any} */
  #timer;

  /**
   * @param {Options["token"]} source
   * @param {(token: string) => void} renewed there is a newer one than `get` gave
   */
  constructor(source, renewed) {
    this.canRenew = typeof source === "function";
    this.#source = typeof source === "function" ? source : () => source;
    this.#renewed = renewed;
  }

  /** The token for the next `hello`. Fails as the application's function does, or with a bad token. */
  async get() {
    this.#isWatched = true;
    const token = this.#token ?? (await this.#source());
    encode({ token }); // throws for one that the gateway would refuse
    this.#token = token;
    if (this.#isWatched) this.#watch(); // else it was stopped meanwhile
    return token;
  }

  /** The gateway says that this one is no longer good. */
  forget() {
    this.#token = undefined;
    this.stop();
  }

  stop() {
    this.#isWatched = false;
    clearTimeout(this.#timer);
  }

  #watch() {
    clearTimeout(this.#timer);
    const wait = Math.min(expiryOf(this.#token) - EARLY_MS - Date.now(), LONGEST_MS);
    // One that is given out in its last minute is used as long as it lasts.
    if (this.canRenew && wait > 0) this.#timer = setTimeout(() => this.#renew(), wait);
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
 * When a JWT ends, in ms since 1970; NaN for what is none, or none of ours to read.
 * @param {any} token
 */
function expiryOf(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return claims.exp * 1_000;
  } catch {
    return NaN;
  }
}
