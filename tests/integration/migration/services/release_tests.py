"""The set-up of release services: a shared back end with one module per extension."""

import json
import logging

import pytest
from dockerflow.flask import Dockerflow, checks
from flask import Flask, current_app


class Backend:
    """Makes apps from extensions, each with an ``init_app(app)`` that returns what views use."""

    def __init__(self, version_path):
        self.version_path = version_path

    def init_dockerflow(self, app):
        """Add the extension, with the version of the service, and log only its errors."""
        dockerflow = Dockerflow(version_path=self.version_path)
        dockerflow.logger.setLevel(logging.ERROR)
        dockerflow.init_app(app)
        dockerflow.check(self.check_configuration, name="configuration")
        return dockerflow

    def check_configuration(self):
        """Check the configuration of the current app."""
        if "RELEASE_QUEUE" not in current_app.config:
            return [checks.Error("RELEASE_QUEUE is missing", id="release.E001")]
        return []

    def create_app(self, **config):
        """Make an app."""
        app = Flask("release")
        app.config.update(config)
        app.releases = self.init_dockerflow(app)
        app.add_url_rule("/ship", "ship", lambda: "shipped", methods=["POST"])
        return app


@pytest.fixture
def backend(tmp_path):
    """Make a back end with a version file."""
    (tmp_path / "version.json").write_text('{"commit": "abc"}')
    return Backend(str(tmp_path))


def test_version(backend):
    """The version is that of the shared directory."""
    assert backend.create_app().test_client().get("/__version__").json == {"commit": "abc"}


def test_extension_is_kept(backend):
    """The app has the extension in ``extensions``."""
    app = backend.create_app()
    assert app.extensions["dockerflow"] is app.releases


def test_check_sees_the_configuration(backend):
    """The check sees the configuration of its app."""
    good = backend.create_app(RELEASE_QUEUE="q").test_client().get("/__heartbeat__")
    assert (good.status_code, good.json["checks"]["configuration"]) == (200, "ok")
    bad = backend.create_app().test_client().get("/__heartbeat__")
    assert bad.status_code == 500
    assert "release.E001" in json.dumps(bad.json)


def test_posts_have_a_summary(backend, caplog):
    """The summary of a POST has the method and the path."""
    caplog.set_level(logging.INFO, "request.summary")
    assert backend.create_app().test_client().post("/ship", data={"a": 1}).text == "shipped"
    assert [(record.method, record.path) for record in caplog.records] == [("POST", "/ship")]
