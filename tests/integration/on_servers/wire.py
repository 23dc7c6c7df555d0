"""Sends and receives HTTP over sockets, without changes by a client library."""

from __future__ import annotations

import io
import socket
from dataclasses import dataclass
from http.client import HTTPResponse

from waiting import TIMEOUT_S

ENDPOINTS = ("/__version__", "/__heartbeat__", "/__lbheartbeat__")


@dataclass
class Response:
    """A response.

    Attributes:
        status: The status code.
        headers: The names, in lower case, and values, in order.
        body: The body, without its transfer encoding.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name):
        """Return the one value of a header, or ``None``."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) < 2, f"{len(values)} values of {name}: {values}"
        return values[0] if values else None


def comparable(response):
    """Return a response without the values that differ between requests."""
    headers = [item for item in response.headers if item[0] not in {"date", "x-request-id"}]
    return response.status, sorted(headers), response.body


class _SharedReader(io.BufferedReader):
    def close(self):
        """Stay open for the next response."""


class Wire:
    """A connection to a server on this machine.

    Args:
        port: The port of the server.
    """

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._reader = _SharedReader(socket.SocketIO(self._socket, "r"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def makefile(self, _mode):
        """Return the reader for ``HTTPResponse``."""
        return self._reader

    def send(self, data):
        """Send bytes."""
        self._socket.sendall(data)

    def begin(self, method="GET"):
        """Read the head of a response, and return the ``HTTPResponse``."""
        response = HTTPResponse(self, method=method)
        response.begin()
        return response

    def read(self, method="GET"):
        """Read a whole response."""
        response = self.begin(method)
        headers = [(name.lower(), value) for name, value in response.getheaders()]
        return Response(response.status, headers, response.read())

    def rest(self):
        """Read until the server closes the connection."""
        try:
            return self._reader.read()
        except ConnectionResetError:  # the server has not read all bytes
            return b""


def request(method, target, *headers, body=b"", version="1.1"):
    """Return the bytes of a request; each header is a line."""
    lines = [f"{method} {target} HTTP/{version}", *headers]
    if version == "1.1" and not any(line.lower().startswith("host:") for line in headers):
        lines.append("Host: localhost")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Gate:
    """Lets a waiting request of ``pages`` continue, once for each `open`."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT_S)
        self.query = f"gate={self._listener.getsockname()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def open(self):
        """Wait for a request that waits, and let it continue."""
        connection, _address = self._listener.accept()
        with connection:
            connection.sendall(b"!")
