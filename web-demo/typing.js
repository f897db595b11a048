// "bob is typing": told while one types, believed for a few seconds.

const AGAIN_MS = 3_000;
const BELIEVED_MS = 5_000;

export class Typing {
  #line;
  #send;
  #toldAt = -Infinity;
  /** Names and timers of those who type, by sid. */
  #typing = new Map();

  /**
   * @param {object} parts
   * @param {HTMLTextAreaElement} parts.field where the visitor types
   * @param {Element} parts.line where it is shown
   * @param {(isTyping: boolean) => void} parts.send
   */
  constructor({ field, line, send }) {
    this.#line = line;
    this.#send = send;
    field.addEventListener("input", () => {
      if (!field.value) return this.stop();
      if (performance.now() - this.#toldAt < AGAIN_MS) return;
      this.#toldAt = performance.now();
      this.#send(true);
    });
  }

  /** The visitor has said it, or thought better of it. */
  stop() {
    if (this.#toldAt === -Infinity) return;
    this.#toldAt = -Infinity;
    this.#send(false);
  }

  hear(sid, isTyping, name) {
    clearTimeout(this.#typing.get(sid)?.timer);
    if (isTyping === true) {
      const timer = setTimeout(() => this.hear(sid, false), BELIEVED_MS);
      this.#typing.set(sid, { name, timer });
    } else this.#typing.delete(sid);
    this.#show();
  }

  /** Forgets all who do not satisfy `isHere`. */
  keep(isHere) {
    for (const sid of [...this.#typing.keys()]) if (!isHere(sid)) this.hear(sid, false);
  }

  #show() {
    const names = [...this.#typing.values()].map(({ name }) => name);
    this.#line.textContent = [
      "",
      `${names[0]} is typing…`,
      `${names[0]} and ${names[1]} are typing…`,
    ][names.length] ?? "Several people are typing…";
  }
}
