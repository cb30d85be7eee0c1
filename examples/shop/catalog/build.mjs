// Makes build/server.mjs out of the TypeScript, and build/films.json out of the npm package with the real data.
// The data is fetched at build time and never committed; the lock file says exactly which data.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";

process.chdir(new URL(".", import.meta.url).pathname);

const written = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
if (written("node_modules/.package-lock.json") < written("package-lock.json")) {
  execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { stdio: "inherit" });
}
const { build } = await import("esbuild");

await build({
  entryPoints: ["src/server.ts"],
  outfile: "build/server.mjs",
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
});

const rows = JSON.parse(readFileSync("node_modules/vega-datasets/data/movies.json", "utf8"));
const films = rows.map(toFilm);
mkdirSync("build", { recursive: true });
writeFileSync("build/films.json", JSON.stringify(films));
console.log(`${films.length} films`);

function toFilm(row, index) {
  const released = /(\d{4})$/.exec(row["Release Date"] ?? "");
  return {
    id: `f${String(index + 1).padStart(4, "0")}`,
    title: String(row.Title ?? "Untitled"), // three titles are numbers in the data
    year: released ? Number(released[1]) : null,
    genre: row["Major Genre"] ?? null,
    director: row.Director ?? null,
    minutes: row["Running Time min"] ?? null,
    rating: row["IMDB Rating"] ?? null,
    price: price(row["IMDB Rating"]),
  };
}

// Cents. The data has no prices: better films cost more, between 4.99 and 13.99.
function price(rating) {
  return 499 + Math.round(rating ?? 3) * 90;
}
