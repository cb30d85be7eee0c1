"""The order service: orders in a SQLite file, and what happens to them in the outbox beside them.

POST /orders            {"customer": …, "total": …}  a new order
POST /orders/ID/pay
POST /orders/ID/ship
GET  /orders/ID
"""

import json
import os
import sqlite3
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILE = Path(os.environ["TANGELO_STATE_DIR"]) / "orders.db"
OUTBOX = Path(__file__).with_name("outbox.sql")  # as `tangelo outbox init sqlite` prints it
STEPS = {"pay": ("created", "paid"), "ship": ("paid", "shipped")}

db = sqlite3.connect(FILE, timeout=10, isolation_level=None, check_same_thread=False)
db.executescript(OUTBOX.read_text())
db.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, customer TEXT, total REAL, state TEXT)")
lock = threading.Lock()


class Refused(Exception):
    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


def happened(kind, order, trace):
    """Says what happened to an order. Only ever inside the transaction that makes it true."""
    db.execute(
        "INSERT INTO tangelo_outbox (type, subject, data, traceparent) VALUES (?, ?, ?, ?)",
        (f"order.{kind}", order["id"], json.dumps(order), trace),
    )


def create(body, trace):
    order = {"id": uuid.uuid4().hex[:12], "customer": body["customer"], "total": body["total"], "state": "created"}
    db.execute("INSERT INTO orders VALUES (:id, :customer, :total, :state)", order)
    happened("created", order, trace)
    return order


def advance(id, step, trace):
    before, after = STEPS[step]
    order = find(id)
    if order["state"] != before:
        raise Refused(409, f"the order is {order['state']}")
    order["state"] = after
    db.execute("UPDATE orders SET state = ? WHERE id = ?", (after, id))
    happened(after, order, trace)
    return order


def find(id):
    row = db.execute("SELECT id, customer, total, state FROM orders WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise Refused(404, "there is no such order")
    return dict(zip(("id", "customer", "total", "state"), row))


def transaction(work):
    with lock:
        db.execute("BEGIN IMMEDIATE")
        try:
            done = work()
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
        return done


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200, {"ok": True})
        self.serve(200, lambda: find(self.path.removeprefix("/orders/")))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        trace = self.headers.get("traceparent")
        match self.path.strip("/").split("/"):
            case ["orders"]:
                self.serve(201, lambda: transaction(lambda: create(body, trace)))
            case ["orders", id, step] if step in STEPS:
                self.serve(200, lambda: transaction(lambda: advance(id, step, trace)))
            case _:
                self.answer(404, {"error": "no such thing"})

    def serve(self, status, work):
        try:
            self.answer(status, work())
        except Refused as refused:
            self.answer(refused.status, {"error": str(refused)})
        except KeyError as missing:
            self.answer(400, {"error": f"{missing} is missing"})

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


Server(("127.0.0.1", int(os.environ["PORT"])), Orders).serve_forever()
