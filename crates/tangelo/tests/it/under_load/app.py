"""A workload of the tests under load, as a service and as a Lambda handler: it says its version and its process.

`/held?NAME` answers when the file NAME.open is in $GATES, and says that it began with NAME.began. `/stream?NAME` sends
its first line at once. `/call/NAME/PATH` calls another workload. An upgrade becomes a WebSocket that echoes.
"""

import base64
import hashlib
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

VERSION = os.environ["VERSION"]


def me(**more):
    return {"version": VERSION, "pid": os.getpid(), **more}


def held(name):
    gate = os.path.join(os.environ["GATES"], name)
    with open(gate + ".began", "w"):
        pass
    while not os.path.exists(gate + ".open"):
        time.sleep(0.005)


def call(path):
    name, _, rest = path.partition("/")
    with urlopen(os.environ[name.upper() + "_URL"] + "/" + rest) as response:
        text = response.read()
    return me(called=json.loads(text) if text.startswith(b"{") else text.decode())


def answer(path, query):
    if path.endswith("/held"):
        held(query)
    if "/call/" in path:
        return call(path.partition("/call/")[2])
    return me()


def handler(event, context):
    said = json.dumps(answer(event["rawPath"], event["rawQueryString"]))
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": said}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if self.headers.get("upgrade"):
            return self.echo()
        if path.endswith("/stream"):
            return self.stream(query)
        body = json.dumps(answer(path, query)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, name):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        line = f"{VERSION}\n".encode()
        chunk = b"%x\r\n%s\r\n" % (len(line), line)
        self.wfile.write(chunk)
        self.wfile.flush()
        held(name)
        self.wfile.write(chunk + b"0\r\n\r\n")

    def echo(self):
        """Short frames only, each answered with the version and what it said."""
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while head := self.rfile.read(2):
            mask = self.rfile.read(4)
            said = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(head[1] & 127)))
            if head[0] & 15 == 8:
                return
            text = f"{VERSION} {said.decode()}".encode()
            self.wfile.write(bytes([0x81, len(text)]) + text)
            self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
