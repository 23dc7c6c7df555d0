"""Tries the installed wheel, from another directory: ``python wheel_smoke.py [--all]``.

Without ``--all`` it expects none of the extras to be importable; with it, every one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

import dockerflow_wsgi
import dockerflow_wsgi.logging
import dockerflow_wsgi.version
from dockerflow_wsgi import checks

EXTRAS = ("alembic", "flask", "redis", "sqlalchemy")


class QuietHandler(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_arguments):
        """Say nothing."""


def app(_environ, start_response):
    """Say hello."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def wrap(with_extras):
    """Wrap the app, with the built-in checks if the extras are there."""
    if not with_extras:
        return dockerflow_wsgi.DockerflowMiddleware(app)
    from sqlalchemy import create_engine

    return dockerflow_wsgi.DockerflowMiddleware(app, db=create_engine("sqlite://"))


def get(port, path):
    """Ask the server."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as response:
        return response.read()


def what_is_missing():
    """Use a built-in check without its package."""
    try:
        checks.check_migrations_applied(object())
    except ImportError as error:
        return str(error)
    return "nothing"


def main():
    """Serve a wrapped app with what is installed."""
    with_extras = "--all" in sys.argv
    assert "site-packages" in dockerflow_wsgi.__file__, dockerflow_wsgi.__file__
    assert (Path(dockerflow_wsgi.__file__).parent / "py.typed").exists()
    for name in EXTRAS:
        assert (importlib.util.find_spec(name) is not None) == with_extras, name
    assert not [name for name in EXTRAS if name in sys.modules]

    wrapped = wrap(with_extras)
    with make_server("127.0.0.1", 0, wrapped, handler_class=QuietHandler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            assert get(server.server_port, "/") == b"hello"
            assert get(server.server_port, "/__lbheartbeat__") == b""
            heartbeat = json.loads(get(server.server_port, "/__heartbeat__"))
            assert heartbeat["status"] == "ok", heartbeat
        finally:
            server.shutdown()
            thread.join()
    if not with_extras:
        assert "pip install 'dockerflow-wsgi[alembic]'" in what_is_missing()
    command = Path(sys.executable).with_name("dockerflow-wsgi")
    shown = subprocess.run(
        [command, "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"dockerflow-wsgi {importlib.metadata.version('dockerflow-wsgi')}\n"
    print(f"the wheel works {'with every extra' if with_extras else 'bare'}: {shown.strip()}")


if __name__ == "__main__":
    main()
