"""The search: products, and orders with the names of their products, from the changes of the two tables.

POST /                a batch of changes, in the order of their commits
GET  /search?q=WORDS  what has all these words; everything, without any

Each generation of the read model has tables of its own, so that one is built beside the other. A change says how its row is
now, so that one that comes again changes nothing.
"""

import json
import os
import sqlite3
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

FILE = Path(os.environ["TANGELO_STATE_DIR"]) / "search.db"
LIVE = os.environ["TANGELO_PROJECTIONS_URL"] + "/catalogue"


def connect():
    db = sqlite3.connect(FILE, timeout=10)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # what is answered well is not sent again: it must be on disk
    return db


def tables(generation):
    return f"row_{int(generation)}", f"document_{int(generation)}"


def apply(db, generation, change):
    """Takes a row as it is after the change, and writes what is found of it, and of the orders of a product, anew."""
    row, document = tables(generation)
    db.execute(f"CREATE TABLE IF NOT EXISTS {row} (id TEXT PRIMARY KEY, sku TEXT, row TEXT)")
    db.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS {document} USING fts5 (id UNINDEXED, row UNINDEXED, words)")
    if change["operation"] == "truncated":
        db.execute(f"DELETE FROM {row} WHERE id LIKE ?", (change["table"] + "/%",))
        db.execute(f"DELETE FROM {document} WHERE id LIKE ?", (change["table"] + "/%",))
        return
    id = "/".join([change["table"], *map(str, change["key"].values())])
    after = change["after"]
    if after is None:
        db.execute(f"DELETE FROM {row} WHERE id = ?", (id,))
        db.execute(f"DELETE FROM {document} WHERE id = ?", (id,))
        return
    db.execute(f"INSERT OR REPLACE INTO {row} VALUES (?, ?, ?)", (id, after["sku"], json.dumps(after)))
    touched = [(id, after)]
    if change["table"] == "products":
        orders = db.execute(f"SELECT id, row FROM {row} WHERE sku = ? AND id LIKE 'orders/%'", (after["sku"],))
        touched += [(order, json.loads(text)) for order, text in orders]
    for id, found in touched:
        product = db.execute(f"SELECT row FROM {row} WHERE id = ?", (f"products/{found['sku']}",)).fetchone()
        if id.startswith("orders/"):
            found["name"] = json.loads(product[0])["name"] if product else None
        words = " ".join(str(value) for value in found.values())
        db.execute(f"DELETE FROM {document} WHERE id = ?", (id,))
        db.execute(f"INSERT INTO {document} VALUES (?, ?, ?)", (id, json.dumps({"key": id} | found), words))


def search(words):
    with urlopen(LIVE) as answer:
        generation = json.load(answer)["live"]
    _, document = tables(generation)
    asked = " ".join('"{}"'.format(word.replace('"', '""')) for word in words.split())
    where = f"WHERE {document} MATCH ?" if asked else ""
    rows = connect().execute(f"SELECT row FROM {document} {where} ORDER BY id", (asked,) if asked else ())
    return {"generation": generation, "found": [json.loads(text) for (text,) in rows]}


class Search(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        asked = urlsplit(self.path)
        if asked.path == "/healthz":
            return self.answer(200, {"ok": True})
        try:
            self.answer(200, search(parse_qs(asked.query).get("q", [""])[0]))
        except sqlite3.OperationalError:  # nothing of this generation has come
            self.answer(503, {"error": "the search is being built"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        db = connect()
        with db:
            if self.headers.get("ce-type") == "tangelo.projection.dropped":
                for table in tables(body["generation"]):
                    db.execute(f"DROP TABLE IF EXISTS {table}")
            else:
                for event in body:
                    apply(db, event["tangelogeneration"], event["data"])
        db.close()
        self.answer(200, {})

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


Server(("127.0.0.1", int(os.environ["PORT"])), Search).serve_forever()
