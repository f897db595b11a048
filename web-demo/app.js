// The page: what a visitor sees of one Connection.
//
// Room, name and choice of transport live in the URL (`/?room=lobby&name=ada&transport=auto`), so
// that a link says where it leads. The seat is kept per tab.
//
// `<html>` always says how things stand, for the style sheet and for tests:
//
//     data-state      connecting | live | reconnecting | closed
//     data-transport  none | webtransport | websocket
//     data-room       unknown | awake | asleep | degraded
//
// and every message in `#messages` says which it is; see messages.js.

import { Connection } from "./connection.js";
import { Messages } from "./messages.js";
import { friendlyName } from "./names.js";

const TRANSPORTS = { webtransport: "WebTransport", websocket: "WebSocket" };
const ROOM_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/;
const SEAT_TAKEN_OVER = 4508;

const page = document.documentElement.dataset;
const byId = (id) => document.getElementById(id);
const place = readPlace();
const seat = takeSeat(place.room);
const ownSids = new Set();

const messages = new Messages({
  list: byId("messages"),
  scroller: document.querySelector(".scroller"),
  newest: byId("newest"),
});
const connection = new Connection({
  base: location.origin,
  room: place.room,
  name: place.name,
  session: seat.session,
  transport: place.transport,
});

let final; // the close code after which the connection does not come back by itself

connection.addEventListener("state", ({ detail }) => {
  page.state = detail.state;
  page.transport = detail.transport;
  final = detail.final;
  byId("badge-text").textContent = badge(detail);
  byId("messages").ariaBusy = detail.state !== "live"; // history is not read aloud
  if (detail.state === "live") {
    notice(null);
    if (page.room === "unknown") showRoom("unknown");
    byId("silence").hidden = !messages.isEmpty;
  } else {
    showRoom("unknown");
    if (detail.trouble) notice(detail.trouble, detail.state === "closed" ? "Come back" : "Try now");
  }
});

connection.addEventListener("seated", ({ detail }) => {
  seat.session = detail.session;
  ownSids.add(detail.sid);
  if (detail.fresh) messages.clear();
});

connection.addEventListener("message", ({ detail }) => {
  const arriving = page.state === "live";
  messages.add(detail, { own: ownSids.has(detail.from?.sid), arriving });
  if (arriving && page.room === "unknown") showRoom("awake"); // nobody speaks in a sleeping room
  byId("silence").hidden = true;
});

connection.addEventListener("answer", ({ detail }) => messages.settle(detail));

connection.addEventListener("room", ({ detail }) => showRoom(detail.state, detail));

connection.addEventListener("trouble", ({ detail }) => notice(`The gateway says: ${detail.reason}`));

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text) return;
  const key = connection.publish({ text });
  if (key === null) return notice("Too much is waiting to be sent. One moment.");
  messages.addPending(key, text);
  byId("silence").hidden = true;
  byId("text").value = "";
});

byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

byId("transports").addEventListener("change", ({ target }) => {
  place.transport = target.value;
  writePlace();
  connection.use(target.value);
  connection.start();
});

// The browser itself follows the form's address; all that is left to do is to say goodbye.
byId("place").addEventListener("submit", () => {
  if (byId("place").elements.room.value === place.room) return;
  connection.leave();
  seat.session = undefined;
});

byId("retry").addEventListener("click", () => {
  if (final === SEAT_TAKEN_OVER) connection.forgetSeat();
  connection.start();
  connection.retryNow();
});

addEventListener("online", () => connection.retryNow());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) connection.retryNow();
});

// Firefox would keep a WebTransport session for as long as it runs, so a page that goes closes
// it. The seat goes back into the tab's storage, where a reload finds it.
addEventListener("pagehide", () => {
  connection.pause();
  seat.keep();
});
addEventListener("pageshow", ({ persisted }) => {
  if (persisted && final === undefined) connection.start();
});

writePlace();
if (ROOM_NAME.test(place.room)) connection.start();
else {
  page.state = "closed";
  byId("badge-text").textContent = "Offline";
  byId("room-state").textContent = "There is no such room.";
  notice("A room's name is 1 to 128 letters, digits or any of . _ ~ -");
  byId("retry").hidden = true;
}

function readPlace() {
  const query = new URLSearchParams(location.search);
  const transport = query.get("transport");
  return {
    room: query.get("room")?.trim() || "lobby",
    name: Array.from(query.get("name")?.trim() || friendlyName()).slice(0, 64).join(""),
    transport: transport in TRANSPORTS ? transport : "auto",
  };
}

/** Puts the place into the URL, the title and the forms. */
function writePlace() {
  history.replaceState(null, "", `?${new URLSearchParams(place)}`);
  document.title = `${place.room} · Dormouse`;
  byId("room-name").textContent = place.room;
  const { room, name, transport } = byId("place").elements;
  room.value = place.room;
  name.value = place.name;
  transport.value = place.transport;
  byId("transports").elements.transport.value = place.transport;
}

/**
 * The tab's seat in `room`, taken out of its storage while the page lives: a duplicated tab gets
 * a copy of the storage, and would otherwise take this tab's seat.
 */
function takeSeat(room) {
  const slot = `dormouse.session.${room}`;
  const session = sessionStorage.getItem(slot) ?? undefined;
  sessionStorage.removeItem(slot);
  return {
    session,
    keep() {
      if (this.session) sessionStorage.setItem(slot, this.session);
    },
  };
}

function badge({ state, transport }) {
  if (state === "live") return TRANSPORTS[transport];
  return { connecting: "Connecting", reconnecting: "Reconnecting", closed: "Offline" }[state];
}

function notice(text, action) {
  byId("notice").hidden = !text;
  byId("notice-text").textContent = text ?? "";
  byId("retry").hidden = !action;
  if (action) byId("retry").textContent = action;
}

function showRoom(state, { woke_in_us: us } = {}) {
  page.room = state === "well" ? "awake" : state;
  byId("room-state").textContent = {
    asleep: "Asleep. Everyone stays connected, and the next message wakes the room.",
    awake: us === undefined ? "Awake and listening." : `Awake: a message woke the room in ${duration(us)}.`,
    degraded: "The store is unwell. What you say may have to wait.",
    unknown: page.state === "live" ? "Here and listening." : "Looking for the room…",
  }[page.room];
}

function duration(us) {
  return us < 1_000 ? `${us} µs` : `${(us / 1_000).toFixed(1)} ms`;
}
