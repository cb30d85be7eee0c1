"""The workload of the soaks: writes down what it gets, on disk before it answers.

One line for each delivery: the id of what was delivered, its idempotency key, and the process that got it. It does
not start unless the ledger's lock and a port of its own are free: nothing of an earlier run may hold them.
"""

import fcntl
import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEDGER = os.path.join(os.environ["TANGELO_STATE_DIR"], "ledger")
lock = threading.Lock()
ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
own = socket.create_server(("127.0.0.1", int(os.environ["SINK_PORT"])))


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer({"pid": os.getpid(), "ledger": LEDGER})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        id = self.headers.get("ce-id") or json.loads(body)["id"]
        line = f"{id} {self.headers.get('idempotency-key') or '-'} {os.getpid()}\n"
        with lock:
            os.write(ledger, line.encode())
            os.fsync(ledger)
        self.answer({"noted": id})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
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
