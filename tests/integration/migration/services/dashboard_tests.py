"""The set-up of a dashboard: an entry point adds the extension to an app with a catch-all route."""

import logging
import os

import pytest
import redis
from dockerflow.flask import Dockerflow
from flask import Flask, redirect
from flask_login import LoginManager, UserMixin, current_user
from flask_migrate import Migrate, init
from flask_sqlalchemy import SQLAlchemy
from werkzeug.middleware.proxy_fix import ProxyFix

db = SQLAlchemy()
migrate = Migrate()
redis_connection = redis.from_url(os.environ["REDIS_URL"])
login_manager = LoginManager()


@login_manager.request_loader
def load_user(request):
    """Load the user of an API key."""
    if request.args.get("api_key") != "k":
        return None
    user = UserMixin()
    user.id = 3
    return user


def add_dockerflow(app):
    """Add the extension, like an entry point that is loaded at the end."""
    Dockerflow(app, db=db, migrate=migrate, redis=redis_connection)


def create_app(directory):
    """Make the app."""
    app = Flask("dashboard")
    app.secret_key = "not secret"
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db.init_app(app)
    migrate.init_app(app, db, directory=str(directory / "migrations"))
    login_manager.init_app(app)
    app.add_url_rule("/session", "session", lambda: {"id": current_user.get_id()})
    app.add_url_rule("/old", "old", lambda: redirect("/session"))
    app.add_url_rule("/<path:path>", "index", lambda path: f"page {path}")
    add_dockerflow(app)
    return app


@pytest.fixture
def client(caplog, tmp_path):
    """Make a client."""
    caplog.set_level(logging.INFO, "request.summary")
    app = create_app(tmp_path)
    with app.app_context():
        init()
    return app.test_client()


def test_heartbeat_checks_the_services(client):
    """The heartbeat checks the database and Redis."""
    shown = client.get("/__heartbeat__").json["checks"]
    assert (shown["check_database_connected"], shown["check_redis_connected"]) == ("ok", "ok")


def test_the_catch_all_route_keeps_other_pages(client):
    """The single-page app gets every other path."""
    assert client.get("/dashboards/1").text == "page dashboards/1"
    assert client.get("/__lbheartbeat__").data == b""


def test_the_user_of_the_key_is_logged(client, caplog):
    """The API's user is in the summary."""
    assert client.get("/session?api_key=k").json == {"id": "3"}
    assert str(caplog.records[-1].uid) == "3"


def test_redirects_have_a_summary_each(client, caplog):
    """Each request of a client that follows redirects has a summary."""
    client.get("/old", follow_redirects=True)
    paths = [one.path for one in caplog.records if one.name == "request.summary"]
    assert paths == ["/old", "/session"]
