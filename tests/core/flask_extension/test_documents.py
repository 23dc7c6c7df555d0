"""The examples of the reference documents work when only the import root is changed."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from logging.config import dictConfig

import pytest
import sentry_sdk
from flask import Flask
from sentry_sdk.integrations.flask import FlaskIntegration
from whitenoise import WhiteNoise

from dockerflow_wsgi.flask import Dockerflow, checks


def get(app, path, **options):
    """Request a page, and read and close the response."""
    return app.test_client().get(path, buffered=True, **options)


def settings_of(app):
    """Return the settings that an app was initialized with."""
    return app.extensions["dockerflow"].get_middleware(app).settings


def test_the_extension_in_a_separate_module(tmp_path, monkeypatch):
    """An application factory can import the extension from a separate module."""
    package = tmp_path / "myproject"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deployment.py").write_text(
        "from dockerflow_wsgi.flask import Dockerflow\n\ndockerflow = Dockerflow()\n"
    )
    (package / "app.py").write_text(
        "from flask import Flask\n\n"
        "def create_app(config_filename):\n"
        "    app = Flask(__name__)\n"
        "    app.config.from_pyfile(config_filename)\n"
        "    from myproject.deployment import dockerflow\n"
        "    dockerflow.init_app(app)\n"
        "    return app\n"
    )
    config = tmp_path / "config.py"
    config.write_text('DOCKERFLOW_HEARTBEAT_FAILED_LEVEL = "critical"\n')
    (tmp_path / "version.json").write_text('{"version": "2017.11.0"}')
    monkeypatch.syspath_prepend(str(tmp_path))
    from myproject.app import create_app

    for app in (create_app(config), create_app(config)):
        assert get(app, "/__version__").json == {"version": "2017.11.0"}
        assert settings_of(app).heartbeat_failed_level == checks.CRITICAL
    for name in ("myproject", "myproject.app", "myproject.deployment"):
        del sys.modules[name]


def test_a_custom_check_with_messages_of_several_levels():
    """A check that catches a library's exceptions reports messages of several levels."""

    class SlowConnectionException(Exception):  # noqa: N818
        msg = "slow"

    class StorageException(Exception):  # noqa: N818
        msg = "gone"

    trouble = []
    app = Flask(__name__)
    dockerflow = Dockerflow(app)

    @dockerflow.check
    def storage_reachable():
        result = []
        try:
            for error in trouble:
                raise error
        except SlowConnectionException as exc:
            result.append(checks.Warning(exc.msg, id="acme.health.0002"))
        except StorageException as exc:
            result.append(checks.Error(exc.msg, id="acme.health.0001"))
        return result

    seen = []
    for trouble in ([], [SlowConnectionException()], [StorageException()]):  # noqa: B007
        response = get(app, "/__heartbeat__")
        seen.append((response.status_code, response.json["checks"]["storage_reachable"]))
    assert seen == [(200, "ok"), (500, "warning"), (500, "error")]


def test_signals_send_data_to_statsd():
    """The receivers send ``heartbeat.pass`` and ``heartbeat.fail`` to a real socket."""
    from dockerflow_wsgi.flask.signals import heartbeat_failed, heartbeat_passed

    app = Flask(__name__)
    dockerflow = Dockerflow(app)
    with (
        socket.socket(type=socket.SOCK_DGRAM) as statsd,
        socket.socket(type=socket.SOCK_DGRAM) as client,
    ):
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(10)

        def incr(name):
            client.sendto(f"{name}:1|c".encode(), statsd.getsockname())

        @heartbeat_passed.connect_via(app)
        def heartbeat_passed_handler(sender, level, **extra):
            incr("heartbeat.pass")

        @heartbeat_failed.connect_via(app)
        def heartbeat_failed_handler(sender, level, **extra):
            incr("heartbeat.fail")

        get(app, "/__heartbeat__")
        dockerflow.check(lambda: [checks.Warning("x")], name="a")
        get(app, "/__heartbeat__")
        assert [statsd.recv(100) for _ in range(2)] == [
            b"heartbeat.pass:1|c",
            b"heartbeat.fail:1|c",
        ]


