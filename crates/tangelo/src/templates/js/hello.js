// Answers `GET /hello?name=…` with a greeting, with what the web platform has: Request, Response, URL, fetch.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const name = new URL(request.url).searchParams.get("name") ?? "world";
  console.log(`greeting ${name}`);
  return new Response(`Hello, ${name}!\n`, { headers: { "content-type": "text/plain; charset=utf-8" } });
}
