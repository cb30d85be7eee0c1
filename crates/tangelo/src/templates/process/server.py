"""Answers `GET /hello?name=…` with a greeting: any program that listens on $PORT is a service."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self.answer("ok\n")
        elif url.path == "/hello":
            name = parse_qs(url.query).get("name", ["world"])[0]
            print(f"greeting {name}", flush=True)
            self.answer(f"Hello, {name}!\n")
        else:
            self.send_error(404)

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass  # Tangelo traces every request already


# Tangelo sends SIGTERM when requests have ended and the instance is no longer needed.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
