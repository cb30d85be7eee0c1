// An echo service on npm's `ws`: what comes goes back as it came; pings are answered and violations closed by the library.
const { createServer } = require("node:http");
const { WebSocketServer } = require("ws");

const web = createServer((request, response) => response.end(JSON.stringify({ port: web.address().port })));
const sockets = new WebSocketServer({
  server: web,
  maxPayload: 4 << 20,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has("echo.two") ? "echo.two" : false),
});
sockets.on("connection", (socket, request) => {
  const versioned = request.url.startsWith("/version");
  socket.on("message", (data, binary) => socket.send(versioned ? `${process.env.VERSION} ${data}` : data, { binary }));
  socket.on("error", () => {}); // the library has closed it with the right code
});
web.listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => web.close());
