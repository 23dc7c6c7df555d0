"""A guest book: a plain WSGI app, without a framework, that complies with Dockerflow.

    pip install '.[all]' gunicorn 'psycopg[binary]'
    alembic -c examples/alembic.ini upgrade head
    gunicorn examples.quickstart:wrapped_app

The guests are stored in SQLite in this directory. The environment variable DATABASE_URL names
another database, and REDIS_URL a Redis that counts the visits.
"""

import os
import shutil
from datetime import datetime, timezone
from html import escape
from logging.config import dictConfig
from pathlib import Path
from urllib.parse import parse_qs

from alembic.config import Config
from sqlalchemy import create_engine, make_url, text

from dockerflow_wsgi import DockerflowMiddleware, checks

HERE = Path(__file__).parent

dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "mozlog": {
                "()": "dockerflow_wsgi.logging.MozlogFormatter",
                "logger_name": "quickstart",
            },
        },
        "filters": {"request_id": {"()": "dockerflow_wsgi.logging.RequestIdLogFilter"}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "mozlog",
                "filters": ["request_id"],
            },
        },
        "root": {"handlers": ["stdout"], "level": "INFO"},
    }
)


def database_url():
    """Return the URL of the database, with the installed driver for PostgreSQL."""
    url = make_url(os.environ.get("DATABASE_URL") or f"sqlite:///{HERE / 'guests.sqlite3'}")
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    return url


def redis_client():
    """Return a client, or None without REDIS_URL. The timeouts keep requests from hanging."""
    if not os.environ.get("REDIS_URL"):
        return None
    from redis import Redis  # noqa: PLC0415 - needed only where there is a Redis

    return Redis.from_url(os.environ["REDIS_URL"], socket_connect_timeout=2, socket_timeout=2)


engine = create_engine(database_url())
redis = redis_client()


def app(environ, start_response):
    """Serve ``/``, the list of guests; ``/?name=Ada`` adds a guest first."""
    if environ["PATH_INFO"] != "/":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"There is only one page: /\n"]
    name = parse_qs(environ["QUERY_STRING"]).get("name", [""])[0]
    if name:
        sign(name)
        environ["dockerflow.summary"]["uid"] = name
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [page().encode()]


def sign(name):
    """Add a guest to the book."""
    visit = {"name": name[:80], "visited": datetime.now(timezone.utc).replace(tzinfo=None)}
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO guests (name, visited) VALUES (:name, :visited)"), visit
        )


def page():
    """Render the list of guests."""
    with engine.connect() as connection:
        guests = connection.scalars(text("SELECT name FROM guests ORDER BY id")).all()
    visits = f"<p>Visits: {redis.incr('visits')}</p>" if redis else ""
    items = "".join(f"<li>{escape(guest)}</li>" for guest in guests) or "<li>nobody yet</li>"
    return f"<!doctype html><title>Guests</title><h1>Guests</h1><ul>{items}</ul>{visits}\n"


wrapped_app = dockerflow = DockerflowMiddleware(
    app,
    db=engine,
    redis=redis,
    migrate=Config(str(HERE / "alembic.ini")),
    version_path=HERE,
)


@dockerflow.check
def disk_has_space():
    """Warn below 100 MB of free disk space."""
    free_mb = shutil.disk_usage(HERE).free // 1_000_000
    if free_mb < 100:
        return [checks.Warning(f"Only {free_mb} MB of disk space are free", id="quickstart.W001")]
    return []
