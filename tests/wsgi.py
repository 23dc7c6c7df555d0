"""Calls a WSGI app like a server, with `wsgiref.validate` around it."""

from __future__ import annotations

import io
from typing import NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator


class Response(NamedTuple):
    """The response of an app."""

    status: str
    headers: dict[str, str]
    body: bytes


class Server:
    """The server's side of one request: keeps the arguments of ``start_response``."""

    def __init__(self):
        self.starts = []
        self.written = []

    def start_response(self, status, headers, exc_info=None):
        """Keep the arguments; refuse a second call without ``exc_info``, as in PEP 3333."""
        assert not self.starts or exc_info, "start_response() called twice without exc_info"
        self.starts.append((status, headers, exc_info))
        return self.write

    def write(self, data):
        """Keep a chunk that the app writes."""
        self.written.append(data)

    @property
    def status(self):
        """The status of the last call."""
        return self.starts[-1][0]

    @property
    def headers(self):
        """The headers of the last call."""
        return dict(self.starts[-1][1])


def ignore_start(_status, _headers, _exc_info=None):
    """Accept any response; a ``start_response`` for tests."""


def make_environ(path="/", method="GET", **keys):
    """Build the environ of a request."""
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": "", **keys}
    environ.setdefault("SCRIPT_NAME", "")
    environ.setdefault("wsgi.input", io.BytesIO())
    setup_testing_defaults(environ)
    return environ


def call(app, environ):
    """Call an app, read and close its body, and return the `Server` and the body."""
    server = Server()
    chunks = validator(app)(environ, server.start_response)
    try:
        content = b"".join(chunks)
    finally:
        chunks.close()
    return server, b"".join(server.written) + content


def request(app, path="/", method="GET", **keys):
    """Call an app, and return its response."""
    server, body = call(app, make_environ(path, method, **keys))
    return Response(server.status, server.headers, body)


def hello(_environ, start_response):
    """Respond with a constant body; an app for tests."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
