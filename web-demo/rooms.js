// This gateway's rooms, awake and asleep. The gateway tells them only to a browser on its own
// machine; for everybody else there is no such list, and after one refusal no more asking.

const EVERY_MS = 2_000;
/** How long after something has happened here. */
const SOON_MS = 200;

export class Rooms {
  #section;
  #list;
  #current;
  #heard;
  #address;
  #timer = null;
  #isSoon = false;
  #isRefused = false;

  /**
   * @param {object} parts
   * @param {Element} parts.section hidden as long as there is no list
   * @param {Element} parts.list
   * @param {string} parts.current the room the visitor is in
   * @param {(room: object) => void} parts.heard what is said of that one
   * @param {(room: string) => string} parts.address where a room's name leads
   */
  constructor({ section, list, current, heard, address }) {
    this.#section = section;
    this.#list = list;
    this.#current = current;
    this.#heard = heard;
    this.#address = address;
    document.addEventListener("visibilitychange", () => this.#ask());
    this.#ask();
  }

  /** Something has happened that the list should show. */
  askSoon() {
    if (this.#isSoon) return;
    this.#isSoon = true;
    this.#askIn(SOON_MS);
  }

  #askIn(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), ms);
  }

  async #ask() {
    this.#isSoon = false;
    if (document.hidden || this.#isRefused) return;
    const answer = await fetch("demo/rooms", { signal: AbortSignal.timeout(EVERY_MS * 2) }).catch(() => null);
    if (answer?.status === 404) this.#isRefused = this.#section.hidden = true;
    const told = answer?.ok ? await answer.json().catch(() => null) : null;
    if (told) this.#show(told.rooms);
    if (!this.#isSoon) this.#askIn(EVERY_MS);
  }

  #show(rooms) {
    const focused = this.#list.contains(document.activeElement) ? document.activeElement.dataset.room : null;
    this.#list.replaceChildren(...rooms.map((room) => this.#item(room)));
    if (focused) this.#list.querySelector(`[data-room="${CSS.escape(focused)}"]`)?.focus();
    this.#section.hidden = rooms.length === 0;
    const here = rooms.find(({ room }) => room === this.#current);
    if (here) this.#heard(here);
  }

  #item({ room, state, seats }) {
    const item = document.createElement("li");
    item.dataset.state = { awake: "awake", waking: "awake", degraded: "degraded" }[state] ?? "asleep";
    const link = document.createElement("a");
    link.href = this.#address(room);
    link.dataset.room = room;
    if (room === this.#current) link.ariaCurrent = "page";
    for (const [name, text] of [["mood", ""], ["name", room], ["aside", aside(state, seats)]]) {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      link.append(part);
    }
    item.append(link);
    return item;
  }
}

function aside(state, seats) {
  const mood = { awake: "awake", waking: "waking", degraded: "unwell", busy: "busy" }[state] ?? "asleep";
  return seats > 0 ? `${mood} · ${seats}` : mood;
}
