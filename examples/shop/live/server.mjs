// The live dashboard: keeps totals and pushes every change to browsers, by server-sent events and by WebSocket.
//
// Totals are in memory, for this run; what counts for the books is in the orders service. An event counts once
// by its id, since deliveries may be repeated.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { accept, text } from "./websocket.mjs";

const REMEMBERED = 10_000; // ids of events; older ones are not delivered again
const LARGEST_BODY = 16 * 1024;

const page = readFileSync(new URL("page.html", import.meta.url));
const totals = { orders: 0, films: 0, paid: 0, revenue: 0, sign_ins: 0 };
const seen = new Set();
const streams = new Set();
const sockets = new Set();

function count({ id, type, figures }) {
  if (seen.has(id)) return;
  seen.add(id);
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
  for (const name of Object.keys(totals)) totals[name] += figures[name] ?? 0;
  const change = JSON.stringify({ type, totals });
  for (const stream of streams) stream.write(`data: ${change}\n\n`);
  for (const socket of sockets) socket.write(text(change));
}

const routes = {
  "GET /healthz": (request, response) => json(response, 200, { ok: true }),
  "GET /": (request, response) => response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page),
  "GET /totals": (request, response) => json(response, 200, totals),
  "GET /stream": stream,
  "POST /internal/figures": figures,
};

function stream(request, response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.write(`data: ${JSON.stringify({ type: "totals", totals })}\n\n`);
  streams.add(response);
  response.on("close", () => streams.delete(response));
}

async function figures(request, response) {
  let body = "";
  for await (const chunk of request) {
    body += chunk;
    if (body.length > LARGEST_BODY) return problem(response, 413, "Too large");
  }
  const update = parse(body);
  if (!update) return problem(response, 400, "Bad figures");
  count(update);
  json(response, 200, { counted: true });
}

function parse(body) {
  try {
    const update = JSON.parse(body);
    const right = typeof update.id === "string" && Object.values(update.figures).every(Number.isFinite);
    return right ? update : null;
  } catch {
    return null;
  }
}

function json(response, status, document, type = "application/json") {
  response.writeHead(status, { "content-type": type }).end(JSON.stringify(document));
}

function problem(response, status, title) {
  json(response, status, { status, title }, "application/problem+json");
}

const server = createServer((request, response) => {
  const route = routes[`${request.method} ${request.url.split("?")[0]}`];
  if (route) route(request, response);
  else problem(response, 404, "Not found");
});

server.on("upgrade", (request, socket) => {
  if (request.url.split("?")[0] !== "/socket" || !accept(request, socket)) return socket.destroy();
  sockets.add(socket);
  for (const end of ["close", "error"]) socket.on(end, () => sockets.delete(socket));
  socket.write(text(JSON.stringify({ type: "totals", totals })));
});

server.keepAliveTimeout = 120_000; // longer than the gateway's, so that it never sends on a closing connection
server.listen(Number(process.env.PORT ?? 8000), "127.0.0.1", () => console.log("live is on"));
process.on("SIGTERM", () => {
  for (const open of [...streams, ...sockets]) open.end();
  server.close(() => process.exit(0));
});
