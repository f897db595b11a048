// Where a visitor is: room, name and choice of transport live in the URL
// (`/?room=lobby&name=ada&transport=auto`), so that a link says where it leads. The seat is kept
// per tab.

import { friendlyName } from "./names.js";

export const TRANSPORTS = { webtransport: "WebTransport", websocket: "WebSocket" };
const ROOM_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/;

export function readPlace() {
  const query = new URLSearchParams(location.search);
  const transport = query.get("transport");
  const room = query.get("room")?.trim() ?? "";
  return {
    room: ROOM_NAME.test(room) ? room : "lobby",
    name: Array.from(query.get("name")?.trim() || friendlyName()).slice(0, 64).join(""),
    transport: transport in TRANSPORTS ? transport : "auto",
  };
}

export function addressOf(place) {
  return `?${new URLSearchParams(place)}`;
}

/**
 * The tab's seat in `room`, taken out of its storage while the page lives: a duplicated tab gets
 * a copy of the storage, and would otherwise take this tab's seat.
 */
export function takeSeat(room) {
  const slot = `dormouse.session.${room}`;
  const session = sessionStorage.getItem(slot) ?? undefined;
  sessionStorage.removeItem(slot);
  return {
    session,
    keep: (session) => session && sessionStorage.setItem(slot, session),
  };
}
