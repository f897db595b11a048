// Where a gateway is, from what the application says of it.

import { DormouseError } from "./errors.js";

/**
 * The address below which everything of a gateway is: its origin, and its path if it has one,
 * without a slash at the end. Throws `no_gateway` for an address that cannot work.
 *
 * @param {any} given a text or a URL; `ws:` means `http:`; a path alone is one of the page's origin
 */
export function baseOf(given) {
  const page = globalThis.location?.origin;
  const own = import.meta.url ?? "";
  const text = given?.href ?? given ?? (/^https?:/.test(own) ? new URL(own).origin : page);
  if (typeof text !== "string") throw wrong("is neither a text nor a URL");
  let url;
  try {
    url = new URL(text, text[0] === "/" ? page : undefined);
  } catch {
    throw wrong(`cannot be read: "${text}"`);
  }
  if (!/^(http|ws)s?:/.test(url.protocol)) throw wrong(`begins with "${url.protocol}"`);
  if (url.username || url.password || url.search || url.hash) throw wrong("holds a user, a password, a query or a fragment");
  return url.origin.replace(/^ws/, "http") + url.pathname.replace(/\/+$/, "");
}

/** @param {string} why */
function wrong(why) {
  return new DormouseError("no_gateway", `the gateway's address ${why}; it should be like https://rooms.example/path`);
}
