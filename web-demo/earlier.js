// Scrolling back: whoever reaches the top of the list gets the page before it, until there is
// nothing before it.

const PAGE = 50;

export class Earlier {
  #room;
  #messages;
  #top;
  #observer;
  #isAsking = false;
  #isDone = false;

  /** @param {{room, messages, scroller: Element, top: Element}} parts `top` is above the list */
  constructor({ room, messages, scroller, top }) {
    this.#room = room;
    this.#messages = messages;
    this.#top = top;
    this.#observer = new IntersectionObserver(
      ([seen]) => {
        if (seen.isIntersecting) this.#ask();
      },
      { root: scroller, rootMargin: "300px 0px 0px" },
    );
  }

  /** Begins to watch: the list is as the gateway sent it. */
  begin() {
    this.#observer.unobserve(this.#top);
    this.#observer.observe(this.#top); // which tells at once whether it is seen
  }

  /** The list was emptied: what lies before it is open again. */
  reset() {
    this.#isDone = false;
    this.#top.textContent = "";
  }

  async #ask() {
    const before = this.#messages.oldest;
    if (this.#isAsking || this.#isDone || before === undefined) return;
    if (before === 1) return this.#end([]);
    this.#isAsking = true;
    try {
      const { messages, more } = await this.#room.history({ before, limit: PAGE });
      if (this.#messages.oldest !== before) return; // emptied meanwhile
      if (more) this.#messages.prepend(messages);
      else this.#end(messages);
    } catch {
      return; // the room is closed; a new beginning begins again
    } finally {
      this.#isAsking = false;
    }
    this.begin();
  }

  #end(messages) {
    this.#isDone = true;
    this.#messages.prepend(messages, () => {
      const isWhole = this.#messages.oldest === 1;
      this.#top.textContent = isWhole ? "The beginning of the room" : "What was said before is no longer kept";
      this.#top.dataset.end = "";
    });
  }
}
