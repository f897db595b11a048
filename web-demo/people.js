// The list of who is here. Each `<li>` of `#people` carries `data-sid`, `data-own` for this
// visitor and `data-away` while a connection is lost and may yet come back.

import { colourOf } from "./colours.js";

export class People {
  #list;
  #number;
  #hint;
  #items = new Map();

  /**
   * @param {object} parts
   * @param {Element} parts.list
   * @param {Element[]} parts.numbers where it is said how many are here
   * @param {Element} parts.hint what is said when there is no list, or only oneself
   * @param {(sid: string) => void} parts.choose somebody was clicked
   */
  constructor({ list, numbers, hint, choose }) {
    this.#list = list;
    this.#number = numbers;
    this.#hint = hint;
    list.addEventListener("click", ({ target }) => {
      const sid = target.closest("button")?.closest("li").dataset.sid;
      if (sid) choose(sid);
    });
  }

  /** Oneself first, then who has been here longest. */
  show(roster, ownSid) {
    const byAge = (a, b) => a.since - b.since || (a.sid < b.sid ? -1 : 1);
    const members = [...roster.values()].sort((a, b) => (b.sid === ownSid) - (a.sid === ownSid) || byAge(a, b));
    const gone = new Set(this.#items.keys());
    members.forEach((member, index) => {
      gone.delete(member.sid);
      const item = this.#items.get(member.sid) ?? this.#make(member.sid, member.sid === ownSid);
      dress(item, member, member.sid === ownSid);
      if (this.#list.children[index] !== item) this.#list.insertBefore(item, this.#list.children[index] ?? null);
    });
    for (const sid of gone) {
      this.#items.get(sid).remove();
      this.#items.delete(sid);
    }
    // Of a large room the number is all that is known, those who are away included.
    const here = roster.isWhole ? members.filter(({ away }) => !away).length : roster.count;
    for (const number of this.#number) number.textContent = `${here.toLocaleString()} here`;
    this.#hint.textContent = hint(roster);
    this.#hint.hidden = !this.#hint.textContent;
  }

  #make(sid, isOwn) {
    const item = document.createElement("li");
    item.dataset.sid = sid;
    if (isOwn) item.dataset.own = "";
    const row = document.createElement(isOwn ? "span" : "button");
    if (!isOwn) row.type = "button";
    row.className = "person";
    for (const name of ["dot", "name", "aside"]) {
      const part = document.createElement("span");
      part.className = name;
      row.append(part);
    }
    item.append(row);
    this.#items.set(sid, item);
    return item;
  }
}

function dress(item, member, isOwn) {
  item.toggleAttribute("data-away", member.away === true);
  item.style.setProperty("--color", colourOf(member));
  item.querySelector(".name").textContent = member.name;
  item.querySelector(".aside").textContent = isOwn ? "you" : member.away ? "away" : "";
  if (!isOwn) item.firstChild.title = `Whisper to ${member.name}`;
}

function hint(roster) {
  if (!roster.isWhole) return "Too many to list them all.";
  if (roster.count <= 1) return "Nobody else yet. Open this page in another tab, or send somebody its address.";
  return "";
}
