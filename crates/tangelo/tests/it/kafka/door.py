"""The door of a broker: what of Kafka librdkafka's own cluster lacks (TLS, SASL) and cannot be told to do (be away, lose answers).

It hands requests on and answers back; of answers it changes only addresses, so that clients come through doors for every broker.
"""
import base64, hashlib, hmac, os, socket, ssl, struct, threading

PRODUCE, METADATA, HANDSHAKE, VERSIONS, AUTHENTICATE = 0, 3, 17, 18, 36

def exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data

def frame(sock):
    return exactly(sock, struct.unpack(">i", exactly(sock, 4))[0])

def send(sock, data):
    sock.sendall(struct.pack(">i", len(data)) + data)

def text(value):
    return struct.pack(">h", len(value)) + value.encode()

def too_large(request):
    """The answer of a topic that takes no record of that size, to whoever writes to one partition (versions 3 to 7)."""
    version, at = struct.unpack(">h", request[2:4])[0], 8
    for _ in range(2):
        at += 2 + max(struct.unpack(">h", request[at:at + 2])[0], 0)
    at += 10
    length = struct.unpack(">h", request[at:at + 2])[0]
    topic, at = request[at:at + 2 + length], at + 6 + length
    partition = request[at:at + 4]
    rest = struct.pack(">hqq", 10, -1, -1) + (struct.pack(">q", -1) if version >= 5 else b"")
    return request[4:8] + struct.pack(">i", 1) + topic + struct.pack(">i", 1) + partition + rest + struct.pack(">i", 0)

class Scram:
    """The server's side of RFC 5802, with SHA-256 or SHA-512."""
    def __init__(self, name, user, password):
        self.hash, self.user, self.password, self.first = name, user, password, None
    def step(self, message):
        if self.first is None:
            self.first = message.split(",", 2)[2]
            said = dict(one.split("=", 1) for one in self.first.split(","))
            if said["n"] != self.user:
                return None
            self.nonce, self.salt = said["r"] + "server", os.urandom(16)
            self.challenge = f"r={self.nonce},s={base64.b64encode(self.salt).decode()},i=4096"
            return self.challenge
        bare, proof = message.rsplit(",p=", 1)
        salted = hashlib.pbkdf2_hmac(self.hash, self.password.encode(), self.salt, 4096)
        mac = lambda key, what: hmac.new(key, what, self.hash).digest()
        client, signed = mac(salted, b"Client Key"), ",".join([self.first, self.challenge, bare]).encode()
        stored = hashlib.new(self.hash, client).digest()
        wanted = bytes(a ^ b for a, b in zip(client, mac(stored, signed)))
        if f"r={self.nonce}" not in bare or not hmac.compare_digest(wanted, base64.b64decode(proof)):
            return None
        return "v=" + base64.b64encode(mac(mac(salted, b"Server Key"), signed)).decode()

class Plain:
    def __init__(self, user, password):
        self.wanted = f"\0{user}\0{password}"
    def step(self, message):
        return "" if message.endswith(self.wanted) else None

class Door:
    """`tls`: (certificate, key); `login`: (user, password)."""
    def __init__(self, behind, tls=None, login=None):
        self.behind, self.login, self.away, self.losing, self.most, self.doors, self.open = behind, login, False, 0, None, {}, set()
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.socket.accept()
            if self.away:
                client.close()
            else:
                threading.Thread(target=self.attend, args=(client,), daemon=True).start()

    def leave(self):
        self.away = True
        for one in list(self.open):
            try: one.shutdown(socket.SHUT_RDWR)
            except OSError: pass

    def attend(self, client):
        broker = None
        try:
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            broker = socket.create_connection(("127.0.0.1", self.behind))
            self.open |= {client, broker}
            if not self.login or self.authenticate(client, broker):
                asked = {}
                threading.Thread(target=self.answers, args=(broker, client, asked), daemon=True).start()
                while True:
                    request = frame(client)
                    kind = struct.unpack(">h", request[:2])[0]
                    if kind == PRODUCE and self.most and len(request) > self.most:
                        send(client, too_large(request))
                        continue
                    asked[request[4:8]] = kind
                    send(broker, request)
        except (ConnectionError, OSError):
            pass
        finally:
            for one in [client, broker]:
                self.open.discard(one)
                if one: one.close()

    def answers(self, broker, client, asked):
        try:
            while True:
                answer = frame(broker)
                kind = asked.pop(answer[:4], None)
                if kind == PRODUCE and self.losing > 0:
                    self.losing -= 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                if kind == METADATA:
                    for port, door in self.doors.items():
                        answer = answer.replace(b"127.0.0.1" + struct.pack(">i", port), b"127.0.0.1" + struct.pack(">i", door.port))
                send(client, answer)
        except (ConnectionError, OSError):
            pass

    def authenticate(self, client, broker):
        """Kafka's SASL sequence: versions, handshake, messages; nothing else before."""
        steps = None
        while True:
            request = frame(client)
            kind, version = struct.unpack(">hh", request[:4])
            number = request[4:8]
            length = struct.unpack(">h", request[8:10])[0]
            body = request[10 + max(length, 0):]
            if kind == VERSIONS and version > 2:
                # As a broker that does not know the version: in that of version 0.
                send(client, number + struct.pack(">hi", 35, 1) + struct.pack(">hhh", VERSIONS, 0, 2))
            elif kind == VERSIONS:
                send(broker, request)
                answer = frame(broker)
                count = struct.unpack(">i", answer[6:10])[0]
                own = struct.pack(">hhhhhh", HANDSHAKE, 0, 1, AUTHENTICATE, 0, 1)
                send(client, answer[:6] + struct.pack(">i", count + 2) + own + answer[10:])
            elif kind == HANDSHAKE:
                wanted = body[2:].decode()
                known = {"PLAIN": lambda: Plain(*self.login), "SCRAM-SHA-256": lambda: Scram("sha256", *self.login),
                         "SCRAM-SHA-512": lambda: Scram("sha512", *self.login)}
                error = 0 if wanted in known else 33
                send(client, number + struct.pack(">hi", error, len(known)) + b"".join(map(text, known)))
                if error: return False
                steps = known[wanted]()
            elif kind == AUTHENTICATE and steps:
                said = steps.step(body[4:].decode())
                if said is None:
                    send(client, number + struct.pack(">h", 58) + text("Authentication failed") + struct.pack(">i", 0) + (b"\0" * 8 if version else b""))
                    return False
                ends = said == "" or said.startswith("v=")
                send(client, number + struct.pack(">hh", 0, -1) + struct.pack(">i", len(said)) + said.encode() + (b"\0" * 8 if version else b""))
                if ends: return True
            else:
                return False
