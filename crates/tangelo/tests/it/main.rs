//! The binary as its users have it: started, deployed to, asked over HTTP and by command line, killed, started again.

mod capture;
mod claims;
mod command_line;
mod containers;
mod contract_rules;
mod contract_versions;
mod contracts;
mod database_tls;
mod delivery;
mod destinations;
mod doctor;
mod documents;
mod durability;
mod edge;
mod event_commands;
mod events;
mod failures;
mod health;
mod http;
mod inbox;
mod kafka;
mod keyvalue;
mod lambda;
mod lifecycle;
mod limits;
mod mesh;
mod order_events;
mod order_events_postgres;
mod otlp;
mod outbox;
mod outside;
mod overload;
mod preview3;
mod projections;
mod publishing;
mod python;
mod reconcile;
mod replay;
mod retention;
mod routing;
mod scaling;
mod sdk;
mod secrets;
mod streams;
mod templates;
mod under_load;
mod wasm;
mod webhooks;
mod websockets;

use testkit::Server;

/// The program under test.
const TANGELO: &str = env!("CARGO_BIN_EXE_tangelo");

/// A server with nothing deployed.
fn server() -> Server {
    Server::start(TANGELO).expect("a server starts in an empty folder")
}

/// A service in Python that says what it was asked, counts, and can be told to be slow or to fail.
const ECHO: &str = r#"
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length).decode()
        status, answer = 200, {
            "method": self.command, "path": self.path, "body": body, "pid": os.getpid(),
            "headers": {k.lower(): v for k, v in self.headers.items()},
        }
        if self.path.startswith("/fail"):
            status = 500
        if self.path.startswith("/env"):
            answer = {k: v for k, v in os.environ.items() if k.endswith("_URL") or k.startswith("TANGELO")}
        if self.path.startswith("/call/"):
            name, _, rest = self.path[len("/call/"):].partition("/")
            url = os.environ.get(name.upper() + "_URL") or os.environ["TANGELO_MESH_URL"] + "/w/" + name
            try:
                with urlopen(url + "/" + rest) as response:
                    status, answer = response.status, json.load(response)
            except Exception as error:
                status = getattr(error, "code", 599)
                answer = json.loads(error.read()) if hasattr(error, "read") else {"error": str(error)}
        if self.path.startswith("/seen"):
            with open(os.path.join(os.environ["TANGELO_STATE_DIR"], "seen")) as seen:
                answer = [json.loads(line) for line in seen]
        if self.headers.get("ce-type"):
            with open(os.path.join(os.environ["TANGELO_STATE_DIR"], "seen"), "a") as seen:
                seen.write(json.dumps({"id": self.headers["ce-id"], "key": self.headers["idempotency-key"], "body": body}) + "\n")
        print("asked for", self.path, flush=True)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
    do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_GET
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;
