"""The tests of the service."""

import json
import logging

import pytest
from dockerflow.flask.signals import heartbeat_failed, heartbeat_passed
from flask import g, url_for
from flask_migrate import init, upgrade
from todo_service import User, create_app, db


@pytest.fixture
def make_app(tmp_path, caplog):
    """Return a function that makes an app with a database."""
    caplog.set_level(logging.INFO, "request.summary")

    def make(**config):
        app = create_app(tmp_path, **config)
        with app.app_context():
            init()
            if "SQLALCHEMY_DATABASE_URI" not in config:
                db.create_all()
                db.session.add(User(id=1))
                db.session.commit()
        return app

    return make


@pytest.fixture
def client(make_app):
    """Make a test client."""
    return make_app().test_client()


def summaries(caplog):
    """Return the summaries that were logged."""
    return [record for record in caplog.records if record.name == "request.summary"]


def messages(response, check):
    """Return the messages of a check."""
    return response.json["details"][check]["messages"]


class TestVersion:
    """``/__version__`` returns the version file or the callback's result."""

    def test_version(self, client, tmp_path):
        """The version file is served."""
        (tmp_path / "version.json").write_text(json.dumps({"version": "1.2"}))
        response = client.get("/__version__")
        assert (response.status_code, response.json) == (200, {"version": "1.2"})

    def test_version_is_missing(self, client):
        """Without a version file, the response is a 404."""
        assert client.get("/__version__").status_code == 404

    def test_version_callback(self, make_app):
        """A version callback gets the directory."""
        app = make_app()
        app.extensions["dockerflow"].version_callback(lambda root: {"root": root})
        assert app.test_client().get("/__version__").json["root"]


class TestHeartbeat:
    """The heartbeat runs the built-in checks and those of the service."""

    def test_lbheartbeat(self, client):
        """The response for load balancers is empty."""
        response = client.get("/__lbheartbeat__")
        assert (response.status_code, response.data) == (200, b"")

    def test_heartbeat(self, client):
        """All checks pass."""
        response = client.get("/__heartbeat__")
        assert response.status_code == 200
        assert response.json["status"] in {"ok", "info"}
        assert response.json["checks"]["check_database_connected"] == "ok"
        assert response.json["checks"]["check_redis_connected"] == "ok"
        assert response.json["checks"]["disk_has_space"] == "ok"

    def test_heartbeat_without_redis(self, make_app):
        """A Redis that is down fails the heartbeat."""
        response = make_app(REDIS_URL="redis://127.0.0.1:1").test_client().get("/__heartbeat__")
        assert response.status_code == 500
        assert list(messages(response, "check_redis_connected")) == ["dockerflow.health.E004"]

    def test_heartbeat_without_database(self, make_app):
        """A database that is missing fails the heartbeat."""
        app = make_app(SQLALCHEMY_DATABASE_URI="sqlite:////nowhere/todo.sqlite")
        response = app.test_client().get("/__heartbeat__")
        assert response.status_code == 500
        assert list(messages(response, "check_database_connected")) == ["dockerflow.health.E008"]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_heartbeat_with_unapplied_migrations(self, make_app, tmp_path, monkeypatch):
        """Unapplied migrations are a warning until they are applied."""
        monkeypatch.setattr("logging.config.fileConfig", print)  # env.py would disable all loggers
        app = make_app()
        script = 'revision = "aaaa"\ndown_revision = None\ndef upgrade(): pass\n'
        (tmp_path / "migrations" / "versions" / "aaaa.py").write_text(script)
        response = app.test_client().get("/__heartbeat__")
        assert response.json["checks"]["check_migrations_applied"] == "warning"
        assert list(messages(response, "check_migrations_applied")) == ["dockerflow.health.W001"]
        with app.app_context():
            upgrade()
        response = app.test_client().get("/__heartbeat__")
        assert response.json["checks"]["check_migrations_applied"] == "ok"

    def test_heartbeat_with_a_failing_check(self, make_app):
        """An error of the service's check fails the heartbeat."""
        app = make_app(TODO_PROBLEMS=[("Error", "disk is full", "todo.E001")])
        response = app.test_client().get("/__heartbeat__")
        assert (response.status_code, response.json["status"]) == (500, "error")
        assert messages(response, "disk_has_space") == {"todo.E001": "disk is full"}

    def test_silenced_check(self, make_app):
        """A silenced message does not fail the heartbeat."""
        app = make_app(TODO_PROBLEMS=[("Error", "disk is slow", "todo.W001")])
        assert app.test_client().get("/__heartbeat__").status_code == 200

    def test_failed_status_code(self, make_app):
        """The status of a failed heartbeat can be configured."""
        app = make_app(
            TODO_PROBLEMS=[("Critical", "disk is gone", "todo.C001")],
            DOCKERFLOW_HEARTBEAT_FAILED_STATUS_CODE="503",
        )
        assert app.test_client().get("/__heartbeat__").status_code == 503

    def test_signal_passed(self, client):
        """A receiver counts heartbeats that pass."""
        levels = []

        def receiver(sender, level):
            levels.append(level)

        with heartbeat_passed.connected_to(receiver):
            client.get("/__heartbeat__")
        assert len(levels) == 1

    def test_signal_failed(self, make_app):
        """A receiver counts heartbeats that fail."""
        levels = []

        def receiver(sender, level, **extra):
            levels.append(level)

        app = make_app(TODO_PROBLEMS=[("Error", "disk is full", "todo.E001")])
        with heartbeat_failed.connected_to(receiver):
            app.test_client().get("/__heartbeat__")
        assert levels == [40]


