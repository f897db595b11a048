// Who wants to hear of what.

/** @import {Events} from "../dormouse.js" */

export class Emitter {
  /** @type {Map<string, Set<(event: any) => void>>} */
  #listeners = new Map();

  /**
   * @template {keyof Events} K
   * @param {K} type
   * @param {(event: Events[K]) => void} listener
   * @param {{ signal?: AbortSignal }} [options]
   */
  on(type, listener, { signal } = {}) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners);
    listeners.add(listener);
    const off = () => void listeners.delete(listener);
    if (signal?.aborted) off();
    signal?.addEventListener("abort", off);
    return off;
  }

  /**
   * @template {keyof Events} K
   * @param {K} type
   * @param {Events[K]} event
   */
  emit(type, event) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        // Somebody's mistake is theirs: it is reported as any other, and nobody else suffers.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
