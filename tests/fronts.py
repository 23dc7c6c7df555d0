"""Proxies, and the instances of an app behind them."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket

from probing import ask
from programs import ROOT
from servers import gunicorn_server, redis_server
from waiting import TIMEOUT_S


@contextlib.contextmanager
def reserved_port():
    """Reserve a port for servers that use ``SO_REUSEPORT``, and yield it."""
    with socket.socket() as placeholder:  # it does not listen
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        placeholder.bind(("127.0.0.1", 0))
        yield placeholder.getsockname()[1]


class Instance:
    """A running instance of an app.

    Attributes:
        address: Its host and port.
        server: Its gunicorn, a `programs.Program`.
    """

    def __init__(self, server, log_file):
        self.address = f"127.0.0.1:{server.port}"
        self.server = server
        self._log_file = log_file

    def summaries(self):
        """Return the request summaries that it has logged so far."""
        lines = self._log_file.read_text().splitlines(keepends=True)
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        return [record for record in records if record["Type"] == "request.summary"]


@contextlib.contextmanager
def instance(name, directory, *options, port=0, log_level="INFO", **environment):
    """Run ``in_front/instance.py``, with its log in the directory."""
    log_file = directory / f"{name}.log"
    environment |= {"INSTANCE": name, "LOG_FILE": str(log_file), "LOG_LEVEL": log_level}
    home = ROOT / "tests" / "integration" / "in_front"
    with gunicorn_server(
        "instance:wrapped_app", *options, port=port, cwd=home, **environment
    ) as server:
        yield Instance(server, log_file)


def redis_at(path):
    """Run a Redis on a Unix socket, where another one can replace it later."""
    return redis_server("--unixsocket", str(path))


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Proxy:
    """A proxy that listens on a Unix socket.

    Args:
        path: The socket.
    """

    def __init__(self, path):
        self._path = path

    def ask(self, target="/", headers=None, method="GET"):
        """Send a request, and return the `probing.Answer`."""
        return ask(UnixConnection(self._path), target, method, headers)

    def listens(self):
        """Return whether it accepts connections."""
        with contextlib.suppress(OSError), contextlib.closing(UnixConnection(self._path)) as probe:
            probe.connect()
            return True
        return False
