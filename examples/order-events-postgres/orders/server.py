"""The order service: products and orders in a Postgres database, and what happens to orders in the outbox beside them.

POST /products          {"sku": …, "name": …, "price": …}
PUT  /products/SKU      {"name": …, "price": …}
POST /orders            {"customer": …, "sku": …, "quantity": …}  a new order
POST /orders/ID/pay
POST /orders/ID/ship
GET  /orders/ID
"""

import json
import os
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg  # pip install "psycopg[binary]"
from psycopg.rows import dict_row

DATABASE = os.environ["DATABASE"]
PASSWORD = os.environ["SHOP_DB_PASSWORD"]
STEPS = {"pay": ("created", "paid"), "ship": ("paid", "shipped")}


class Refused(Exception):
    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


def transaction(work):
    """Committed when `work` returns, rolled back when it raises."""
    with psycopg.connect(DATABASE, password=PASSWORD, row_factory=dict_row) as db:
        return work(db)


def happened(db, kind, order, trace):
    """Says what happened to an order. Only ever inside the transaction that makes it true."""
    db.execute(
        "INSERT INTO tangelo_outbox (type, subject, data, traceparent) VALUES (%s, %s, %s, %s)",
        (f"order.{kind}", order["id"], json.dumps(order), trace),
    )


def put_product(db, product):
    db.execute(
        "INSERT INTO products VALUES (%(sku)s, %(name)s, %(price)s)"
        " ON CONFLICT (sku) DO UPDATE SET name = excluded.name, price = excluded.price",
        product,
    )
    return product


def create(db, body, trace):
    product = db.execute("SELECT price FROM products WHERE sku = %s FOR SHARE", (body["sku"],)).fetchone()
    if product is None:
        raise Refused(422, "there is no such product")
    order = {"id": uuid.uuid4().hex[:12], "customer": body["customer"], "sku": body["sku"], "quantity": body["quantity"]}
    order |= {"total": float(product["price"] * order["quantity"]), "state": "created"}
    db.execute("INSERT INTO orders VALUES (%(id)s, %(customer)s, %(sku)s, %(quantity)s, %(total)s, %(state)s)", order)
    happened(db, "created", order, trace)
    return order


def find(db, id, lock=""):
    order = db.execute(f"SELECT * FROM orders WHERE id = %s {lock}", (id,)).fetchone()
    if order is None:
        raise Refused(404, "there is no such order")
    return order | {"total": float(order["total"])}


def advance(db, id, step, trace):
    before, after = STEPS[step]
    order = find(db, id, "FOR UPDATE")
    if order["state"] != before:
        raise Refused(409, f"the order is {order['state']}")
    order["state"] = after
    db.execute("UPDATE orders SET state = %s WHERE id = %s", (after, id))
    happened(db, after, order, trace)
    return order


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200, {"ok": True})
        self.serve(200, lambda db: find(db, self.path.removeprefix("/orders/")))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        trace = self.headers.get("traceparent")
        match self.path.strip("/").split("/"):
            case ["products"]:
                self.serve(201, lambda db: put_product(db, body))
            case ["products", sku]:
                self.serve(200, lambda db: put_product(db, body | {"sku": sku}))
            case ["orders"]:
                self.serve(201, lambda db: create(db, body, trace))
            case ["orders", id, step] if step in STEPS:
                self.serve(200, lambda db: advance(db, id, step, trace))
            case _:
                self.answer(404, {"error": "no such thing"})

    do_PUT = do_POST

    def serve(self, status, work):
        try:
            self.answer(status, transaction(work))
        except Refused as refused:
            self.answer(refused.status, {"error": str(refused)})
        except (KeyError, psycopg.ProgrammingError) as problem:
            self.answer(400, {"error": f"no such request: {problem}"})

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
