"""Tangelo's Lambda bootstrap for Python: asks the Runtime API for work, calls the handler, answers.

Needs only the standard library, and imports as little of it as it can: start time is the user's time. Errors are
reported as AWS's own client reports them.
"""

import _thread
import os
import sys
import time

try:
    import _socket as socket  # The C module alone: `socket` imports `selectors` and `enum`.
except ImportError:
    import socket
try:
    import _json  # The C module alone, as well: `json` imports `re` and `enum`, a sixth of the whole start.
except ImportError:
    _json = None

API = "/2018-06-01/runtime/"
AGENT = "tangelo-python/%d.%d" % sys.version_info[:2]
current = _thread._local()  # Whose `request_id` it is that a thread works on.


class Api:
    """One connection to the Runtime API, kept for life."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.host = address
        self.stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.stream.connect((host, int(port)))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def request(self, method, path, body=b"", headers=(), length=True):
        lines = ["%s %s%s HTTP/1.1" % (method, API, path), "Host: " + self.host, "User-Agent: " + AGENT]
        lines += ["%s: %s" % pair for pair in headers]
        if method == "POST" and length:
            lines.append("Content-Length: %d" % len(body))
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body

    def send(self, data):
        view = memoryview(data)
        while view:
            view = view[self.stream.send(view):]

    def receive(self):
        """The next response: its status, its headers by lower-case name, its body."""
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end >= 0:
                break
            self.more(65536)
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        self.buffer = self.buffer[end + 4:]
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        if len(self.buffer) < length:
            parts = [self.buffer]
            left = length - len(self.buffer)
            while left > 0:
                part = self.stream.recv(min(left, 1 << 20))
                if not part:
                    sys.exit(0)
                parts.append(part)
                left -= len(part)
            self.buffer = b"".join(parts)
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(lines[0].split(" ", 2)[1]), headers, body

    def more(self, size):
        data = self.stream.recv(size)
        if not data:
            sys.exit(0)  # The platform has closed: there is no more work.
        self.buffer += data


class Fault(Exception):
    """An error with a type of its own, as the Runtime API reports it."""

    def __init__(self, kind, message, trace=()):
        Exception.__init__(self, message)
        self.kind = kind
        self.trace = list(trace)


class Parts:
    """An object with the given keys as attributes, absent ones `None`."""

    def __init__(self, names, values):
        for name in names:
            setattr(self, name, values.get(name))


class Context:
    """What handlers get as their second argument."""

    def __init__(self, headers):
        get = os.environ.get
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.function_name = get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        identity = _parse(headers, "lambda-runtime-cognito-identity") or {}
        self.identity = Parts((), {})
        self.identity.cognito_identity_id = identity.get("cognitoIdentityId")
        self.identity.cognito_identity_pool_id = identity.get("cognitoIdentityPoolId")
        self.client_context = None
        client = _parse(headers, "lambda-runtime-client-context")
        if client is not None:
            self.client_context = Parts(("custom", "env", "client"), client)
            if self.client_context.client is not None:
                names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
                self.client_context.client = Parts(names, self.client_context.client)
        self._deadline = int(headers.get("lambda-runtime-deadline-ms", "0"))

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        return "LambdaContext(%r)" % (vars(self),)


def _parse(headers, name):
    text = headers.get(name)
    if not text:
        return None
    try:
        return loads(text.encode())
    except ValueError as error:
        raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, error)) from None


def load(handler):
    """The function that `handler` (`module.function`, `folder/module.function`) names."""
    module_name, dot, function_name = handler.rpartition(".")
    if not dot or not module_name or not function_name:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': expected `module.function`" % handler)
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = "Cannot use built-in module %s as a handler module" % module_name
        raise Fault("Runtime.BuiltInModuleConflict", message)
    try:
        module = __import__(module_name.replace("/", "."), fromlist=["*"])
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, error)) from None
    except SyntaxError as error:
        trace = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, error), trace) from None
    try:
        return getattr(module, function_name)
    except AttributeError:
        message = "Handler '%s' missing on module '%s'" % (function_name, module_name)
        raise Fault("Runtime.HandlerNotFound", message) from None


def describe(error, request_id):
    """The error object for an exception, with the frames of the user's code only."""
    if isinstance(error, Fault):
        kind, trace = error.kind, error.trace
    else:
        import traceback

        kind = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.filename == __file__ or frame.filename.startswith("<frozen importlib") for frame in frames]
        trace = traceback.format_list(frames[own.index(False) if False in own else len(frames):])
    return {"errorMessage": str(error), "errorType": kind, "requestId": request_id, "stackTrace": trace}


