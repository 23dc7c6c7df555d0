"""Test the installed wheel, from another directory: ``python wheel_smoke.py [EXTRA]``.

The features of the installed packages work. Using a missing package is an error with the command
that installs it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

import dockerflow_wsgi
import dockerflow_wsgi.logging
import dockerflow_wsgi.version
from dockerflow_wsgi import checks

REVISION = 'revision = "aaaa"\ndown_revision = None\n'


class QuietHandler(WSGIRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, *_arguments):
        """Do nothing."""


@contextlib.contextmanager
def served(app):
    """Serve an app, and yield a function that requests a path."""
    with make_server("127.0.0.1", 0, app, handler_class=QuietHandler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield lambda path: read(f"http://127.0.0.1:{server.server_port}{path}")
        finally:
            server.shutdown()
            thread.join()


def read(url):
    """Request a URL, and return the body."""
    with urllib.request.urlopen(url) as response:
        return response.read()


def hello(_environ, start_response):
    """Respond with a greeting."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def try_core():
    """Serve a wrapped app."""
    with served(dockerflow_wsgi.DockerflowMiddleware(hello)) as ask:
        assert ask("/") == b"hello"
        assert ask("/__lbheartbeat__") == b""
        assert json.loads(ask("/__heartbeat__")) == {"status": "ok", "checks": {}, "details": {}}


def try_redis():
    """Check a Redis that does not exist."""
    import redis

    (message,) = checks.check_redis_connected(redis.Redis(port=1))
    assert message.id == checks.ERROR_CANNOT_CONNECT_REDIS, message


def try_sqlalchemy():
    """Check a database."""
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")
    with served(dockerflow_wsgi.DockerflowMiddleware(hello, db=engine)) as ask:
        found = json.loads(ask("/__heartbeat__"))["checks"]
    engine.dispose()
    assert found == {"check_database_connected": "ok"}, found


def try_alembic():
    """Check a database that lacks a migration."""
    from alembic.config import Config
    from sqlalchemy import create_engine

    with tempfile.TemporaryDirectory() as directory:
        versions = Path(directory, "versions")
        versions.mkdir()
        (versions / "aaaa.py").write_text(REVISION)
        config = Config()
        config.set_main_option("script_location", directory)
        engine = create_engine(f"sqlite:///{directory}/empty.sqlite3")
        engine.connect().close()  # makes the file
        (message,) = checks.check_migrations_applied(config, engine)
        engine.dispose()
    assert message.id == checks.WARNING_UNAPPLIED_MIGRATION, message


def try_flask():
    """Extend a Flask app."""
    from flask import Flask

    from dockerflow_wsgi.flask import Dockerflow

    app = Flask("smoke")
    Dockerflow(app)
    response = app.test_client().get("/__heartbeat__")
    assert response.json["status"] == "ok", response.text


def try_django():
    """Check the databases of a Django project without one."""
    from django.conf import settings

    from dockerflow_wsgi.django import check_databases

    settings.configure()
    (message,) = check_databases()
    assert message.id == checks.ERROR_DB_API_EXCEPTION, message


class NoService:
    """A substitute for an object of a package that is not installed."""


def without_sqlalchemy():
    """Check a database."""
    return checks.check_database_connected(NoService())


def without_alembic():
    """Check migrations."""
    return checks.check_migrations_applied(NoService())


def without_flask():
    """Import the extension."""
    import dockerflow_wsgi.flask  # noqa: F401


def without_django():
    """Import the checks."""
    import dockerflow_wsgi.django  # noqa: F401


INSTALLED_BY = {
    "": [],
    "redis": ["redis"],
    "sqlalchemy": ["sqlalchemy"],
    "alembic": ["alembic", "sqlalchemy"],
    "flask": ["flask"],
    "django": ["django"],
    "all": ["alembic", "django", "flask", "redis", "sqlalchemy"],
}
WITH = {
    "redis": try_redis,
    "sqlalchemy": try_sqlalchemy,
    "alembic": try_alembic,
    "flask": try_flask,
    "django": try_django,
}
WITHOUT = {  # not for Redis: its check accepts any client
    "sqlalchemy": without_sqlalchemy,
    "alembic": without_alembic,
    "flask": without_flask,
    "django": without_django,
}


def message_of(use):
    """Call a function that needs a missing package, and return the message."""
    try:
        return str(use())
    except ImportError as error:
        return str(error)


def run(*arguments):
    """Run the installed command."""
    command = Path(sys.executable).with_name("dockerflow-wsgi")
    done = subprocess.run(
        [command, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def main(extra=""):
    """Try each extra that is installed, and the error of each one that is missing."""
    package = Path(dockerflow_wsgi.__file__).parent
    assert "site-packages" in package.parts, package
    assert (package / "py.typed").exists()
    installed = [name for name in WITH if importlib.util.find_spec(name)]
    assert sorted(installed) == INSTALLED_BY[extra], installed
    assert sys.modules.keys().isdisjoint(WITH)

    description = importlib.metadata.metadata("dockerflow-wsgi")["Description"]
    assert description.startswith("# dockerflow-wsgi\n")
    # A link to another file of the repository leads nowhere on a package index.
    assert re.findall(r"\]\((?!#|https?:)[^)]*\)", description) == []

    try_core()
    for name, try_it in WITH.items():
        if name in installed:
            try_it()
    for name, use in WITHOUT.items():
        if name not in installed:
            message = message_of(use)
            assert f"pip install 'dockerflow-wsgi[{name}]'" in message, message

    version = importlib.metadata.version("dockerflow-wsgi")
    assert run("--version") == f"dockerflow-wsgi {version}\n"
    assert run("doctor", "--help").startswith("usage: dockerflow-wsgi doctor")
    assert run("serve", "--help").startswith("usage: dockerflow-wsgi serve")
    brought = f"the extra {extra!r}" if extra else "no extra"
    print(f"dockerflow-wsgi {version} works on {sys.version.split()[0]} with {brought}")


if __name__ == "__main__":
    main(*sys.argv[1:])
