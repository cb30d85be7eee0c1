"""An endpoint of somebody else, who checks webhooks with the convention's own library.

Two servers: one that gets webhooks (with TLS when a certificate is given), and one by which the test says how to answer
and asks what came. What it is told with PUT /mode: a status, with headers after it (`503 retry-after=1`), `hang`, `flaky`
(the first attempt of each fails) or `long` (an answer that does not end soon).
"""
import json, ssl, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from standardwebhooks import Webhook, WebhookVerificationError

secrets = json.loads(sys.argv[1])
certificate = sys.argv[2] if len(sys.argv) > 2 else None
mode, seen, forever = ["200"], [], threading.Event()

def valid(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
        return True
    except WebhookVerificationError:
        return False

class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args):
        pass
    def body(self):
        return self.rfile.read(int(self.headers.get("content-length") or 0))
    def answer(self, status, headers=(), data=b""):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

class Endpoint(Quiet):
    def do_POST(self):
        body, headers = self.body(), {k.lower(): v for k, v in self.headers.items()}
        id = headers.get("webhook-id")
        first = all(one["id"] != id for one in seen)
        seen.append({
            "id": id, "valid": [valid(secret, body, headers) for secret in secrets],
            "path": self.path, "headers": headers, "body": body.decode(),
        })
        if mode[0] == "hang":
            forever.wait()
        elif mode[0] == "flaky":
            self.answer(500 if first else 204)
        elif mode[0] == "long":
            self.answer(200, data=b"x" * 1_000_000)
        else:
            status, *headers = mode[0].split()
            self.answer(int(status), [header.split("=", 1) for header in headers], b"said so")
    def do_GET(self):
        seen.append({"id": None, "valid": [], "path": "GET " + self.path, "headers": {}, "body": ""})
        self.answer(200)

class Control(Quiet):
    def do_GET(self):
        self.answer(200, data=json.dumps(seen).encode())
    def do_PUT(self):
        mode[0] = self.body().decode()
        self.answer(200)

class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    def handle_error(self, *args):
        pass

endpoint, control = Server(("127.0.0.1", 0), Endpoint), Server(("127.0.0.1", 0), Control)
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    endpoint.socket = context.wrap_socket(endpoint.socket, server_side=True)
print(json.dumps({"port": endpoint.server_port, "control": control.server_port}), flush=True)
threading.Thread(target=endpoint.serve_forever, daemon=True).start()
control.serve_forever()
