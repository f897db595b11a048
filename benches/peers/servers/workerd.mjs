// A Durable Object for each room, with WebSockets that may hibernate. It stores each message
// before anybody hears it: what is sent waits for what was written.
import { DurableObject } from "cloudflare:workers";

export class Room extends DurableObject {
  constructor(state, env) {
    super(state, env);
    state.storage.sql.exec("CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY, body TEXT)");
  }

  async fetch() {
    const { 0: theirs, 1: ours } = new WebSocketPair();
    this.ctx.acceptWebSocket(ours);
    return new Response(null, { status: 101, webSocket: theirs });
  }

  async webSocketMessage(_socket, message) {
    this.ctx.storage.sql.exec("INSERT INTO messages (body) VALUES (?)", message);
    for (const member of this.ctx.getWebSockets()) member.send(message);
  }
}

export default {
  fetch(request, env) {
    const room = env.rooms.idFromName(new URL(request.url).pathname);
    return env.rooms.get(room).fetch(request);
  },
};
