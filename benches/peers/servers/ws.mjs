// ws for node: a room is a set of sockets.
import { WebSocketServer } from "ws";

const rooms = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.env.PORT), perMessageDeflate: false });

server.on("connection", (socket, request) => {
  const room = rooms.get(request.url) ?? new Set();
  rooms.set(request.url, room.add(socket));
  socket.on("message", (message) => {
    for (const member of room) member.send(message, { binary: false });
  });
  socket.on("close", () => room.delete(socket));
  socket.on("error", () => room.delete(socket));
});
