// The HTTP side of the catalogue: three questions, answered from memory.
//
// It listens on $PORT, as any service of Tangelo does, and stops taking connections on SIGTERM.
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

import { Catalogue } from "./films";

const catalogue = new Catalogue(JSON.parse(readFileSync(new URL("films.json", import.meta.url), "utf8")));

/** An answer that is not a page of films, as a problem document (RFC 9457). */
class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    detail: string,
  ) {
    super(detail);
  }
}

function answer(method: string, url: URL): unknown {
  if (method !== "GET" && method !== "HEAD") {
    throw new Problem(405, "Method not allowed", `the catalogue is only read, not ${method}`);
  }
  if (url.pathname === "/healthz") return { ok: true };
  if (url.pathname === "/genres") return { genres: catalogue.genres() };
  if (url.pathname === "/films") {
    const { searchParams: asked } = url;
    return catalogue.search({
      text: asked.get("q") ?? "",
      genre: asked.get("genre"),
      limit: limit(asked.get("limit")),
      after: asked.get("after"),
    });
  }
  const id = /^\/films\/([^/]+)$/.exec(url.pathname)?.[1];
  if (id === undefined) throw new Problem(404, "Not found", `nothing at ${url.pathname}`);
  const film = catalogue.film(id);
  if (film === undefined) throw new Problem(404, "No such film", `no film has the id ${id}`);
  return film;
}

function limit(text: string | null): number {
  const value = Number(text ?? 20);
  if (!Number.isInteger(value) || value < 1 || value > 100) {
    throw new Problem(400, "Bad limit", `limit is a whole number from 1 to 100, not ${text}`);
  }
  return value;
}

function serve(request: IncomingMessage, response: ServerResponse): void {
  const method = request.method ?? "GET";
  try {
    const body = answer(method, new URL(request.url ?? "/", "http://catalog"));
    send(response, method, 200, "application/json", body, { "cache-control": "public, max-age=60" });
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    const { status, title, message } =
      error instanceof Problem ? error : new Problem(500, "Internal error", "see the catalogue's log");
    send(response, method, status, "application/problem+json", { status, title, detail: message });
  }
}

function send(
  response: ServerResponse,
  method: string,
  status: number,
  type: string,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { ...headers, "content-type": type, "content-length": bytes.length });
  response.end(method === "HEAD" ? undefined : bytes);
}

const server = createServer(serve);
// Longer than a gateway keeps idle connections, so that it never sends on one that is just being closed.
server.keepAliveTimeout = 120_000;
server.listen(Number(process.env.PORT ?? 8000), "127.0.0.1", () => console.log("catalogue is open"));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
