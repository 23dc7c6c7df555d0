"""Requests to servers on this machine, and their listening ports."""

from __future__ import annotations

import contextlib
import json
import socket
from email.message import Message
from http.client import HTTPConnection
from typing import NamedTuple

import psutil
from waiting import TIMEOUT_S


class Answer(NamedTuple):
    """The response of a server."""

    status: int
    headers: Message
    body: bytes

    def json(self):
        """Return the body, parsed."""
        return json.loads(self.body)


def ask(connection, target, method="GET", headers=None):
    """Send a request over an ``HTTPConnection``, and close it."""
    with contextlib.closing(connection):
        connection.request(method, target, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def get(port, path, **headers):
    """Send a GET request to a server on this machine."""
    return ask(HTTPConnection("127.0.0.1", port, TIMEOUT_S), path, headers=headers)


def heartbeat(port):
    """Request the heartbeat, and return status and JSON."""
    answer = get(port, "/__heartbeat__")
    return answer.status, answer.json()


def lbheartbeat_status(port):
    """Return the status of ``/__lbheartbeat__``; ``None`` if the connection is refused."""
    try:
        return get(port, "/__lbheartbeat__").status
    except ConnectionRefusedError:
        return None


def probe(port, path, method="GET"):
    """Send HTTP/1.0 without headers, like HAProxy's ``option httpchk``; return all bytes."""
    return talk(port, f"{method} {path} HTTP/1.0\r\n\r\n".encode())


def talk(port, sent):
    """Send bytes, and return all bytes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass  # the server has not read all bytes
        return received


def listening_ports(process):
    """Return the ports of the listening TCP sockets that a process holds."""
    connections = process.net_connections(kind="tcp")
    return [found.laddr.port for found in connections if found.status == psutil.CONN_LISTEN]
