// Frames into JSON that the gateway takes, or an error that names what is wrong, and where.
//
// The rules are those of docs/protocol.md and of src/protocol/json.rs. What JSON.stringify would
// change without a word is refused too: a Map that becomes `{}`, Infinity that becomes `null`.

/** @import {Frame} from "./framing.js" */
import { DormouseError } from "./errors.js";

/** How deep objects and arrays may nest, the frame itself counted. */
const DEPTH = 32;
/** What JSON has beside numbers, as Object.prototype.toString names it. */
const JSON_KIND = / (Object|Array|String|Boolean|Null)]$/;

const TEXT = /^"/;
const WHOLE = /^\d{1,15}$/;
const SID = /^"s\w{1,11}"$/;

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
  "members.after": SID,
  watch: /^[tf]/, // true or false
  presence: /^"(auto|full|count)"$/,
  tags: /^\[("([^"\\]|\\.)*",?)*]$/,
  since: /^{"epoch":".*","seq":\d{1,15}}$/,
  to: /^{"(sid":"s\w{1,11}|(user|tag)":"([^"\\]|\\.)*)"}$/,
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
    const path = paths.get(this)?.concat(name) ?? [];
    const isField = path.length === 1;
    const kind = {}.toString.call(value);
    // A key that is there is meant; what else is null is absent.
    const rule = isField && (value ?? name === "key") && (FIELDS[`${frame.type}.${name}`] ?? FIELDS[name]);
    const isLeftOut = value === undefined && !Array.isArray(this) && !(isField && name === "data");
    const isNested = value && typeof value === "object";
    const wrong =
      rule && !rule.test(JSON.stringify(value)) ? `cannot be ${JSON.stringify(value)}`
      : /\p{Surrogate}/u.test(kind === "[object String]" ? `${name} ${value}` : name) ? "has a lone surrogate"
      : isNested && path.length >= DEPTH ? `is more than ${DEPTH} levels deep`
      : "";
    const where = () => path.join(".");
    if (wrong) throw new DormouseError("bad_request", `${where()} ${wrong}`);
    if (!isLeftOut && !JSON_KIND.test(kind) && !Number.isFinite(value)) {
      throw new TypeError(`${where()} is no JSON: ${typeof value === "number" ? value : kind.slice(8, -1)}`);
    }
    if (isNested) paths.set(value, path);
    return value;
  });
}