def log_error(description):
    """One entry of the log, its lines joined by carriage returns as AWS does it."""
    lines = ["[ERROR] %s: %s" % (description["errorType"], description["errorMessage"])]
    if description["stackTrace"]:
        lines.append("Traceback (most recent call last):")
        for entry in description["stackTrace"]:
            lines += entry.rstrip("\n").split("\n")
    sys.stdout.write("\r".join(lines) + "\n")
    sys.stdout.flush()


def encode(value):
    """JSON for what `json` does not know: decimals, as AWS's client encodes them."""
    if "decimal" in sys.modules:
        import decimal

        if isinstance(value, decimal.Decimal):
            return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


class Reader:
    """What `json.JSONDecoder` is to the scanner in C."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_int, parse_float = int, float
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


scan = _json and _json.make_scanner(Reader)


def loads(body):
    """What `json.loads` makes of bytes. It is imported only for what is not plain, so that errors are its own."""
    if scan:
        try:
            text = body.decode().strip(" \t\n\r")
            value, end = scan(text, 0)
            if end == len(text):
                return value
        except (StopIteration, ValueError):
            pass
    import json

    return json.loads(body)


def dumps(value, ascii=False):
    """The text that `json.JSONEncoder` makes of what a handler returned."""
    if _json is None:
        import json

        return json.JSONEncoder(default=encode, ensure_ascii=ascii).encode(value)
    string = _json.encode_basestring_ascii if ascii else _json.encode_basestring
    # What is within what (for circles), `default`, strings, indent, separators; keys as they come, NaN as it is.
    pieces = _json.make_encoder({}, encode, string, None, ": ", ", ", False, False, True)
    return "".join(pieces(value, 0))


class LoggingHook:
    """Sets the root logger up as Lambda does, if and when somebody imports `logging`: importing it here would cost
    every start what only some handlers use."""

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        import importlib.util

        spec = importlib.util.find_spec("logging")
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            set_up_logging(module)

        spec.loader.exec_module = exec_module
        return spec


def set_up_logging(logging):
    class Handler(logging.Handler):
        def emit(self, record):
            record.aws_request_id = getattr(current, "request_id", "")
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()

    handler = Handler()
    form = logging.Formatter("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    logging.getLogger().addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    if level in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL"):
        logging.getLogger().setLevel("CRITICAL" if level == "FATAL" else level)


def stream(pieces):
    """The reply of a handler that is a generator, as the chunks of a body that is sent while it is made: texts, bytes,
    and at the very beginning a dictionary with an HTTP reply's status, headers and cookies. The first chunk is the
    head's Content-Type. Tangelo's own: AWS's client for Python has nothing like it."""
    first = next(pieces, b"")
    integration = isinstance(first, dict)
    yield "application/vnd.awslambda.http-integration-response" if integration else "application/octet-stream"
    yield dumps(first, ascii=True).encode() + bytes(8) if integration else encoded(first)
    for piece in pieces:
        yield encoded(piece)


def encoded(piece):
    if isinstance(piece, str):
        return piece.encode("utf-8", "surrogatepass")
    if isinstance(piece, (bytes, bytearray)):
        return bytes(piece)
    raise Fault("Runtime.MarshalError", "A streamed reply is made of texts and bytes, not of %s" % type(piece).__name__)


