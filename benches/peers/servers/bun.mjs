// Bun's own WebSocket server: a room is a topic.
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request, server) {
    const room = new URL(request.url).pathname;
    if (server.upgrade(request, { data: { room } })) return undefined;
    return new Response("a WebSocket is expected", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    open: (socket) => socket.subscribe(socket.data.room),
    message: (socket, message) => server.publish(socket.data.room, message),
  },
});