class TestNames:
    """Request IDs, endpoints and the extension are found under their names."""

    def test_urls(self, make_app):
        """The endpoints have names for ``url_for``."""
        app = make_app()
        with app.test_request_context():
            assert url_for("dockerflow.heartbeat") == "/__heartbeat__"
            assert url_for("dockerflow.lbheartbeat") == "/__lbheartbeat__"
        assert "dockerflow.version" in app.view_functions

    def test_request_id(self, client, caplog):
        """The ID of the request is in ``g`` and in the summary."""
        with client:
            response = client.get("/", headers={"X-Request-ID": "r-1"})
            assert response.text == g.request_id == g._request_id == "r-1"
        assert summaries(caplog)[0].rid == "r-1"

    def test_request_id_is_new_each_time(self, client):
        """Without a header, each request has a new ID."""
        assert client.get("/").text != client.get("/").text

    def test_extension(self, make_app):
        """The extension can be found through the app."""
        extension = make_app().extensions["dockerflow"]
        assert type(extension).__name__ == "TodoDockerflow"
        assert extension.summary_logger.name == "request.summary"
        assert extension.logger.level == logging.ERROR


class TestSummary:
    """Each request has a summary."""

    def test_summary(self, client, caplog):
        """A page has one summary."""
        client.get("/", headers={"Accept-Language": "de"})
        (summary,) = summaries(caplog)
        assert (summary.levelname, summary.method, summary.path) == ("INFO", "GET", "/")
        assert (summary.errno, summary.lang, summary.uid) == (0, "de", "")
        assert isinstance(summary.t, int)

    def test_summary_is_redacted(self, client, caplog):
        """Tokens and user agents are not logged."""
        client.get("/reset/SECRET")
        (summary,) = summaries(caplog)
        assert summary.path == "/reset/..."
        assert summary.rid_again == summary.rid
        assert not hasattr(summary, "agent")
        assert "SECRET" not in str(vars(summary))

    def test_summary_of_an_exception(self, client, caplog):
        """The summary of an exception is an error with its text."""
        assert client.get("/broken").status_code == 500
        (summary,) = summaries(caplog)
        assert (summary.levelname, summary.errno) == ("ERROR", 500)
        assert summary.getMessage() == "todo list is broken"

    def test_summary_has_the_user(self, client, caplog):
        """The summary of a page has the user."""
        client.get("/login")
        assert client.get("/me").text == "1"
        assert [summary.uid for summary in summaries(caplog)] == ["1", "1"]

    def test_summary_without_a_login(self, client, caplog):
        """Without a login, the user is empty."""
        assert client.get("/me").status_code == 401
        assert [summary.uid for summary in summaries(caplog)] == [""]

    def test_summary_has_the_query_string(self, make_app, caplog):
        """The query string is logged if the setting is on."""
        app = make_app(DOCKERFLOW_SUMMARY_LOG_QUERYSTRING=True)
        app.test_client().get("/?page=2")
        assert summaries(caplog)[0].querystring == "page=2"
