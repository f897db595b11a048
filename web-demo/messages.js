// The list of messages: what is on disk in order of `seq`, and below it one's own that are not
// there yet. Among them stand whispers, which have no `seq`, and marks of when one was away.
//
// Each message's `<li>` carries `data-seq` once it is on disk, `data-pending` until then,
// `data-own` when this tab said it, `data-failed` when the gateway refused it; a whisper
// `data-whisper`. A mark is `.mark` with `data-missed` and `data-lost`.

/** The most messages kept in the page, unless somebody scrolls back further. */
const SHOWN = 1_000;
/** A pause that makes the same speaker introduce themselves again. */
const PAUSE_MS = 5 * 60_000;

export class Messages {
  #list;
  #scroller;
  #newest;
  #isOwn;
  #colourOf;
  /** Whether the reader is at the end of the list, and stays there. */
  #follows = true;
  /** Own messages on the way, oldest first: { text, item }. */
  #pending = [];
  /** Speaker and time of each item that has one. */
  #said = new WeakMap();

  /**
   * @param {object} parts
   * @param {Element} parts.list
   * @param {Element} parts.scroller
   * @param {Element} parts.newest a button that leads to the end
   * @param {(sid: string) => boolean} parts.isOwn
   * @param {(sid: string, name: string) => string} parts.colourOf
   */
  constructor({ list, scroller, newest, isOwn, colourOf }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#newest = newest;
    this.#isOwn = isOwn;
    this.#colourOf = colourOf;
    newest.addEventListener("click", () => this.#toEnd());
    scroller.addEventListener("scroll", () => {
      this.#follows = this.#isAtEnd();
      if (this.#follows) newest.hidden = true;
    }, { passive: true });
    new ResizeObserver(() => {
      if (this.#follows) this.#toEnd();
    }).observe(scroller);
  }

  get isEmpty() {
    return this.#list.childElementCount === 0;
  }

  /** The `seq` of the oldest message shown. */
  get oldest() {
    const item = this.#list.querySelector("[data-seq]");
    return item ? Number(item.dataset.seq) : undefined;
  }

  /** A message from the room. `arriving` tells one that was said just now from history. */
  add(message, { arriving }) {
    const own = this.#isOwn(message.from?.sid);
    const { item, text } = this.#render(message);
    // The room gives back what we said before or after its `ok`; either way it takes the place
    // of the oldest pending one that says the same.
    const echoed = own ? this.#pending.find((pending) => pending.text === text) : undefined;
    if (echoed) this.#drop(echoed);
    if (arriving && !echoed) item.dataset.new = "";
    this.#append(item, own && arriving);
  }

  /** A page of what was said before, oldest first, put in place without moving what is read. */
  prepend(messages, afterwards = () => {}) {
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    const first = this.#list.firstElementChild;
    const items = messages.map((message) => this.#render(message).item);
    this.#list.prepend(...items);
    for (const item of items) this.#introduce(item);
    if (first) this.#introduce(first);
    afterwards();
    this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
  }

  /** One's own message that the room has not taken yet; call what it gives with what became of it. */
  addPending(text) {
    const item = element("li", { text });
    item.dataset.own = item.dataset.pending = "";
    item.append(element("span", { className: "note", text: "on its way…" }));
    const pending = { text, item };
    this.#pending.push(pending);
    this.#keepingPlace(true, () => this.#list.append(item));
    return (outcome) => this.#settle(pending, outcome);
  }

  /** On disk as `seq`, or refused for a `reason`. */
  #settle(pending, { seq, reason }) {
    if (!this.#pending.includes(pending)) return;
    const { item } = pending;
    if (seq === undefined) {
      this.#pending.splice(this.#pending.indexOf(pending), 1);
      delete item.dataset.pending;
      item.dataset.failed = "";
      item.querySelector(".note").textContent = `Not sent: ${reason}`;
    } else if (this.#list.querySelector(`[data-seq="${seq}"]`)) {
      this.#drop(pending);
    } else {
      item.querySelector(".note").remove(); // kept; the room's own copy will replace it
    }
  }

  /** A direct message; `to` is a name when it is one's own. Gives what can mark it as failed. */
  whisper(message, to) {
    const { item } = this.#render(message, to === undefined ? "whispers to you" : `you to ${to}`);
    item.dataset.whisper = "";
    if (to !== undefined) item.dataset.own = "";
    else item.dataset.new = "";
    this.#append(item, to !== undefined);
    return (why) => {
      item.dataset.failed = "";
      item.append(element("span", { className: "note", text: why }));
    };
  }

  /** Says, below what came after an absence, how much was missed and whether all of it came. */
  mark({ missed, lost, text = `${missed} missed, ${lost} lost`, aside }) {
    const mark = element("li", { className: "mark" });
    mark.dataset.missed = missed;
    mark.dataset.lost = lost;
    mark.append(element("strong", { text }), ` ${aside}`);
    this.#append(mark, false);
  }

  /** Forgets what the room said; what is on its way stays. */
  clear() {
    this.#list.replaceChildren(...this.#pending.map(({ item }) => item));
  }

  /** Somebody's colour may have changed. */
  paint() {
    for (const item of this.#list.children) this.#colour(item);
  }

  #render({ seq, time, from, data }, aside) {
    const text = readable(data);
    const own = this.#isOwn(from?.sid);
    const name = from?.name ?? from?.user ?? "somebody";
    const item = element("li", {});
    if (own) item.dataset.own = "";
    if (seq !== undefined) item.dataset.seq = seq;
    item.title = new Date(time).toLocaleString();
    item.append(byline(aside && own ? aside : own ? "you" : name, own ? "" : aside, time), text);
    this.#said.set(item, { speaker: `${from?.sid ?? name} ${aside ?? ""}`, sid: from?.sid, name, time });
    this.#colour(item);
    return { item, text };
  }

  /** Puts an item below everything that is on disk. */
  #append(item, isOwn) {
    this.#keepingPlace(isOwn, () => {
      this.#list.insertBefore(item, this.#pending[0]?.item ?? null);
      this.#introduce(item);
      if (!this.#follows) return; // somebody reads up there
      while (this.#list.childElementCount > SHOWN) this.#list.firstElementChild.remove();
    });
  }

  /** Says who speaks, unless that is plain from the message before. */
  #introduce(item) {
    const said = this.#said.get(item);
    if (!said) return;
    const before = this.#said.get(item.previousElementSibling);
    const follows = before?.speaker === said.speaker && said.time - before.time <= PAUSE_MS;
    item.toggleAttribute("data-first", !follows);
  }

  #colour(item) {
    const said = this.#said.get(item);
    if (said) item.style.setProperty("--color", this.#colourOf(said.sid, said.name));
  }

  #drop(pending) {
    this.#pending.splice(this.#pending.indexOf(pending), 1);
    pending.item.remove();
  }

  /** Follows the newest message, unless the reader has scrolled up. */
  #keepingPlace(isOwn, change) {
    const follows = isOwn || this.#follows;
    change();
    if (follows) this.#toEnd();
    else this.#newest.hidden = false;
  }

  #isAtEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.#scroller;
    return scrollTop + clientHeight > scrollHeight - 48;
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#follows = true;
    this.#newest.hidden = true;
  }
}

/** A payload as text. Rooms carry any JSON; a chat shows what it can. */
function readable(data) {
  if (typeof data === "string") return data;
  if (data instanceof Uint8Array) return `(${data.length} bytes)`;
  const text = data?.text ?? data?.message;
  return typeof text === "string" ? text : JSON.stringify(data);
}

function byline(name, aside, time) {
  const by = element("span", { className: "by" });
  const when = element("time", { text: clock(new Date(time)) });
  when.dateTime = new Date(time).toISOString();
  by.append(element("strong", { text: name }));
  if (aside) by.append(element("span", { text: aside }));
  by.append(when);
  return by;
}

function element(name, { className, text }) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.append(text);
  return made;
}

function clock(date) {
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : { weekday: "short", day: "numeric", month: "short" };
  return date.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
}
