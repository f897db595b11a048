// Dormouse's client for React: a room that lives as long as the component that uses it.
//
//     const { room, status, messages, members } = useRoom("lobby", { name: "ada" });

import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { DormouseError, connect } from "./dormouse.js";

/** The most messages kept for a component; `room.history` has the others. */
const SHOWN = 200;
const NOTHING = { room: null, status: { state: "connecting", transport: null }, messages: [], members: [] };

/**
 * Joins a room, and another when its name or `options.gateway` changes. What else the options say
 * counts from the next joining. Where no room can be joined, `status` is closed and has the error.
 */
export function useRoom(name, options = {}) {
  const newest = useRef(options);
  newest.current = options;
  const [store, setStore] = useState(null);
  useEffect(() => {
    const store = open(name, newest.current);
    setStore(store);
    return () => {
      setStore(null);
      store.room?.close();
    };
  }, [name, String(options.gateway)]);
  return useSyncExternalStore(store?.subscribe ?? never, store?.read ?? nothing, nothing);
}

/** The store of a room, or of the reason why there is none: an error thrown in an effect would blank the page. */
function open(name, options) {
  try {
    return new Store(connect(name, options));
  } catch (cause) {
    const error = cause instanceof DormouseError ? cause : new DormouseError("failed", String(cause), { cause });
    return new Store(null, { state: "closed", transport: null, error });
  }
}

const never = () => () => {};
const nothing = () => NOTHING;

/** One room as a value that is replaced whenever something of it changes. */
class Store {
  #listeners = new Set();
  read = () => this.now;
  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  constructor(room, status = NOTHING.status) {
    this.room = room;
    this.now = { ...NOTHING, room, status };
    room?.on("status", (status) => this.#set({ status }));
    room?.on("presence", () => this.#set({ members: [...room.members.values()] }));
    room?.on("message", (message) => this.#set({ messages: [...this.now.messages, message].slice(-SHOWN) }));
  }

  #set(change) {
    this.now = { ...this.now, ...change };
    for (const listener of this.#listeners) listener();
  }
}
