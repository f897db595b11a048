// Socket.IO, over WebSocket from the start.
import { Server } from "socket.io";

const server = new Server(Number(process.env.PORT), { transports: ["websocket"], perMessageDeflate: false });

server.on("connection", (socket) => {
  const { room } = socket.handshake.query;
  socket.join(room);
  socket.on("say", (message) => server.to(room).emit("m", message));
  socket.emit("joined");
});
