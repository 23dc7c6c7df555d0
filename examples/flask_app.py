"""A Flask application factory that complies with Dockerflow.

    pip install '.[all]' gunicorn flask-sqlalchemy flask-migrate
    flask --app examples.flask_app db upgrade
    gunicorn 'examples.flask_app:create_app()'

The notes are stored in SQLite in this directory. The environment variable DATABASE_URL names
another database, REDIS_URL a Redis that counts the visits, and SENTRY_DSN a Sentry project, which
needs  pip install sentry-sdk.
"""

import logging
import os
from pathlib import Path

from flask import Flask, g, request
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from dockerflow_wsgi.flask import Dockerflow, checks
from dockerflow_wsgi.logging import MozlogHandler

HERE = Path(__file__).parent

db = SQLAlchemy()
migrate = Migrate(db=db, directory=str(HERE / "flask_migrations"))


class Note(db.Model):
    """A note."""

    id = db.Column(db.Integer, primary_key=True)
    text = db.Column(db.String(200), nullable=False)


def redis_client():
    """Return a client, or None without REDIS_URL. The timeouts keep requests from hanging."""
    if not os.environ.get("REDIS_URL"):
        return None
    from redis import Redis  # noqa: PLC0415 - needed only where there is a Redis

    return Redis.from_url(os.environ["REDIS_URL"], socket_connect_timeout=2, socket_timeout=2)


def report_to_sentry():
    """Report each exception once, through Flask's integration, and ignore the summary."""
    import sentry_sdk  # noqa: PLC0415 - needed only with SENTRY_DSN
    from sentry_sdk.integrations.logging import ignore_logger  # noqa: PLC0415

    sentry_sdk.init(os.environ["SENTRY_DSN"])
    ignore_logger("request.summary")


def create_app():
    """Make the app."""
    logging.basicConfig(handlers=[MozlogHandler(name="notes")], level=logging.INFO)
    if os.environ.get("SENTRY_DSN"):
        report_to_sentry()
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url()
    db.init_app(app)
    migrate.init_app(app)
    redis = redis_client()
    dockerflow = Dockerflow(app, db=db, redis=redis, migrate=migrate, version_path=HERE)

    @dockerflow.check
    def notes_fit():
        """Warn when there are too many notes; runs in the app's context."""
        if db.session.query(Note).count() > 1000:
            return [checks.Warning("More than 1,000 notes", id="notes.W001")]
        return []

    @app.route("/", methods=["GET", "POST"])
    def notes():
        if request.method == "POST":
            db.session.add(Note(text=request.form["text"]))
            db.session.commit()
        visits = redis.incr("notes") if redis else None
        texts = db.session.scalars(db.select(Note.text).order_by(Note.id)).all()
        return {"notes": texts, "request_id": g.request_id, "visits": visits}

    return app


def database_url():
    """Return the URL of the database, with the installed driver for PostgreSQL."""
    url = os.environ.get("DATABASE_URL") or f"sqlite:///{HERE / 'notes.sqlite3'}"
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
