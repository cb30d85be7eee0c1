// Draws a poster for a film as SVG: a JavaScript component, with nothing but what the web platform has.
//
// It asks the catalogue for the film by its name inside (`http://catalog.internal`), which needs `calls: [catalog]`.

const WIDTH = 320;
const HEIGHT = 480;
const LINE = 16; // letters of the title in one line

addEventListener("fetch", (event) => event.respondWith(serve(event.request)));

async function serve(request) {
  const id = /\/(f\d{4})\.svg$/.exec(new URL(request.url).pathname)?.[1];
  if (!id) return problem(404, "Not found", "thumbnails have names such as f0001.svg");
  const response = await fetch(`http://catalog.internal/films/${id}`);
  if (response.status === 404) return problem(404, "No such film", `no film has the id ${id}`);
  if (!response.ok) return problem(502, "Bad gateway", `the catalogue answered ${response.status}`);
  return new Response(poster(await response.json()), {
    headers: { "content-type": "image/svg+xml", "cache-control": "public, max-age=86400" },
  });
}

function poster(film) {
  const hue = [...film.id].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % 360;
  const lines = wrap(film.title)
    .map((line, at) => `<tspan x="24" dy="${at === 0 ? 0 : 38}">${escape(line)}</tspan>`)
    .join("");
  const foot = [film.year, film.director].filter(Boolean).join(" · ");
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${escape(film.title)}">
<rect width="100%" height="100%" fill="hsl(${hue} 45% 28%)"/>
<circle cx="${WIDTH - 60}" cy="90" r="140" fill="hsl(${(hue + 40) % 360} 60% 45%)" opacity="0.6"/>
<text x="24" y="240" fill="white" font-family="sans-serif" font-size="32" font-weight="700">${lines}</text>
<text x="24" y="${HEIGHT - 24}" fill="white" opacity="0.8" font-family="sans-serif" font-size="15">${escape(foot)}</text>
</svg>
`;
}

function wrap(title) {
  const lines = [""];
  for (const word of title.split(" ")) {
    const last = lines[lines.length - 1];
    if (last && last.length + word.length + 1 > LINE) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines.slice(0, 5);
}

function escape(text) {
  const names = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return String(text).replace(/[&<>"]/g, (letter) => names[letter]);
}

function problem(status, title, detail) {
  const headers = { "content-type": "application/problem+json" };
  return new Response(JSON.stringify({ status, title, detail }), { status, headers });
}
