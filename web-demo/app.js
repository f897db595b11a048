// The page: what a visitor sees of one room.
//
// `<html>` always says how things stand, for the style sheet and for tests:
//
//     data-state      connecting | live | reconnecting | closed
//     data-transport  none | webtransport | websocket
//     data-room       unknown | awake | asleep | degraded
//     data-unplugged  there while the visitor's own unplugging lasts
//
// Each part has a file of its own that says by which attributes its elements can be found:
// messages.js, people.js, cursors.js, rooms.js. Everything about the connection is the client's.

import { explain } from "./close-reasons.js";
import { PALETTE, colourOf, keepColour, ownColour } from "./colours.js";
import { Cursors } from "./cursors.js";
import { connect } from "./dormouse.js";
import { Earlier } from "./earlier.js";
import { Messages } from "./messages.js";
import { People } from "./people.js";
import { TRANSPORTS, addressOf, readPlace, takeSeat } from "./place.js";
import { Rooms } from "./rooms.js";
import { Slumber } from "./slumber.js";
import { Typing } from "./typing.js";

const UNPLUGGED_MS = 3_000;

const page = document.documentElement.dataset;
const byId = (id) => document.getElementById(id);
const scroller = document.querySelector(".scroller");
const place = readPlace();
const seat = takeSeat(place.room);
const ownSids = new Set();

let wasUnplugged = false;
let isFull = false; // too much waits to be sent
let whisperTo = null; // the member to whom the next words go, if not to all

const room = connect(place.room, {
  gateway: new URL(".", location.href), // it may be behind a path
  name: place.name,
  attachment: { color: ownColour() },
  session: seat.session,
  transport: place.transport,
  watch: true,
});
const { members } = room;

const messages = new Messages({
  list: byId("messages"),
  scroller,
  newest: byId("newest"),
  isOwn: (sid) => ownSids.has(sid),
  colourOf: (sid, name) => colourOf(members.get(sid), name),
});
const earlier = new Earlier({ room, messages, scroller, top: byId("earlier") });
const people = new People({
  list: byId("people"),
  numbers: document.querySelectorAll(".count"),
  hint: byId("people-hint"),
  choose: (sid) => whisper(members.get(sid)),
});
const cursors = new Cursors({
  floor: scroller,
  layer: byId("cursors"),
  send: (at) => room.ephemeral("cursor", at),
});
const typing = new Typing({
  field: byId("text"),
  line: byId("typing"),
  send: (isTyping) => room.ephemeral("typing", isTyping && !whisperTo),
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
  address: (room) => addressOf({ ...place, room }),
});

room.on("status", ({ state, transport, error }) => {
  const unplugged = state === "paused";
  page.state = unplugged ? "reconnecting" : state;
  page.transport = transport ?? "none";
  document.documentElement.toggleAttribute("data-unplugged", unplugged);
  wasUnplugged ||= unplugged;
  byId("badge-text").textContent = badge(state, transport);
  byId("messages").ariaBusy = state !== "live"; // history is not read aloud
  byId("unplug").disabled = state !== "live";
  if (state === "live") {
    notice(null);
    if (page.room === "unknown") showRoom("unknown");
    byId("silence").hidden = !messages.isEmpty;
    earlier.begin();
    return;
  }
  showRoom("unknown");
  cursors.keep(() => false);
  typing.keep(() => false);
  if (unplugged) notice("Unplugged for three seconds. Say something meanwhile; it will be said once.");
  else if (error) notice(explain(error), state === "closed" ? "Come back" : "Try now");
});

room.on("gap", ({ why }) => {
  if (why === "hole") return;
  messages.clear(); // what was shown comes anew
  earlier.reset();
});

room.on("back", ({ missed, lost, why, away }) => {
  const isWorthTelling = missed > 0 || lost > 0 || why || wasUnplugged;
  wasUnplugged = false;
  const text = why === "epoch" ? "The room's log began anew" : undefined;
  if (isWorthTelling) messages.mark({ missed, lost, text, aside: `in ${seconds(away)} away` });
});

room.on("message", (message) => {
  const arriving = page.state === "live";
  messages.add(message, { arriving });
  if (arriving) stirred(message.from?.sid);
  byId("silence").hidden = true;
});

room.on("direct", (message) => {
  if (!message.own) messages.whisper(message);
  stirred(message.from?.sid);
  byId("silence").hidden = true;
});

room.on("outbox", ({ full }) => (isFull = full));

room.on("presence", () => {
  ownSids.add(room.sid);
  people.show(members, room.sid);
  rooms.askSoon();
  messages.paint();
  const isHere = (sid) => !members.isWhole || (members.get(sid) && !members.get(sid).away);
  cursors.keep(isHere);
  typing.keep(isHere);
  if (whisperTo && members.isWhole && !members.get(whisperTo.sid)) whisper(null);
});

room.on("ephemeral", ({ key, from, data }) => {
  const member = members.get(from);
  const name = member?.name ?? "somebody";
  if (key === "cursor") cursors.show(from, data, { name, colour: colourOf(member, name) });
  if (key === "typing") typing.hear(from, data, name);
});

room.on("mood", (mood) => {
  showRoom(mood.state, mood);
  rooms.askSoon();
});

room.on("trouble", ({ message }) => notice(`The gateway says: ${message}`));

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
  room.use(target.value);
  if (room.status.state === "closed") room.resume();
});

byId("unplug").addEventListener("click", () => {
  byId("settings").hidePopover();
  room.pause();
  setTimeout(() => room.resume(), UNPLUGGED_MS);
  byId("text").focus();
});

byId("colours").addEventListener("change", ({ target }) => {
  room.set({ attachment: { color: keepColour(target.value) } }).catch(() => {}); // the next seat begins with it
});

byId("place").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { room: { value: to }, name } = byId("place").elements;
  if (to !== place.room) await room.close();
  location.assign(addressOf({ ...place, room: to, name: name.value }));
});

byId("rooms").addEventListener("click", async (event) => {
  const opensElsewhere = event.ctrlKey || event.metaKey || event.shiftKey;
  const link = event.target.closest("a");
  if (!link || opensElsewhere || link.dataset.room === place.room) return;
  event.preventDefault();
  await room.close(); // nobody is left behind
  location.assign(link.href);
});

byId("retry").addEventListener("click", () => room.resume());

// The seat goes back into the tab's storage, where a reload finds it.
addEventListener("pagehide", () => seat.keep(room.session));

writePlace();
offerColours();

/** Puts the place into the URL, the title and the forms. */
function writePlace() {
  history.replaceState(null, "", addressOf(place));
  document.title = `${place.room} · Dormouse`;
  byId("room-name").textContent = place.room;
  const { room, name } = byId("place").elements;
  room.value = place.room;
  name.value = place.name;
  byId("transports").elements.transport.value = place.transport;
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
  if (isFull) return notice("Too much is waiting to be sent. One moment.");
  const settled = messages.addPending(text);
  room.publish({ text }).then(settled, (error) => settled({ reason: error.message }));
  return true;
}

/** Whispers are not stored, so there is nothing to try again later. */
function sayTo(member, text) {
  const own = { time: Date.now(), from: { sid: room.sid, name: place.name }, data: { text } };
  const failed = messages.whisper(own, member.name);
  room.publish({ text }, { to: { sid: member.sid } }).then(
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

function badge(state, transport) {
  if (state === "live") return TRANSPORTS[transport];
  return { connecting: "Connecting", reconnecting: "Reconnecting", paused: "Unplugged", closed: "Offline" }[state];
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