def test_logging_is_configured_before_the_app(capsys):
    """A ``dictConfig`` before the app formats ``request.summary`` as mozlog."""
    logger = logging.getLogger("request.summary")
    handlers, level = logger.handlers[:], logger.level
    dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": "dockerflow_wsgi.logging.JsonLogFormatter",
                    "logger_name": "myproject",
                }
            },
            "handlers": {
                "console": {
                    "level": "DEBUG",
                    "class": "logging.StreamHandler",
                    "formatter": "json",
                },
            },
            "loggers": {"request.summary": {"handlers": ["console"], "level": "DEBUG"}},
        }
    )
    try:
        app = Flask(__name__)
        Dockerflow(app)
        get(app, "/__lbheartbeat__")
    finally:
        logger.handlers[:], logger.level = handlers, level
    assert re.fullmatch(r'\{"Timestamp": .*"Logger": "myproject".*\}\n', capsys.readouterr().err)


def configured(config):
    """Make an app from a configuration object."""
    app = Flask(__name__)
    app.config.from_object(config)
    Dockerflow(app)
    return settings_of(app)


def test_configuration_comes_from_os_environ(monkeypatch):
    """Settings can be text from ``os.environ``, with a default."""
    monkeypatch.setenv("FLASK_MY_TTL", "5")

    class Config:
        DOCKERFLOW_HEARTBEAT_TTL = os.environ.get("FLASK_MY_TTL", "0")
        DOCKERFLOW_SILENCED_CHECKS = os.environ.get("FLASK_MY_SILENCED", "")

    settings = configured(Config)
    assert settings.heartbeat_ttl == 5.0
    assert settings.silenced_checks == ()


def test_configuration_comes_from_python_decouple(monkeypatch):
    """Settings can come from python-decouple, which casts them."""
    from decouple import config

    monkeypatch.setenv("FLASK_QUERYSTRING", "yes")

    class Config:
        DOCKERFLOW_SUMMARY_LOG_QUERYSTRING = config("FLASK_QUERYSTRING", default=False, cast=bool)
        DOCKERFLOW_HEARTBEAT_FAILED_LEVEL = config("FLASK_LEVEL", default="error")

    settings = configured(Config)
    assert settings.summary_log_querystring is True
    assert settings.heartbeat_failed_level == checks.ERROR


def test_configuration_comes_from_flask_env(monkeypatch):
    """Settings can come from flask-env, whose metaclass reads variables with a prefix."""
    from flask_env import MetaFlaskEnv

    monkeypatch.setenv("ACME_DOCKERFLOW_TRUST_REQUEST_ID", "0")

    class Dev(metaclass=MetaFlaskEnv):
        ENV_PREFIX = "ACME_"
        DOCKERFLOW_TRUST_REQUEST_ID = True
        DOCKERFLOW_ECHO_REQUEST_ID = False

    settings = configured(Dev)
    assert settings.trust_request_id is False
    assert settings.echo_request_id is False


@pytest.mark.parametrize("order", ["inside", "outside"])
def test_whitenoise_serves_static_files_on_either_side(tmp_path, summaries, order):
    """WhiteNoise's files have summaries only if it is inside; probes are always answered."""
    (tmp_path / "logo.txt").write_text("logo")
    app = Flask(__name__)
    if order == "inside":
        app.wsgi_app = WhiteNoise(app.wsgi_app, root=str(tmp_path))
        Dockerflow(app)
    else:
        Dockerflow(app)
        app.wsgi_app = WhiteNoise(app.wsgi_app, root=str(tmp_path))
    assert get(app, "/logo.txt").text == "logo"
    assert get(app, "/__lbheartbeat__").status_code == 200
    assert get(app, "/none").status_code == 404
    paths = [record.path for record in summaries]
    assert paths == ["/logo.txt", "/__lbheartbeat__", "/none"][order == "outside" :]


def test_sentry_reports_the_exception_of_the_summary(summaries):
    """Sentry and the summary report an exception once each."""
    events = []
    sentry_sdk.init(
        "https://key@127.0.0.1/1",
        integrations=[FlaskIntegration()],
        auto_enabling_integrations=False,
        default_integrations=False,
        before_send=lambda event, _hint: events.append(event),
    )
    try:
        app = Flask(__name__)
        Dockerflow(app)
        app.add_url_rule("/raises", view_func=lambda: 1 / 0)
        assert get(app, "/raises").status_code == 500
    finally:
        sentry_sdk.get_global_scope().set_client(None)  # init() would enable every integration
    assert [record.getMessage() for record in summaries] == ["division by zero"]
    assert [event["exception"]["values"][0]["type"] for event in events] == ["ZeroDivisionError"]
