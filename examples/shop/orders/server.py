"""The orders service: validates, asks the catalogue for prices, stores, publishes, answers.

Its routes are guarded by the `auth` function, so `x-tangelo-principal` names a user whose token was verified.
What begins with /internal/ has no route: only workloads that declare `calls: [orders]` reach it.
"""

import json
import os
import re
import signal
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import platform_calls
from problems import Problem, invalid
from relay import Relay
from store import Store

LARGEST_BODY = 64 * 1024
MOST_ITEMS = 20
MOST_COPIES = 10
DECLINED_CARD = "4000000000000002"  # payment providers reserve such numbers for tests


class Orders:
    """What each request does. Every method returns status and document, or raises a Problem."""

    def __init__(self, store: Store, relay: Relay) -> None:
        self._store = store
        self._relay = relay

    def health(self, _request) -> tuple[int, dict]:
        return 200, {"ok": True}

    def create(self, request) -> tuple[int, dict]:
        user, key = request.user(), request.headers.get("idempotency-key")
        wanted = _wanted(request.json())
        body = json.dumps(wanted, sort_keys=True)
        if key and (made := self._store.repeated(user, key, body)):
            return 200, made
        items = [self._item(film, copies, request.traceparent) for film, copies in wanted["items"]]
        order = {
            "id": f"o-{uuid.uuid4().hex[:16]}",
            "user": user,
            "email": wanted["email"] or f"{user}@example.com",
            "items": items,
            "total": sum(item["price"] * item["quantity"] for item in items),
        }
        stored, new = self._store.create(order, key, body, request.traceparent)
        self._relay.flush()
        return (201 if new else 200), stored

    def _item(self, film_id: str, copies: int, traceparent: str | None) -> dict:
        film = platform_calls.film(film_id, traceparent)
        return {"film": film_id, "title": film["title"], "quantity": copies, "price": film["price"]}

    def list(self, request) -> tuple[int, dict]:
        return 200, {"orders": self._store.orders_of(request.user())}

    def show(self, request, order_id: str) -> tuple[int, dict]:
        return 200, self._own(request, order_id)

    def pay(self, request, order_id: str) -> tuple[int, dict]:
        self._own(request, order_id)
        card = re.sub(r"\s", "", str(request.json().get("card", "")))
        if not re.fullmatch(r"\d{12,19}", card):
            raise invalid("card must be a number of 12 to 19 digits")
        if card == DECLINED_CARD:
            raise Problem(402, "Payment declined", "the card was declined")
        order = self._store.pay(order_id, request.traceparent)
        self._relay.flush()
        return 200, order

    def rate(self, request, order_id: str) -> tuple[int, dict]:
        risk = request.json()
        if not isinstance(risk.get("score"), (int, float)) or not isinstance(risk.get("reasons"), list):
            raise invalid("a rating has a score and reasons")
        return 200, self._store.rate(order_id, {"score": risk["score"], "reasons": risk["reasons"]})

    def _own(self, request, order_id: str) -> dict:
        order = self._store.order(order_id)
        if order["user"] != request.user():
            # Not 403: that an order exists is nobody else's business.
            raise Problem(404, "No such order", f"no order has the id {order_id}")
        return order


ROUTES = [
    ("GET", re.compile(r"/healthz"), Orders.health),
    ("GET", re.compile(r"/orders"), Orders.list),
    ("POST", re.compile(r"/orders"), Orders.create),
    ("GET", re.compile(r"/orders/([\w-]+)"), Orders.show),
    ("POST", re.compile(r"/orders/([\w-]+)/payment"), Orders.pay),
    ("PUT", re.compile(r"/internal/orders/([\w-]+)/risk"), Orders.rate),
]


def _wanted(document: dict) -> dict:
    """What the customer wants, checked: `items` as (film, copies) and `email` or None."""
    items = document.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= MOST_ITEMS:
        raise invalid(f"items must be a list of 1 to {MOST_ITEMS}")
    email = document.get("email")
    if email is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+", str(email)):
        raise invalid("email is not an address")
    return {"items": [_item(item) for item in items], "email": email}


def _item(item: object) -> tuple[str, int]:
    if not isinstance(item, dict) or not re.fullmatch(r"f\d{4}", str(item.get("film"))):
        raise invalid("every item names a film such as f0001")
    copies = item.get("quantity", 1)
    if not isinstance(copies, int) or isinstance(copies, bool) or not 1 <= copies <= MOST_COPIES:
        raise invalid(f"quantity must be from 1 to {MOST_COPIES}")
    return item["film"], copies


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with kept connections around `Orders`."""

    protocol_version = "HTTP/1.1"
    # Head and body leave in one packet; otherwise each answer waits for the peer's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    orders: Orders

    def user(self) -> str:
        user = self.headers.get("x-tangelo-principal")
        if not user:
            raise Problem(401, "Not signed in", "this needs a signed-in user")
        return user

    @property
    def traceparent(self) -> str | None:
        return self.headers.get("traceparent")

    def json(self) -> dict:
        try:
            document = json.loads(self._body)
        except ValueError:
            raise Problem(400, "Bad JSON", "the body is not JSON") from None
        if not isinstance(document, dict):
            raise Problem(400, "Bad JSON", "the body is not a JSON object")
        return document

    def _answer(self) -> None:
        # Read before anything is answered: on a kept connection, what is left would look like the next request.
        length = int(self.headers.get("content-length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            self._send(413, Problem(413, "Too large", f"more than {LARGEST_BODY} bytes").document())
            return
        self._body = self.rfile.read(length)
        try:
            status, document = self._route()
            self._send(status, document)
        except Problem as problem:
            self._send(problem.status, problem.document(), problem.headers)
        except Exception as error:
            print(f"{self.command} {self.path}: {error!r}", file=sys.stderr, flush=True)
            self._send(500, Problem(500, "Internal error", "see the log of orders").document())

    def _route(self) -> tuple[int, dict]:
        path = self.path.split("?")[0]
        allowed = []
        for method, pattern, action in ROUTES:
            if match := pattern.fullmatch(path):
                if method == self.command:
                    return action(self.orders, self, *match.groups())
                allowed.append(method)
        if allowed:
            raise Problem(405, "Method not allowed", f"{path} takes {', '.join(allowed)}", allow=", ".join(allowed))
        raise Problem(404, "Not found", f"nothing at {path}")

    def _send(self, status: int, document: dict, headers: dict | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json" if status < 400 else "application/problem+json")
        self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer

    def log_message(self, *_: object) -> None:
        """Says nothing: Tangelo logs requests, so this log is for what only the service knows."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    store = Store(os.path.join(os.environ["TANGELO_STATE_DIR"], "orders.sqlite"))
    Handler.orders = Orders(store, Relay(store))
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("orders are taken", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
