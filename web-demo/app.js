// The page: what a visitor sees of one Connection.
//
// Room, name and choice of transport live in the URL (`/?room=lobby&name=ada&transport=auto`), so
// that a link says where it leads. The seat is kept per tab, the colour per browser.
//
// `<html>` always says how things stand, for the style sheet and for tests:
//
//     data-state      connecting | live | reconnecting | closed
//     data-transport  none | webtransport | websocket
//     data-room       unknown | awake | asleep | degraded
//     data-unplugged  there while the visitor's own unplugging lasts
//
// Each part has a file of its own that says by which attributes its elements can be found:
// messages.js, people.js, cursors.js, rooms.js.

import { PALETTE, colourOf, keepColour, ownColour } from "./colours.js";
import { Connection } from "./connection.js";
import { Cursors } from "./cursors.js";
import { Earlier } from "./earlier.js";
import { Messages } from "./messages.js";
import { friendlyName } from "./names.js";
import { People } from "./people.js";
import { Rooms } from "./rooms.js";
import { Slumber } from "./slumber.js";
import { Typing } from "./typing.js";

const TRANSPORTS = { webtransport: "WebTransport", websocket: "WebSocket" };
const ROOM_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/;
const SEAT_TAKEN_OVER = 4508;
const UNPLUGGED_MS = 3_000;

const page = document.documentElement.dataset;
const byId = (id) => document.getElementById(id);
const scroller = document.querySelector(".scroller");
const place = readPlace();
const seat = takeSeat(place.room);
const ownSids = new Set();

let ownSid; // of the seat we have now
let final; // the close code after which the connection does not come back by itself
let wasUnplugged = false;
let whisperTo = null; // the member to whom the next words go, if not to all

const connection = new Connection({
  base: location.origin,
  room: place.room,
  name: place.name,
  attachment: { color: ownColour() },
  session: seat.session,
  transport: place.transport,
});
const { roster } = connection;

const messages = new Messages({
  list: byId("messages"),
  scroller,
  newest: byId("newest"),
  isOwn: (sid) => ownSids.has(sid),
  colourOf: (sid, name) => colourOf(roster.get(sid), name),
});
const earlier = new Earlier({ connection, messages, scroller, top: byId("earlier") });
const people = new People({
  list: byId("people"),
  numbers: document.querySelectorAll(".count"),
  hint: byId("people-hint"),
  choose: (sid) => whisper(roster.get(sid)),
});
const cursors = new Cursors({
  floor: scroller,
  layer: byId("cursors"),
  send: (at) => connection.show("cursor", at),
});
const typing = new Typing({
  field: byId("text"),
  line: byId("typing"),
  send: (isTyping) => connection.show("typing", isTyping && !whisperTo),
});
const slumber = new Slumber({
  sentence: byId("room-state"),
  dusk: byId("dusk"),
  countdown: byId("countdown"),
  lastWake: byId("last-wake"),
});
const rooms = new Rooms({
  section: byId("rooms-section"),
  list: byId("rooms"),
  current: place.room,
  heard: ({ sleeps_in_ms }) => slumber.sleepsIn(sleeps_in_ms ?? 0),
  address: (room) => `?${new URLSearchParams({ ...place, room })}`,
});

connection.addEventListener("state", ({ detail }) => {
  page.state = detail.state;
  page.transport = detail.transport;
  document.documentElement.toggleAttribute("data-unplugged", detail.unplugged === true);
  wasUnplugged ||= detail.unplugged === true;
  final = detail.final;
  byId("badge-text").textContent = badge(detail);
  byId("messages").ariaBusy = detail.state !== "live"; // history is not read aloud
  byId("unplug").disabled = detail.state !== "live";
  if (detail.state === "live") {
    notice(null);
    if (page.room === "unknown") showRoom("unknown");
    byId("silence").hidden = !messages.isEmpty;
    earlier.begin();
    return;
  }
  showRoom("unknown");
  cursors.keep(() => false);
  typing.keep(() => false);
  if (detail.unplugged) notice("Unplugged for three seconds. Say something meanwhile; it will be said once.");
  else if (detail.trouble) notice(detail.trouble, detail.state === "closed" ? "Come back" : "Try now");
});

connection.addEventListener("seated", ({ detail }) => {
  seat.session = detail.session;
  ownSid = detail.sid;
  ownSids.add(detail.sid);
  if (detail.fresh) {
    messages.clear();
    earlier.reset();
  }
});

connection.addEventListener("caught-up", ({ detail: { missed, lost, why, away } }) => {
  const isWorthTelling = missed > 0 || lost > 0 || why || wasUnplugged;
  wasUnplugged = false;
  const text = why === "epoch" ? "The room's log began anew" : undefined;
  if (isWorthTelling) messages.mark({ missed, lost, text, aside: `in ${seconds(away)} away` });
});

connection.addEventListener("message", ({ detail }) => {
  const arriving = page.state === "live";
  messages.add(detail, { arriving });
  if (arriving) stirred(detail.from?.sid);
  byId("silence").hidden = true;
});

connection.addEventListener("direct", ({ detail }) => {
  if (!ownSids.has(detail.from?.sid)) messages.whisper(detail);
  stirred(detail.from?.sid);
  byId("silence").hidden = true;
});

connection.addEventListener("answer", ({ detail }) => messages.settle(detail));

connection.addEventListener("presence", () => {
  people.show(roster, ownSid);
  rooms.askSoon();
  messages.paint();
  const isHere = (sid) => !roster.isWhole || (roster.get(sid) && !roster.get(sid).away);
  cursors.keep(isHere);
  typing.keep(isHere);
  if (whisperTo && roster.isWhole && !roster.get(whisperTo.sid)) whisper(null);
});

