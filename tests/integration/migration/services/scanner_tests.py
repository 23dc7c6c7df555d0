"""The set-up of a dependency scanner: a subclass adds the query string."""

import io
import json
import logging
import logging.config

import pytest
from dockerflow.flask import Dockerflow
from flask import Blueprint, Flask, request
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()
lines = io.StringIO()
views = Blueprint("views", __name__)

logging.config.dictConfig({
    "version": 1,
    "formatters": {
        "json": {"()": "dockerflow.logging.JsonLogFormatter", "logger_name": "scanner"},
    },
    "handlers": {
        "lines": {"class": "logging.StreamHandler", "stream": lines, "formatter": "json"},
    },
    "loggers": {"request.summary": {"handlers": ["lines"], "level": "DEBUG"}},
})  # fmt: skip
logging.getLogger("werkzeug").setLevel(logging.ERROR)


class QueryDockerflow(Dockerflow):
    """Logs the query string in an additional field."""

    def summary_extra(self):
        """Add the field."""
        out = super().summary_extra()
        out["query_string"] = request.query_string.decode()
        return out


@views.route("/scans/<name>")
def scan(name):
    """Show a scan."""
    return {"scan": name}


def create_app(test_config=None):
    """Make the app; the configuration comes after the extension."""
    app = Flask("scanner")
    QueryDockerflow(app)
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://")
    app.config.update(test_config or {})
    db.init_app(app)
    app.register_blueprint(views)
    return app


@pytest.fixture
def client():
    """Make a client."""
    lines.seek(0)
    lines.truncate()
    return create_app({"TESTING": True}).test_client()


def test_scan_is_shown(client):
    """A page is served."""
    assert client.get("/scans/flask").json == {"scan": "flask"}


def test_summary_line(client):
    """A page logs one line of JSON with the query string."""
    client.get("/scans/flask?manifest=1")
    (line,) = lines.getvalue().splitlines()
    record = json.loads(line)
    assert (record["Logger"], record["Type"]) == ("scanner", "request.summary")
    assert record["Fields"]["query_string"] == "manifest=1"
    assert record["Fields"]["path"] == "/scans/flask"


def test_exceptions_reach_tests(client):
    """With ``TESTING``, exceptions reach the test, and the summary is logged."""
    client.application.add_url_rule("/raises", "raises", lambda: {}["gone"])
    with pytest.raises(KeyError):
        client.get("/raises")
    assert json.loads(lines.getvalue())["Fields"]["errno"] == 500


@pytest.mark.parametrize("path", ["/__heartbeat__", "/__lbheartbeat__"])
def test_endpoints(client, path):
    """The endpoints respond with 200."""
    assert client.get(path).status_code == 200
