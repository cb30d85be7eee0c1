"""A service for tests: what it does is in the path. Threads serve connections, so that requests may overlap."""
import base64, hashlib, http.server, json, os, resource, signal, sys, threading, time

connections = 0
switches = {"/started": 503, "/ready": 503}
healthy = True
started = time.time()


burning = 0


def burn(percent):
    global burning
    first, burning = burning == 0, percent
    if first and percent:
        threading.Thread(target=burn_on, daemon=True).start()


def burn_on():
    while burning:
        # Against its own CPU time, so that a busy machine makes it slower and not lazier.
        begun = time.thread_time()
        while time.thread_time() - begun < burning / 2000:
            pass
        time.sleep((100 - burning) / 2000)


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        global connections
        connections += 1
        super().setup()

    def log_message(self, *args):
        pass

    def answer(self, status, body, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                chunk = self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return
                yield chunk
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def do_GET(self):
        global healthy
        path, _, query = self.path.partition("?")
        if path == "/health":
            self.answer(200 if healthy else 503, {})
        elif path in switches or query.startswith("switch="):
            # A path that answers what it was switched to, 503 at first.
            if query:
                switches[path] = int(query.partition("=")[2])
            self.answer(switches.get(path, 503), {})
        elif path == "/unhealthy":
            healthy = False
            self.answer(200, {})
        elif path == "/env":
            self.answer(200, dict(os.environ))
        elif path == "/burn":
            # Uses about so many percent of a CPU until told otherwise, beside whatever is asked.
            burn(int(query))
            self.answer(200, {})
        elif path == "/head":
            self.answer(200, {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}})
        elif path == "/connections":
            self.answer(200, connections)
        elif path == "/pid":
            self.answer(200, os.getpid())
        elif path == "/slow":
            time.sleep(float(query))
            self.answer(200, os.getpid())
        elif path == "/until":
            # Answers when the file is there: tests decide when.
            while not os.path.exists(query):
                time.sleep(0.005)
            self.answer(200, os.getpid())
        elif path == "/exit":
            sys.stderr.write("going down\n")
            sys.stderr.flush()
            os._exit(int(query))
        elif path == "/exit-between":
            self.answer(200, {}, Connection="keep-alive")
            self.wfile.flush()
            os._exit(3)
        elif path == "/print":
            print("to stdout", flush=True)
            print("to stderr", file=sys.stderr, flush=True)
            print("x" * 40000, flush=True)
            self.answer(200, {})
        elif path == "/close-later":
            # Says that it keeps the connection, and closes it.
            self.answer(200, {})
            self.close_connection = True
        elif path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "x-sum")
            self.end_headers()
            sent = hashlib.sha256()
            for n in range(int(query)):
                data = (b"%08d" % n) * 8192
                sent.update(data)
                self.chunk(data)
            self.wfile.write(b"0\r\nx-sum: %s\r\n\r\n" % sent.hexdigest().encode())
        elif path == "/ticks":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: 0\n\n")
            self.wfile.flush()
            time.sleep(float(query))
            self.close_connection = True
        elif path == "/ws":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            self.wfile.write(b"hello first")
            self.wfile.flush()
            while data := self.connection.recv(65536):
                self.connection.sendall(data.upper())
            self.close_connection = True
        elif path == "/limits":
            limits = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0] for name in ["DATA", "NOFILE", "NPROC"]}
            cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
            self.answer(200, {"cpus": cpus, **limits})
        elif path == "/fork":
            # As many children as it may have, up to so many; they end with this process.
            children = 0
            try:
                for _ in range(int(query)):
                    if os.fork() == 0:
                        time.sleep(1000)
                        os._exit(0)
                    children += 1
            except BlockingIOError:
                pass
            self.answer(200, children)
        elif path == "/spin":
            # Works until the file is there.
            while not os.path.exists(query):
                sum(range(10000))
            self.answer(200, {})
        elif path == "/half":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
            self.wfile.flush()
            os._exit(9)
        elif path == "/garbage":
            self.wfile.write(b"this is not HTTP\r\n\r\n")
            self.close_connection = True
        else:
            self.answer(404, {})

    def do_HEAD(self):
        self.answer(200, {"path": self.path})

    def do_POST(self):
        if self.path == "/echo":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in self.body():
                if chunk:
                    self.chunk(chunk)
            self.wfile.write(b"0\r\n\r\n")
        elif self.path.startswith("/eat?"):
            # Bytes that are written to, so that they are there and not only promised.
            eaten = bytearray(int(self.path.partition("?")[2]) << 20)
            self.answer(200, len(eaten))
        else:
            seen = hashlib.sha256()
            size = 0
            for chunk in self.body():
                seen.update(chunk)
                size += len(chunk)
            headers = {k.lower(): v for k, v in self.headers.items()}
            self.answer(200, {"size": size, "sum": seen.hexdigest(), "path": self.path, "headers": headers})


def main():
    for option in sys.argv[1:]:
        name, _, value = option.partition("=")
        if name == "--delay":
            time.sleep(float(value))
        elif name == "--wait-for":
            while not os.path.exists(value):
                time.sleep(0.005)
        elif name == "--fail-unless":
            if not os.path.exists(value):
                sys.exit("the file is not there")
        elif name == "--announce":
            # The first time: says its port and waits, so that another can take it.
            if not os.path.exists(value):
                with open(value + ".new", "w") as file:
                    file.write(os.environ["PORT"])
                os.rename(value + ".new", value)
                while not os.path.exists(value + ".go"):
                    time.sleep(0.005)
        elif name == "--ignore-term":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif name == "--child":
            if os.fork() == 0:
                time.sleep(1000)
        elif name == "--burn":
            burn(int(value))
        elif name == "--switch-on":
            switches.update((path, 200) for path in value.split(","))
    http.server.ThreadingHTTPServer.request_queue_size = 128
    http.server.ThreadingHTTPServer.daemon_threads = True
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Service).serve_forever()


main()
