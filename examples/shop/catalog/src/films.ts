// The films in memory, and the two questions asked of them. Knows nothing of HTTP.

export interface Film {
  id: string;
  title: string;
  year: number | null;
  genre: string | null;
  director: string | null;
  minutes: number | null;
  rating: number | null;
  /** In cents. */
  price: number;
}

export interface Query {
  /** Words that must all begin a word of title or director. */
  text: string;
  genre: string | null;
  limit: number;
  /** The id after which the page begins, as the previous page said. */
  after: string | null;
}

export interface Page {
  films: Film[];
  total: number;
  next: string | null;
}

export class Catalogue {
  private readonly byId: Map<string, Film>;
  private readonly words: string[];

  constructor(private readonly films: Film[]) {
    this.byId = new Map(films.map((film) => [film.id, film]));
    // One leading blank, so that " batm" finds words by their beginning with a plain substring search.
    this.words = films.map((film) => ` ${normal(film.title)} ${normal(film.director ?? "")}`);
  }

  film(id: string): Film | undefined {
    return this.byId.get(id);
  }

  search(query: Query): Page {
    const words = normal(query.text).split(" ").filter(Boolean);
    const found = this.films.filter(
      (film, at) =>
        (query.genre === null || film.genre === query.genre) &&
        words.every((word) => this.words[at]!.includes(` ${word}`)),
    );
    // Ids are zero-padded, so that their order is the catalogue's order.
    const start = query.after === null ? 0 : found.findIndex((film) => film.id > query.after!);
    const films = start < 0 ? [] : found.slice(start, start + query.limit);
    const more = start >= 0 && start + query.limit < found.length;
    return { films, total: found.length, next: more ? films[films.length - 1]!.id : null };
  }

  genres(): { genre: string; films: number }[] {
    const counts = new Map<string, number>();
    for (const { genre } of this.films) {
      if (genre !== null) counts.set(genre, (counts.get(genre) ?? 0) + 1);
    }
    return [...counts]
      .map(([genre, films]) => ({ genre, films }))
      .sort((a, b) => b.films - a.films);
  }
}

/** Lower case, without accents, words separated by one blank. */
function normal(text: string): string {
  return text
    .normalize("NFD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, " ")
    .trim();
}
