//! Services of tests, written with Python's standard library.

const BEFORE: &str = r#"
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Answers(BaseHTTPRequestHandler):
    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass
"#;

const AFTER: &str = r#"
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A service around `handler`, which has a class `Handler(Answers)`: that one says `self.answer(status, value)`.
pub(crate) fn service(handler: &str) -> String {
    [BEFORE, handler, AFTER].concat()
}