connection.addEventListener("ephemeral", ({ detail: { key, from, data } }) => {
  const member = roster.get(from);
  const name = member?.name ?? "somebody";
  if (key === "cursor") cursors.show(from, data, { name, colour: colourOf(member, name) });
  if (key === "typing") typing.hear(from, data, name);
});

connection.addEventListener("room", ({ detail }) => {
  showRoom(detail.state, detail);
  rooms.askSoon();
});

connection.addEventListener("trouble", ({ detail }) => notice(`The gateway says: ${detail.reason}`));

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text || !(whisperTo ? sayTo(whisperTo, text) : sayToAll(text))) return;
  byId("silence").hidden = true;
  byId("text").value = "";
  typing.stop();
});

byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Escape" && whisperTo) return whisper(null);
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

byId("whisper-end").addEventListener("click", () => whisper(null));

byId("transports").addEventListener("change", ({ target }) => {
  place.transport = target.value;
  writePlace();
  connection.use(target.value);
  connection.start();
});

byId("unplug").addEventListener("click", () => {
  byId("settings").hidePopover();
  connection.unplug(UNPLUGGED_MS);
  byId("text").focus();
});

byId("colours").addEventListener("change", ({ target }) => connection.attach({ color: keepColour(target.value) }));

byId("place").addEventListener("submit", (event) => {
  event.preventDefault();
  const { room, name } = byId("place").elements;
  if (room.value !== place.room) leave();
  location.assign(`?${new URLSearchParams({ ...place, room: room.value, name: name.value })}`);
});

byId("rooms").addEventListener("click", (event) => {
  const opensElsewhere = event.ctrlKey || event.metaKey || event.shiftKey;
  const link = event.target.closest("a");
  if (link && !opensElsewhere && link.dataset.room !== place.room) leave();
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
offerColours();
if (ROOM_NAME.test(place.room)) connection.start();
else {
  page.state = "closed";
  byId("badge-text").textContent = "Offline";
  byId("room-state").textContent = "There is no such room.";
  notice("A room's name is 1 to 128 letters, digits or any of . _ ~ -");
  for (const control of document.querySelectorAll("#composer > *, #transports input, #unplug")) control.disabled = true;
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
  const { room, name } = byId("place").elements;
  room.value = place.room;
  name.value = place.name;
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

/** Gives the seat up, for good. */
function leave() {
  connection.leave();
  seat.session = undefined;
}

function offerColours() {
  const own = ownColour();
  for (const [index, colour] of PALETTE.entries()) {
    const label = byId("colour").content.cloneNode(true).firstElementChild;
    const input = label.querySelector("input");
    input.value = colour;
    input.checked = colour === own;
    input.ariaLabel = `Colour ${index + 1}`;
    label.style.setProperty("--color", colour);
    byId("colours").append(label);
  }
}

function sayToAll(text) {
  const key = connection.publish({ text });
  if (key === null) return notice("Too much is waiting to be sent. One moment.");
  messages.addPending(key, text);
  return true;
}

/** Whispers are not stored, so there is nothing to try again later. */
function sayTo(member, text) {
  const own = { time: Date.now(), from: { sid: ownSid, name: place.name }, data: { text } };
  const failed = messages.whisper(own, member.name);
  connection.whisper(member.sid, { text }).then(
    ({ reached }) => reached > 0 || failed(`Not heard: ${member.name} is away.`),
    (error) => failed(`Not heard: ${error.message}.`),
  );
  return true;
}

/** Turns what is said next to one member, or with `null` to all again. */
function whisper(member) {
  whisperTo = member ?? null;
  byId("whisper").hidden = !whisperTo;
  byId("whisper-name").textContent = whisperTo?.name ?? "";
  if (byId("company").matches(":popover-open")) byId("company").hidePopover();
  byId("text").focus();
}

/** Somebody has spoken. */
function stirred(sid) {
  if (page.room === "unknown" || page.room === "asleep") showRoom("awake"); // nobody speaks in a sleeping room
  slumber.sleepsIn();
  typing.hear(sid, false);
}

function badge({ state, transport, unplugged }) {
  if (unplugged) return "Unplugged";
  if (state === "live") return TRANSPORTS[transport];
  return { connecting: "Connecting", reconnecting: "Reconnecting", closed: "Offline" }[state];
}

function notice(text, action) {
  byId("notice").hidden = !text;
  byId("notice-text").textContent = text ?? "";
  byId("retry").hidden = !action;
  if (action) byId("retry").textContent = action;
}

function showRoom(state, frame = {}) {
  if (state === "degraded") notice("The gateway's store is unwell. Nothing is lost: what you say waits until it is kept.");
  if (page.room === "degraded" && state !== "degraded" && page.state === "live") notice(null);
  // A room that is well again sleeps unless it says otherwise at once.
  const shown = state === "well" ? "asleep" : state;
  slumber.show(shown, {
    asleep: "Asleep. The next message wakes it.",
    awake: "Awake and listening.",
    degraded: "Awake, but the store is unwell.",
    unknown: { live: "Here and listening.", closed: "Not connected." }[page.state] ?? elsewhere(),
  }[shown]);
  if (frame.woke_in_us !== undefined) slumber.woke(frame);
  if (frame.sleeps_in_ms !== undefined) slumber.sleepsIn(frame.sleeps_in_ms);
}

function elsewhere() {
  return "unplugged" in page ? "Unplugged. The seat is kept." : "Looking for the room…";
}

function seconds(ms) {
  return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}
