// The list of messages: what is on disk in order of `seq`, and below it one's own that are not
// there yet.
//
// Each `<li>` carries `data-seq` once it is on disk, `data-pending` until then, `data-own` when
// this tab said it, `data-failed` when the gateway refused it.

/** The most messages kept in the page. */
const SHOWN = 1_000;
/** A pause that makes the same speaker introduce themselves again. */
const PAUSE_MS = 5 * 60_000;

export class Messages {
  #list;
  #scroller;
  #newest;
  /** Own messages on the way, oldest first: { key, text, item }. */
  #pending = [];
  #last = null;

  constructor({ list, scroller, newest }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#newest = newest;
    newest.addEventListener("click", () => this.#toEnd());
    scroller.addEventListener("scroll", () => {
      if (this.#atEnd()) newest.hidden = true;
    }, { passive: true });
    new ResizeObserver(() => {
      if (newest.hidden) this.#toEnd();
    }).observe(scroller);
  }

  get isEmpty() {
    return this.#list.childElementCount === 0;
  }

  /** A message from the room. `arriving` tells one that was said just now from history. */
  add({ seq, time, from, data }, { own, arriving }) {
    const text = readable(data);
    // The room gives back what we said before or after its `ok`; either way it takes the place
    // of the oldest pending one that says the same.
    const echoed = own ? this.#pending.find((pending) => pending.text === text) : undefined;
    if (echoed) this.#drop(echoed);

    const name = from?.name ?? from?.user ?? "somebody";
    const speaker = from?.sid ?? name;
    const first = this.#last?.speaker !== speaker || time - this.#last.time > PAUSE_MS;
    this.#last = { speaker, time };

    const item = this.#item(text, own);
    item.dataset.seq = seq;
    item.title = new Date(time).toLocaleString();
    if (arriving && !echoed) item.dataset.new = "";
    if (first) {
      item.dataset.first = "";
      item.prepend(byline(own ? "you" : name, name, time));
    }
    this.#keepingPlace(own, () => {
      this.#list.insertBefore(item, this.#pending[0]?.item ?? null);
      while (this.#list.childElementCount > SHOWN) this.#list.firstElementChild.remove();
    });
  }

  /** One's own message that the room has not taken yet. */
  addPending(key, text) {
    const item = this.#item(text, true);
    item.dataset.pending = "";
    item.append(note("on its way…"));
    this.#pending.push({ key, text, item });
    this.#keepingPlace(true, () => this.#list.append(item));
  }

  /** What became of a pending one: on disk, or refused. */
  settle({ key, seq, reason, code }) {
    const pending = this.#pending.find((pending) => pending.key === key);
    if (!pending) return;
    if (seq === undefined) {
      this.#pending.splice(this.#pending.indexOf(pending), 1);
      delete pending.item.dataset.pending;
      pending.item.dataset.failed = "";
      pending.item.querySelector(".note").textContent = `Not sent: ${reason ?? code}`;
    } else if (this.#list.querySelector(`[data-seq="${seq}"]`)) {
      this.#drop(pending);
    } else {
      pending.item.querySelector(".note").remove(); // kept; the room's own copy will replace it
    }
  }

  /** Forgets what the room said; what is on its way stays. */
  clear() {
    this.#list.replaceChildren(...this.#pending.map(({ item }) => item));
    this.#last = null;
  }

  #item(text, own) {
    const item = document.createElement("li");
    if (own) item.dataset.own = "";
    item.append(text);
    return item;
  }

  #drop(pending) {
    this.#pending.splice(this.#pending.indexOf(pending), 1);
    pending.item.remove();
  }

  /** Follows the newest message, unless the reader has scrolled up. */
  #keepingPlace(own, change) {
    const follow = own || this.#atEnd();
    change();
    if (follow) this.#toEnd();
    else this.#newest.hidden = false;
  }

  #atEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.#scroller;
    return scrollTop + clientHeight > scrollHeight - 48;
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
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

function byline(shown, name, time) {
  const by = document.createElement("span");
  by.className = "by";
  const strong = document.createElement("strong");
  strong.textContent = shown;
  strong.style.setProperty("--hue", hue(name));
  const when = document.createElement("time");
  when.dateTime = new Date(time).toISOString();
  when.textContent = clock(new Date(time));
  by.append(strong, when);
  return by;
}

function note(text) {
  const note = document.createElement("span");
  note.className = "note";
  note.textContent = text;
  return note;
}

function clock(date) {
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : { weekday: "short", day: "numeric", month: "short" };
  return date.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
}

/** A colour of one's own: the same name always gets the same hue. */
function hue(name) {
  let sum = 0;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)) % 3_600;
  return sum / 10;
}
