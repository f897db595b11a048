// Frames into JSON that the gateway takes, or an error that names what is wrong, and where.
//
// The rules are those of docs/protocol.md and of src/protocol/json.rs. What JSON.stringify would
// change without a word is refused too: a Map that becomes `{}`, Infinity that becomes `null`.

/** @import {Frame} from "./framing.js" */
import { DormouseError } from "./errors.js";

/** How deep objects and arrays may nest, the frame itself counted. */
const DEPTH = 32;
/** What JSON has beside numbers, by the names of Object.prototype.toString. */
const KINDS = ["Object", "Array", "String", "Boolean", "Null"];

const TEXT = /^"/;
const WHOLE = /^\d{1,15}$/;
const SID = /^"s(0|[1-9A-Za-z][0-9A-Za-z]{0,10})"$/;

/** What the JSON of a field must be; `data` and `attachment` may be any. @type {Record<string, RegExp>} */
const FIELDS = {
  key: TEXT,
  name: TEXT,
  session: TEXT,
  token: TEXT,
  history: WHOLE,
  limit: WHOLE,
  before: WHOLE,
  after: WHOLE,
  watch: /^(true|false)$/,
  presence: /^"(auto|full|count)"$/,
  tags: /^\[("([^"\\]|\\.)*",?)*]$/,
  since: /^{"epoch":".*","seq":\d{1,15}}$/,
  to: /^{"(sid":"s(0|[1-9A-Za-z][0-9A-Za-z]{0,10})|(user|tag)":"([^"\\]|\\.)*)"}$/,
};

/**
 * A frame's JSON. Throws a `DormouseError` with the code `bad_request` for what the gateway would
 * refuse, and a `TypeError` for what is no JSON.
 * @param {Frame} frame
 * @returns {string}
 */
export function toJson(frame) {
  /** The names and indices that lead to an object or array. @type {Map<unknown, string[]>} */
  const paths = new Map();
  return JSON.stringify(frame, function (name, value) {
    const around = paths.get(this) ?? [];
    const path = () => [...around, name];
    const where = () => path().slice(1).join(".");
    const refuse = (/** @type {string} */ why) => {
      throw new DormouseError("bad_request", `${where()} ${why}`);
    };
    const isField = around.length === 1;
    // A key that is there is meant; what else is null is absent.
    const rule = isField && (value ?? name === "key") && (name === "after" && frame.type === "members" ? SID : FIELDS[name]);
    if (rule && !rule.test(JSON.stringify(value))) refuse(`cannot be ${JSON.stringify(value)}`);
    const kind = {}.toString.call(value).slice(8, -1);
    if (/\p{Surrogate}/u.test(kind === "String" ? `${name} ${value}` : name)) refuse("has half an emoji, a lone surrogate");
    const isLeftOut = value === undefined && !Array.isArray(this) && !(isField && name === "data");
    if (!isLeftOut && !KINDS.includes(kind) && !Number.isFinite(value)) {
      throw new TypeError(`${where()} is no JSON: ${kind === "Number" ? value : kind}`);
    }
    if (value && typeof value === "object") {
      if (around.length >= DEPTH) refuse(`is more than ${DEPTH} levels deep`);
      paths.set(value, path());
    }
    return value;
  });
}
