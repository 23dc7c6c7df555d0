"""Tells what listens somewhere by the first bytes that it sends."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

TLS_SERVER = "a TLS server"

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""PostgreSQL's SSLRequest (its manual, "Message Formats")."""

_BEGINNINGS = {
    b"HTTP/": "an HTTP server",
    b"<!DOCTYPE": "an HTTP server",
    b"<html": "an HTTP server",
    b"+PONG": "a Redis",
    b"-ERR": "a Redis",
    b"-NOAUTH": "a Redis",
    b"-DENIED": "a Redis",
    b"SSH-": "an SSH server",
    b"220 ": "a mail or FTP server",
    b"\x15\x03": TLS_SERVER,
}
_MYSQL_VERSION = b"\x00\x0a"  # the fourth and fifth byte of its greeting


def kind_of(answer: bytes) -> str:
    """Tell a service by the first bytes that it sends.

    Args:
        answer: The bytes.

    Returns:
        Such as ``an HTTP server``; nothing if they are of no kind that is known.
    """
    for beginning, kind in _BEGINNINGS.items():
        if answer.lstrip().startswith(beginning):
            return kind
    return "a MySQL" if answer[3:5] == _MYSQL_VERSION else ""


def identify(connect: Callable[[], AbstractContextManager[socket.socket]]) -> str:
    """Find out what listens, by asking as others would.

    Args:
        connect: Opens a connection.

    Returns:
        As `kind_of`.
    """
    if kind := kind_of(_answer(connect, b"OPTIONS * HTTP/1.0\r\n\r\n")):
        return kind
    if _answer(connect, SSL_REQUEST) in {b"S", b"N"}:
        return "a PostgreSQL"
    return TLS_SERVER if _speaks_tls(connect) else ""


def _speaks_tls(connect: Callable[[], AbstractContextManager[socket.socket]]) -> bool:
    """Tell whether a handshake succeeds; nothing is sent, so the certificate is no matter."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(Exception), connect() as connection:
        context.wrap_socket(connection).close()
        return True
    return False


def _answer(connect: Callable[[], AbstractContextManager[socket.socket]], request: bytes) -> bytes:
    with suppress(Exception), connect() as connection:
        connection.sendall(request)
        return connection.recv(64)
    return b""
