// How the room is: asleep or awake, when it will fall asleep, and how it last woke.
//
// The gateway says so when it changes, but not each time that somebody speaks and the wait
// begins anew; that is counted here, and corrected by whoever knows better.

/** How often the countdown is drawn. */
const EVERY_MS = 200;

const CAUSES = { publish: "a message", direct: "a whisper", alarm: "an alarm", wake: "its operator", store: "the store" };

export class Slumber {
  #parts;
  #sleepsAt = null;
  /** The longest wait seen, which is what a message sets it to. */
  #wait = 0;

  /** @param {{sentence: Element, dusk: Element, countdown: Element, lastWake: Element}} parts */
  constructor(parts) {
    this.#parts = parts;
    setInterval(() => this.#draw(), EVERY_MS);
  }

  /** A sentence about the room, and how it is: unknown, asleep, awake or degraded. */
  show(state, sentence) {
    document.documentElement.dataset.room = state;
    if (this.#parts.sentence.textContent !== sentence) this.#parts.sentence.textContent = sentence;
    if (state !== "awake") this.#sleepsAt = null;
    this.#draw();
  }

  /** The room woke, or was found awake. */
  woke({ woke_in_us: us, cause }) {
    this.#parts.lastWake.hidden = false;
    const [took, what] = this.#parts.lastWake.querySelectorAll("strong");
    took.textContent = duration(us);
    what.textContent = CAUSES[cause] ?? cause;
  }

  /** It sleeps in `ms` if nothing happens; without a number, as after anything that is said. */
  sleepsIn(ms = this.#wait) {
    if (document.documentElement.dataset.room !== "awake" || !ms) return;
    this.#wait = Math.max(this.#wait, ms);
    this.#sleepsAt = performance.now() + ms;
    this.#draw();
  }

  #draw() {
    const { dusk, countdown } = this.#parts;
    dusk.hidden = this.#sleepsAt === null;
    if (dusk.hidden) return;
    const left = Math.max(0, this.#sleepsAt - performance.now());
    dusk.style.setProperty("--left", this.#wait ? left / this.#wait : 0);
    const seconds = Math.ceil(left / 1_000);
    const text = seconds === 0 ? "Any moment now" : `Sleeps in ${seconds > 99 ? `${Math.round(seconds / 60)} min` : `${seconds} s`}`;
    if (countdown.textContent !== text) countdown.textContent = text;
  }
}

function duration(us) {
  return us < 1_000 ? `${us} µs` : `${(us / 1_000).toFixed(1)} ms`;
}
