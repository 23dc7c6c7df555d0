"""The app that every server serves, without the middleware for requests with ``X-Bare``.

It logs to the Unix socket ``TEST_LOG``, with one connection per record.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from urllib.parse import parse_qs

from dockerflow_wsgi import DockerflowMiddleware, get_request_id
from dockerflow_wsgi.logging import MozlogFormatter

logger = logging.getLogger("pages")

TIMEOUT_S = 60


class ConnectingHandler(logging.Handler):
    """Sends each line to the test over a separate connection, without buffering."""

    def emit(self, record):
        """Send a line."""
        with socket.socket(socket.AF_UNIX) as sender:
            sender.connect(os.environ["TEST_LOG"])
            sender.sendall(self.format(record).encode())


class Body:
    """A streamed body that logs its ``close``."""

    def __init__(self, chunks, environ):
        self._chunks = chunks
        self._rid = environ.get("HTTP_X_REQUEST_ID")

    def __iter__(self):
        return self._chunks

    def close(self):
        """Close the chunks, as servers close a generator."""
        self._chunks.close()
        logger.info("closed", extra={"closed": self._rid})


def gate(environ):
    """Wait until the test releases this request, over a connection to the test's port."""
    port = int(parse_qs(environ["QUERY_STRING"])["gate"][0])
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.recv(1)


def page(environ, start_response):
    """Return the request as JSON."""
    shown = {key: value for key, value in environ.items() if isinstance(value, str)}
    body = json.dumps({**shown, "get_request_id": get_request_id()}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def stream(environ, start_response):
    """Stream five chunks; the test releases the second to the fifth."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    def chunks():
        for number in range(5):
            if number:
                gate(environ)
            yield f"{number} {get_request_id()}\n".encode()

    return Body(chunks(), environ)


def endless(environ, start_response):
    """Stream a body without an end, until the client disconnects."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    def chunks():
        while True:
            yield b"x" * 65536

    return Body(chunks(), environ)


def file(environ, start_response):
    """Return a file with ``wsgi.file_wrapper`` if the server has one."""
    path = os.environ["TEST_FILE"]
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(os.path.getsize(path))),
        ],
    )
    opened = open(path, "rb")  # noqa: SIM115 - the server closes it
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](opened, 65536)
    return iter(lambda: opened.read(65536), b"")


def upload(environ, start_response):
    """Return the body of the request."""
    length = environ.get("CONTENT_LENGTH")
    received = b""
    if length or environ.get("wsgi.input_terminated") or "uwsgi.version" in environ:
        received = environ["wsgi.input"].read(*([int(length)] if length else []))
    body = f"{len(received)} {hashlib.sha256(received).hexdigest()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def raises_before(_environ, _start_response):
    """Raise an exception before the headers."""
    raise RuntimeError("before the headers")


def raises_after(environ, start_response):
    """Raise an exception after the first chunk."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    def chunks():
        yield b"begun"
        raise RuntimeError("after the headers")

    return Body(chunks(), environ)


PAGES = {
    "/stream": stream,
    "/endless": endless,
    "/file": file,
    "/upload": upload,
    "/raises-before": raises_before,
    "/raises-after": raises_after,
}


def bare(environ, start_response):
    """Serve the pages."""
    return PAGES.get(environ["PATH_INFO"], page)(environ, start_response)


wrapped = DockerflowMiddleware(bare)


@wrapped.version_callback
def version(_root):
    """Return a version object."""
    return {"source": "", "version": "1", "commit": "abc", "build": ""}


@wrapped.check
def fine():
    """Return no messages."""
    return []


def application(environ, start_response):
    """Serve the app with the middleware, or without it for comparison."""
    app = bare if "HTTP_X_BARE" in environ else wrapped
    return app(environ, start_response)


handler = ConnectingHandler()
handler.setFormatter(MozlogFormatter())
logging.basicConfig(handlers=[handler], level=logging.INFO)
logging.getLogger("request.summary").setLevel(logging.DEBUG)
