"""HTTP as bytes on a socket, without changes by a client library."""

from __future__ import annotations

import io
import socket
from dataclasses import dataclass
from http.client import HTTPResponse

from waiting import TIMEOUT_S


@dataclass
class Response:
    """A response without changes.

    Attributes:
        status: Its code.
        headers: Names in lower case and values, in order.
        body: The body, without its transfer encoding.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name):
        """Return the one value of a header, or ``None``."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class _SharedReader(io.BufferedReader):
    def close(self):
        """Stay open for the next response."""


class Wire:
    """A connection to a server on this machine.

    Args:
        port: The server's.
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
        """Read a response's head, and return the ``HTTPResponse`` to read its body from."""
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
        except ConnectionResetError:  # it had not read all that was sent
            return b""


def request(method, target, *headers, body=b"", version="1.1"):
    """Write a request; each header is a line."""
    lines = [f"{method} {target} HTTP/{version}", *headers]
    if version == "1.1" and not any(line.lower().startswith("host:") for line in headers):
        lines.append("Host: localhost")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Gate:
    """Releases a waiting request of ``pages``, once for each `open`."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT_S)
        self.query = f"gate={self._listener.getsockname()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def open(self):
        """Wait until a request waits, and release it."""
        connection, _address = self._listener.accept()
        with connection:
            connection.sendall(b"!")