def send_stream(api, request_id, chunks, kind):
    """Sends chunks as they are made; what goes wrong in between is said after the last one."""
    headers = (
        ("Content-Type", kind),
        ("Lambda-Runtime-Function-Response-Mode", "streaming"),
        ("Transfer-Encoding", "chunked"),
        ("Trailer", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"),
    )
    head = api.request("POST", "invocation/%s/response" % request_id, headers=headers, length=False)
    trailers = b""
    try:
        for chunk in chunks:
            if chunk:
                api.send(head + b"%x\r\n" % len(chunk) + chunk + b"\r\n")
                head = b""
    except Exception as error:
        import binascii

        description = describe(error, request_id)
        log_error(description)
        body = binascii.b2a_base64(dumps(description, ascii=True).encode(), newline=False)
        trailers = b"Lambda-Runtime-Function-Error-Type: %s\r\n" % description["errorType"].encode("latin-1", "replace")
        trailers += b"Lambda-Runtime-Function-Error-Body: %s\r\n" % body
    return head + b"0\r\n" + trailers + b"\r\n"


def answer(handler, headers, body):
    """Calls the handler; the outcome's path, headers and body."""
    request_id = headers["lambda-runtime-aws-request-id"]
    try:
        try:
            event = loads(body)
        except ValueError as error:
            raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error) from None
        result = handler(event, Context(headers))
        if type(result).__name__ == "generator":
            chunks = stream(result)
            return "stream", next(chunks), chunks
        if not isinstance(result, bytes):
            try:
                result = dumps(result).encode("utf-8", "surrogatepass")
            except Exception as error:
                raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error) from None
        return "response", (("Content-Type", "application/json"),), result
    except Exception as error:
        description = describe(error, request_id)
        log_error(description)
        kind = ("Lambda-Runtime-Function-Error-Type", description["errorType"])
        return "error", (("Content-Type", "application/json"), kind), dumps(description, ascii=True).encode()


def prepare():
    """What comes before the handler's module is imported."""
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    if "logging" in sys.modules:
        set_up_logging(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, LoggingHook())


def main(handler=None):
    """Serves for life; `handler` is that of a template which has imported it."""
    if handler is None:
        prepare()
    api = Api(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        handler = handler or load(os.environ.get("_HANDLER", ""))
    except Exception as error:
        description = describe(error, "")
        log_error(description)
        kind = ("Lambda-Runtime-Function-Error-Type", description["errorType"])
        api.send(api.request("POST", "init/error", dumps(description, ascii=True).encode(), (kind,)))
        api.receive()
        sys.exit(1)
    most = int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "1"))
    for _ in range(most - 1):
        # Only where the manifest asks for it: as many threads, each with a connection of its own.
        import threading

        address = os.environ["AWS_LAMBDA_RUNTIME_API"]
        threading.Thread(target=lambda: serve(Api(address), handler, False), daemon=True).start()
    serve(api, handler, most <= 1)


def serve(api, handler, alone):
    """Asks for work and does it, until the platform closes the connection."""
    ask = api.request("GET", "invocation/next")
    api.send(ask)
    while True:
        status, headers, body = api.receive()
        if status != 200:
            sys.exit("the Runtime API answered %d: %r" % (status, body))
        request_id = current.request_id = headers["lambda-runtime-aws-request-id"]
        # The environment is everybody's: it says whose trace this is only to one who works alone.
        trace = headers.get("lambda-runtime-trace-id") if alone else None
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        elif alone:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        outcome, kinds, result = answer(handler, headers, body)
        if outcome == "stream":
            said = send_stream(api, request_id, result, kinds)
        else:
            said = api.request("POST", "invocation/%s/%s" % (request_id, outcome), result, kinds)
        sys.stdout.flush()
        sys.stderr.flush()
        # The answer and the next question in one piece: the platform answers both, in order.
        api.send(said + ask)
        api.receive()
