"""An S3 server on this machine that can be made to misbehave: moto over HTTP, with faults in front of it."""

import contextlib
import itertools
import json
import os
import socket
import struct
import threading
import time
import uuid
from dataclasses import dataclass, field

LOOPBACK = "127.0.0.1"
_ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>as the test wants it</Message></Error>'


@dataclass
class Fault:
    """What goes wrong with some of the requests.

    `kind` is "403", "500", "503", "reset" (the connection breaks before an answer), "cut" (a body that ends early) or
    "slow". Requests whose path contains `path`, and of `method` where one is given, are counted: the first `times` of
    them fail where that is given, else each `every`th.
    """

    kind: str
    path: str = ""
    method: str = ""
    times: int | None = None
    every: int = 1
    seconds: float = 0.2
    met: int = 0
    hits: int = 0

    def strikes(self, method, path):
        if self.path not in path or (self.method and self.method != method):
            return False
        self.met += 1
        struck = self.met <= self.times if self.times is not None else self.met % self.every == 0
        self.hits += struck
        return struck


@dataclass
class Request:
    method: str
    path: str
    headers: dict
    sent: int = 0  # bytes of the answer's body


@dataclass
class FaultyApp:
    """A WSGI application in front of another: it notes each request, and answers some of them badly."""

    app: object
    faults: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    role: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/role-of-the-machine":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [self.role]
        request = Request(method, path, {name[5:]: text for name, text in environ.items() if name.startswith("HTTP_")})
        with self.lock:
            self.requests.append(request)
            struck = [fault for fault in self.faults if fault.strikes(method, path)]
        kinds = {fault.kind for fault in struck}
        time.sleep(max((fault.seconds for fault in struck if fault.kind == "slow"), default=0))
        if kinds & {"403", "500", "503", "reset"}:
            # What was sent is read, as a server would; else the client could not hear the answer.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if "reset" in kinds:
            raise ConnectionResetError
        for kind, code in (("403", "AccessDenied"), ("500", "InternalError"), ("503", "SlowDown")):
            if kind in kinds:
                start_response(f"{kind} {code}", [("Content-Type", "application/xml")])
                return [] if method == "HEAD" else [_ERROR.format(code).encode()]
        return self._forward(environ, start_response, request, cut="cut" in kinds and method != "HEAD")

    def _forward(self, environ, start_response, request, cut):
        body = b"".join(self.app(environ, start_response))
        request.sent = len(body)
        yield body[: len(body) // 2] if cut else body
        if cut:
            raise ConnectionResetError


class S3:
    """The server. `s3://<bucket>/<key>` works in this process and in those it starts, by the environment."""

    def __init__(self, listener):
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from moto.server import MotoRequestHandler
        from werkzeug.serving import make_server

        class Handler(MotoRequestHandler):
            """Says nothing, and keeps broken connections to itself."""

            def log(self, *arguments):
                pass

            def connection_dropped(self, error, environ=None):
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset

        self.endpoint = endpoint_of(listener)
        self.app = FaultyApp(DomainDispatcherApplication(create_backend_app))
        listener.listen(128)
        host, port = listener.getsockname()
        self._server = make_server(host, port, self.app, True, request_handler=Handler, fd=listener.fileno())
        self._server.shutdown_request = self._server.close_request  # in good order would be no reset
        self._numbers = itertools.count()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def client(self):
        """A boto3 client, which is how tests look at what is there by another way than ours."""
        import boto3

        return boto3.client("s3")

    def bucket(self):
        """Make a bucket and return its name."""
        name = f"bucket-{next(self._numbers)}-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket):
        """The names of all objects in a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sorted(one["Key"] for page in pages for one in page.get("Contents", []))

    @contextlib.contextmanager
    def fault(self, kind, **where):
        """Make requests fail within the block; the parameters are those of `Fault`, which is yielded."""
        fault = Fault(kind, **where)
        with self.app.lock:
            self.app.faults.append(fault)
        try:
            yield fault
        finally:
            with self.app.lock:
                self.app.faults.remove(fault)

    @contextlib.contextmanager
    def faults(self, many):
        """Make several things go wrong; each is a kind and the parameters of `fault`."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.fault(kind, **where)) for kind, where in many]

    @contextlib.contextmanager
    def role(self, key):
        """Serve credentials as a container's role does, and yield where."""
        document = {
            "AccessKeyId": key,
            "SecretAccessKey": "hidden",
            "Token": "hidden",
            "Expiration": "2999-01-01T00:00:00Z",
        }
        self.app.role = json.dumps(document).encode()
        yield f"{self.endpoint}/role-of-the-machine"

    @contextlib.contextmanager
    def counted(self, path=""):
        """Yield a list that afterwards holds the requests of the block whose path contains `path`."""
        before, found = len(self.app.requests), []
        yield found
        with self.app.lock:
            found += [request for request in self.app.requests[before:] if path in request.path]

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


def endpoint_of(listener):
    return "http://{}:{}".format(*listener.getsockname())


@contextlib.contextmanager
def s3_environment():
    """Take a port and name it in the environment; the socket is yielded, on which nobody listens as yet.

    Processes that are started before the server know of it by that.
    """
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        settings = {
            "AWS_ENDPOINT_URL": endpoint_of(listener),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        before = {name: os.environ.get(name) for name in settings}
        os.environ |= settings
        try:
            yield listener
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
