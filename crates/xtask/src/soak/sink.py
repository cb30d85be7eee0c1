"""The workload of the soaks: writes down what it gets, on disk before it answers.

One line for each delivery: what was delivered (an event's id, with `@` and the number of its replay), its idempotency key,
the process that got it, and whether that took it. It does not start unless the ledger's lock and a port of its own are
free: nothing of an earlier run may hold them.
"""

import fcntl
import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = os.environ["TANGELO_STATE_DIR"]
LEDGER = os.path.join(FOLDER, "ledger")
BROKEN = os.path.join(FOLDER, "broken")
FAILS_SOME = os.environ["SINK_FAILS"] == "some"
lock = threading.Lock()
ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
own = socket.create_server(("127.0.0.1", int(os.environ["SINK_PORT"])))
failed = set()


def takes(kind, item, id):
    """Whether it is taken: of some soaks one in eleven fails the first time that a process sees it, of others all while they are broken."""
    if kind == "soak.broken":
        return not os.path.exists(BROKEN)
    if FAILS_SOME and item not in failed and int(id.rsplit("-", 1)[1]) % 11 == 0:
        failed.add(item)
        return False
    return True


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer(200, {"pid": os.getpid(), "ledger": LEDGER})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        id = self.headers.get("ce-id") or json.loads(body)["id"]
        replay = self.headers.get("ce-tangeloreplay")
        item = f"{id}@{replay}" if replay else id
        with lock:
            taken = takes(self.headers.get("ce-type"), item, id)
            key = self.headers.get("idempotency-key") or "-"
            os.write(ledger, f"{item} {key} {os.getpid()} {'taken' if taken else 'failed'}\n".encode())
            os.fsync(ledger)
        self.answer(200 if taken else 500, {"noted": item})

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


Server(("127.0.0.1", int(os.environ["PORT"])), Sink).serve_forever()
