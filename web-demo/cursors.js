// Where others point: their cursors over the message area, in parts of its width and height, so
// that windows of any size agree.
//
// A cursor is an ephemeral: often told, at once outdated, never stored, and no loss when lost.
// How often is told is the client's affair.
// Each is in `#cursors` with `data-sid`, `data-still` once it has not moved for a while, and
// `data-east` where there is no room for a name to its right.

const STILL_MS = 2_000;

const ARROW = "M1 1 L1 16 L5.2 12.4 L8 18.6 L10.8 17.4 L8 11.4 L13.4 11 Z";

export class Cursors {
  #layer;
  #cursors = new Map();

  /**
   * @param {object} parts
   * @param {Element} parts.floor where pointers are watched
   * @param {Element} parts.layer as large as the floor, where cursors are shown
   * @param {(at: [number, number] | null) => void} parts.send
   */
  constructor({ floor, layer, send }) {
    this.#layer = layer;
    floor.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch") return; // that is scrolling
      const box = floor.getBoundingClientRect();
      send([part(event.clientX - box.left, box.width), part(event.clientY - box.top, box.height)]);
    }, { passive: true });
    floor.addEventListener("pointerleave", () => send(null));
  }

  /** Somebody's cursor moved to `at`, or left. */
  show(sid, at, { name, colour }) {
    if (!isPlace(at)) return this.#remove(sid);
    const cursor = this.#cursors.get(sid) ?? this.#make(sid);
    const { style } = cursor.element;
    style.setProperty("--x", at[0]);
    style.setProperty("--y", at[1]);
    style.setProperty("--color", colour);
    cursor.element.toggleAttribute("data-east", at[0] > 0.8);
    cursor.label.textContent = name;
    delete cursor.element.dataset.still;
    clearTimeout(cursor.timer);
    cursor.timer = setTimeout(() => (cursor.element.dataset.still = ""), STILL_MS);
  }

  /** Removes the cursors of all who do not satisfy `isHere`. */
  keep(isHere) {
    for (const sid of [...this.#cursors.keys()]) if (!isHere(sid)) this.#remove(sid);
  }

  #make(sid) {
    const element = document.createElement("div");
    element.className = "cursor";
    element.dataset.sid = sid;
    const svg = svgElement("svg", { viewBox: "0 0 15 20", width: 15, height: 20 });
    svg.append(svgElement("path", { d: ARROW }));
    const label = document.createElement("span");
    element.append(svg, label);
    this.#layer.append(element);
    const cursor = { element, label, timer: null };
    this.#cursors.set(sid, cursor);
    return cursor;
  }

  #remove(sid) {
    const cursor = this.#cursors.get(sid);
    if (!cursor) return;
    clearTimeout(cursor.timer);
    cursor.element.remove();
    this.#cursors.delete(sid);
  }
}

function part(at, length) {
  return Math.round(Math.min(Math.max(at / length, 0), 1) * 1_000) / 1_000;
}

function isPlace(at) {
  return Array.isArray(at) && at.length === 2 && at.every((part) => part >= 0 && part <= 1);
}

function svgElement(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
