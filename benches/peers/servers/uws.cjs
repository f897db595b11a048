// uWebSockets.js: a room is a topic, and a message is published to it, its author included.
const uws = require("@trufflesuite/uws-js-unofficial");

const app = uws.App();
app.ws("/rooms/:room", {
  upgrade(response, request, context) {
    response.upgrade(
      { room: request.getParameter(0) },
      request.getHeader("sec-websocket-key"),
      request.getHeader("sec-websocket-protocol"),
      request.getHeader("sec-websocket-extensions"),
      context,
    );
  },
  open: (socket) => void socket.subscribe(socket.room),
  message: (socket, message, isBinary) => void app.publish(socket.room, message, isBinary),
});
app.listen("127.0.0.1", Number(process.env.PORT), (listening) => {
  if (!listening) process.exit(1);
});
