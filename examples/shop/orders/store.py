"""Orders in SQLite, and the outbox beside them: an order and its event are committed together or not at all.

One connection behind one lock. The file is in the folder that Tangelo keeps for this service over restarts and
deploys; nobody else opens it.
"""

import json
import sqlite3
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass

from problems import Problem

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, email TEXT NOT NULL, items TEXT NOT NULL, total INTEGER NOT NULL,
    status TEXT NOT NULL, risk TEXT, created REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user, created);
CREATE TABLE IF NOT EXISTS requests (
    user TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, order_id TEXT NOT NULL, PRIMARY KEY (user, key)
) STRICT;
CREATE TABLE IF NOT EXISTS outbox (
    id TEXT PRIMARY KEY, event TEXT NOT NULL, traceparent TEXT
) STRICT;
"""


@dataclass(frozen=True)
class Waiting:
    """An event that is committed and not yet known to be published."""

    id: str
    event: str
    traceparent: str | None


class Store:
    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # an order that was answered survives power loss
        self._db.executescript(SCHEMA)

    @contextmanager
    def _transaction(self):
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def repeated(self, user: str, key: str, body: str) -> dict | None:
        """The order that an earlier request with this key made."""
        with self._lock:
            return self._repeated(user, key, body)

    def _repeated(self, user: str, key: str, body: str) -> dict | None:
        row = self._db.execute("SELECT * FROM requests WHERE user = ? AND key = ?", (user, key)).fetchone()
        if row is None:
            return None
        if row["body"] != body:
            raise Problem(422, "Idempotency key reused", "the key was used for another order")
        return self._order(row["order_id"])

    def create(self, order: dict, key: str | None, body: str, traceparent: str | None) -> tuple[dict, bool]:
        """Stores the order with its event. The other value is False when the key had made one already."""
        with self._transaction() as db:
            # Asked again inside the transaction: two requests with one key may have come at the same time.
            if key is not None and (made := self._repeated(order["user"], key, body)):
                return made, False
            db.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?, ?, 'created', NULL, ?)",
                (order["id"], order["user"], order["email"], json.dumps(order["items"]), order["total"], time.time()),
            )
            if key is not None:
                db.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", (order["user"], key, body, order["id"]))
            stored = self._order(order["id"])
            self._enqueue("order.created", stored, traceparent)
            return stored, True

    def pay(self, order_id: str, traceparent: str | None) -> dict:
        """Marks the order as paid; paying twice is paying once."""
        with self._transaction() as db:
            order = self._order(order_id)
            if order["status"] != "paid":
                db.execute("UPDATE orders SET status = 'paid' WHERE id = ?", (order_id,))
                order = self._order(order_id)
                self._enqueue("order.paid", order, traceparent)
            return order

    def rate(self, order_id: str, risk: dict) -> dict:
        """Notes what the fraud check thinks; a later opinion replaces an earlier one."""
        with self._transaction() as db:
            db.execute("UPDATE orders SET risk = ? WHERE id = ?", (json.dumps(risk), order_id))
            return self._order(order_id)

    def order(self, order_id: str) -> dict:
        with self._lock:
            return self._order(order_id)

    def orders_of(self, user: str, limit: int = 50) -> list[dict]:
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM orders WHERE user = ? ORDER BY created DESC LIMIT ?", (user, limit)
            ).fetchall()
        return [_document(row) for row in rows]

    def waiting(self) -> list[Waiting]:
        with self._lock:
            rows = self._db.execute("SELECT id, event, traceparent FROM outbox LIMIT 100").fetchall()
        return [Waiting(*row) for row in rows]

    def published(self, event_id: str) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM outbox WHERE id = ?", (event_id,))

    def _order(self, order_id: str) -> dict:
        row = self._db.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
        if row is None:
            raise Problem(404, "No such order", f"no order has the id {order_id}")
        return _document(row)

    def _enqueue(self, kind: str, order: dict, traceparent: str | None) -> None:
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": "/shop/orders",
            "type": kind,
            "subject": order["id"],
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "datacontenttype": "application/json",
            "data": order,
        }
        # A relay may publish it after the request has ended: the extension keeps it in the request's trace.
        if traceparent:
            event["traceparent"] = traceparent
        self._db.execute("INSERT INTO outbox VALUES (?, ?, ?)", (event["id"], json.dumps(event), traceparent))


def _document(row: sqlite3.Row) -> dict:
    return {
        "id": row["id"],
        "user": row["user"],
        "email": row["email"],
        "items": json.loads(row["items"]),
        "total": row["total"],
        "currency": "USD",
        "status": row["status"],
        "risk": json.loads(row["risk"]) if row["risk"] else None,
    }
