"""An app that is imported: each step, with its reason and its remedy."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from logging.handlers import QueueHandler
from queue import Queue

import pytest
from waiting import TIMEOUT_S
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from wsgi import hello

from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.doctor import app_steps
from dockerflow_wsgi.doctor.app_steps import check_summary, record_logs
from dockerflow_wsgi.doctor.diagnosis import run_step
from dockerflow_wsgi.doctor.services import CheckSteps
from dockerflow_wsgi.find_middleware import find_middleware
from dockerflow_wsgi.logging import MozlogFormatter, MozlogHandler

ENDPOINTS = ["endpoint_version", "endpoint_heartbeat", "endpoint_lbheartbeat"]


def look_at(name, app, middleware=None, timeout_s=TIMEOUT_S):
    """Run a step of an app, and return its result."""
    middleware = middleware or find_middleware(app, DockerflowMiddleware)
    with record_logs() as logs:
        return run_step(app_steps.steps_of(app, middleware, "", logs)[name], timeout_s)


def answers(status, content_type, body, **headers):
    """Make an app that gives every request the same answer."""

    def app(_environ, start_response):
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        start_response(status, [("Content-Type", content_type), *named])
        return [body]

    return app


OTHERS = [
    answers("302 Found", "text/html", b"", Location="/login"),
    answers("200 OK", "application/json", b"{}"),
    answers("200 OK", "text/html", b"<h1>Hello</h1>"),
    answers("404 Not Found", "text/plain", b""),
]


def look_for_version(directory, content=None, **options):
    """Return the result of the step `version_json` for a file with a content."""
    if content is not None:
        (directory / "version.json").write_text(content)
    return app_steps.check_version(DockerflowMiddleware(hello, version_path=directory, **options))


FULL = {"source": "https://x.test", "version": "", "commit": "abc", "build": "42"}


class SummaryLogger:
    """The logger of the summaries without pytest's own handlers."""

    def __init__(self, logger):
        self.logger = logger

    def have(self, *handlers):
        """Set the handlers."""
        self.logger.handlers[:] = handlers


@pytest.fixture
def summary_logger():
    """Return the logger of the summaries, and restore it after the test."""
    logger = logging.getLogger("request.summary")
    before = logger.level, logger.propagate, logger.handlers[:]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield SummaryLogger(logger)
    logger.propagate, logger.handlers[:] = before[1:]
    logger.setLevel(before[0])
    logger.disabled = False
    logging.disable(logging.NOTSET)


def look_for_summary(app=None):
    """Return the result of the step `summary`."""
    with record_logs() as logs:
        return check_summary(app or DockerflowMiddleware(hello), logs)


def text_handler():
    """Make a handler that writes text."""
    return logging.StreamHandler(sys.stdout)


def json_handler():
    """Make a handler that writes JSON, but not mozlog."""
    handler = text_handler()
    handler.setFormatter(logging.Formatter('{"message": "%(message)s"}'))
    return handler


def elsewhere():
    """Make a handler that writes mozlog to a file."""
    handler = logging.FileHandler("summaries.log", delay=True)
    handler.setFormatter(MozlogFormatter())
    return handler


def high():
    """Make a handler above INFO."""
    handler = MozlogHandler()
    handler.setLevel(logging.WARNING)
    return handler


ENVELOPE = {"Timestamp": 10**18 + 1, "Type": "request.summary", "EnvVersion": "2.0"}
FIELDS = {"errno": 0, "agent": "", "lang": "", "method": "GET", "path": "/", "code": 200}
FIELDS |= {"rid": "x", "t": 1, "uid": ""}


def look_at_check(function, timeout_s=TIMEOUT_S, **settings):
    """Run the step of a check, and return its result."""
    app = DockerflowMiddleware(hello, **settings)
    app.check(function, name="storage")
    with record_logs():
        (result,) = CheckSteps(app, timeout_s, ()).results()
    assert result.name == "check:storage"
    return result


def raises():
    """Be a check that raises."""
    raise ValueError("no disk")


class TestEndpoints:
    """The endpoint steps compare the app's answers with the middleware's."""

    @pytest.mark.parametrize("check", ENDPOINTS)
    def test_the_middleware_answers(self, check, version_directory):
        """The answer of the middleware passes, behind other wrappers too."""
        app = DockerflowMiddleware(hello, version_path=version_directory)
        app.check(lambda: [], name="fine")
        assert look_at(check, ProxyFix(app)).status == "ok"

    @pytest.mark.parametrize("check", ENDPOINTS)
    @pytest.mark.parametrize("other", OTHERS)
    def test_another_app_answers(self, check, other, version_directory):
        """An app that answers at the root fails, where the middleware is mounted below a path."""
        middleware = DockerflowMiddleware(hello, version_path=version_directory)
        finding = look_at(check, DispatcherMiddleware(other, {"/api": middleware}), middleware)
        assert finding.status == "error"
        assert finding.message.startswith("another layer answers ")
        assert "outermost" in finding.remedy

    def test_a_layer_that_answers_every_get(self, version_directory):
        """An outer layer that answers only GET is found."""
        middleware = DockerflowMiddleware(hello, version_path=version_directory)

        def page_for_each_get(environ, start_response):
            is_get = environ["REQUEST_METHOD"] == "GET"
            return (OTHERS[0] if is_get else middleware)(environ, start_response)

        for check in ("endpoint_version", "endpoint_lbheartbeat"):
            assert look_at(check, page_for_each_get, middleware).status == "error"

    def test_a_redirect(self, version_directory):
        """The message has the location of a redirect, such as a login."""
        middleware = DockerflowMiddleware(hello, version_path=version_directory)
        app = DispatcherMiddleware(OTHERS[0], {"/api": middleware})
        assert "302 Found to /login" in look_at("endpoint_lbheartbeat", app, middleware).message

    def test_another_405(self):
        """A 405 of another app is not the middleware's."""
        other = answers("405 Method Not Allowed", "application/json", b"")
        finding = look_at("endpoint_lbheartbeat", other, DockerflowMiddleware(hello))
        assert finding.status == "error"
        assert "another layer answers GET /__lbheartbeat__: 405" in finding.message

    @pytest.mark.parametrize("check", ENDPOINTS)
    def test_an_app_that_raises(self, check):
        """The message has the line of the app and the exception."""
        middleware = DockerflowMiddleware(hello)

        def app(_environ, _start_response):
            raise SystemExit("gone")

        finding = look_at(check, app, middleware)
        assert finding.status == "error"
        assert "test_app.py:" in finding.message
        assert "SystemExit: gone" in finding.message

    def test_an_app_that_hangs(self):
        """The step fails after its limit, and the message has the line."""
        release = threading.Event()

        def app(_environ, _start_response):
            release.wait(TIMEOUT_S)

        finding = look_at("endpoint_lbheartbeat", app, DockerflowMiddleware(hello), timeout_s=0.3)
        release.set()
        assert finding.message.startswith("not done after 0.3 s; it was at ")
        assert "release.wait(TIMEOUT_S)" in finding.message


class TestVersionJson:
    """The step `version_json` looks at the version object."""

    @pytest.mark.parametrize(
        ("content", "status", "reason"),
        [
            (json.dumps(FULL), "ok", "commit abc"),
            (None, "error", "file not found: "),
            ("{", "error", "is not JSON"),
            ("[]", "error", "is a JSON list"),
            (json.dumps({**FULL, "build": ""}), "ok", "commit abc"),
            ('{"version": "1", "commit": "2"}', "error", "has no source and no build"),
            (
                json.dumps({**FULL, "commit": "$CIRCLE_SHA1"}),
                "error",
                "has commit '$CIRCLE_SHA1'",
            ),
            (json.dumps({**FULL, "build": "${{ github.run_id }}"}), "error", "nothing replaced"),
            (json.dumps({**FULL, "version": "{{ version }}"}), "error", "nothing replaced"),
            (json.dumps({**FULL, "source": "%SOURCE%"}), "error", "nothing replaced"),
            (json.dumps({**FULL, "source": "https://x.test/a%20b@c"}), "ok", "commit abc"),
        ],
    )
    def test_a_file(self, tmp_path, content, status, reason):
        """Each fault of the file has its reason, with the full path, and a remedy."""
        finding = look_for_version(tmp_path, content)
        assert finding.status == status
        assert reason in finding.message
        assert str(tmp_path / "version.json") in finding.message
        assert bool(finding.remedy) == (status != "ok")

    def test_a_missing_first_directory(self, version_directory, monkeypatch):
        """A file in the second of the default directories passes."""
        monkeypatch.chdir(version_directory)
        assert app_steps.check_version(DockerflowMiddleware(hello)).status == "ok"

    def test_a_callback(self):
        """A version callback is called instead of reading the file."""
        app = DockerflowMiddleware(hello, version_path="/nowhere")
        app.version_callback(lambda _root: FULL)
        assert app_steps.check_version(app).status == "ok"
        app.version_callback(lambda _root: {"version": "1.2.0"})
        assert app_steps.check_version(app).status == "error"
        app.version_callback(lambda _root: None)
        assert "returned None" in app_steps.check_version(app).message
        app.version_callback(lambda _root: 1 / 0)
        assert "raised ZeroDivisionError" in app_steps.check_version(app).message


class TestPortAndUser:
    """The steps `port` and `user` look at the process."""

    @pytest.mark.parametrize(
        ("port", "status"),
        [
            (None, "ok"),
            ("8000", "ok"),
            ("65535", "ok"),
            ("0", "error"),
            (" 80 ", "ok"),
            ("65536", "error"),
            ("9" * 5000, "error"),
            ("80x", "error"),
            ("", "error"),
            ("-1", "error"),
            ("\u0661", "error"),
        ],
    )
    def test_the_port(self, monkeypatch, port, status):
        """The port is a number from 1 to 65535; the variable may be unset."""
        monkeypatch.delenv("PORT", raising=False)
        if port is not None:
            monkeypatch.setenv("PORT", port)
        assert app_steps.check_port().status == status

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_the_user(self, monkeypatch):
        """Every user except 10001 is a warning, but only in a container."""
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        assert app_steps.check_user().status == "warning"
        os.setegid(10001)
        os.seteuid(10001)
        try:
            as_app = app_steps.check_user()
        finally:
            os.seteuid(0)
            os.setegid(0)
        assert as_app.status == "ok"
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
        monkeypatch.setattr(app_steps, "CONTAINER_FILES", ())
        assert app_steps.check_user().status == "ok"


class TestSummary:
    """The step `summary` follows a summary to the handlers."""

    def test_mozlog_on_stdout(self, summary_logger, capsys):
        """A summary in mozlog passes, and is not written to the app's log."""
        summary_logger.have(MozlogHandler())
        finding = look_for_summary()
        assert finding.status == "ok"
        assert json.loads(finding.details["line"])["Fields"]["code"] == 405
        assert capsys.readouterr().out == ""
        assert summary_logger.logger.filters == []

    def test_two_handlers(self, summary_logger, tmp_path):
        """One right handler is enough."""
        handler = logging.FileHandler(tmp_path / "log")
        summary_logger.have(handler, MozlogHandler())
        assert look_for_summary().status == "ok"
        handler.close()

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (text_handler, "is not mozlog"),
            (json_handler, 'is not mozlog: {"message": ""}'),
            (elsewhere, "writes the summaries to the file "),
            (high, "drops INFO, such as <MozlogHandler "),
        ],
    )
    def test_a_wrong_handler(self, summary_logger, make, reason):
        """Each fault of a handler has its reason and a remedy."""
        summary_logger.have(make())
        finding = look_for_summary()
        assert finding.status == "error"
        assert reason in finding.message
        assert finding.remedy

    def test_a_queue(self, summary_logger):
        """A queue is a warning, because its listener is not examined."""
        summary_logger.have(QueueHandler(Queue()))
        assert look_for_summary().status == "warning"

    def test_propagate(self, summary_logger):
        """The message names `propagate` if it keeps the records from the root logger."""
        summary_logger.have()
        finding = look_for_summary()
        assert "its propagate is False" in finding.message
        summary_logger.logger.propagate = True
        summary_logger.logger.parent, root = None, summary_logger.logger.parent
        finding = look_for_summary()
        summary_logger.logger.parent = root
        assert finding.message == "the logger request.summary has no handler"

    def test_a_wrong_logger(self, summary_logger):
        """A logger without a handler, above INFO or disabled fails with that reason."""
        app = DockerflowMiddleware(hello)
        summary_logger.have()
        assert "has no handler" in look_for_summary().message
        summary_logger.have(MozlogHandler())
        summary_logger.logger.setLevel(logging.WARNING)
        assert "drops INFO; its level is WARNING" in look_for_summary().message
        summary_logger.logger.setLevel(logging.INFO)
        logging.disable(logging.INFO)
        assert "logging.disable()" in look_for_summary().remedy
        logging.disable(logging.NOTSET)
        summary_logger.logger.disabled = True
        finding = look_for_summary(app)
        assert "is disabled" in finding.message
        assert "disable_existing_loggers" in finding.remedy

    def test_a_removed_field(self, summary_logger):
        """A field that `summary_extra` removes is not missing."""
        summary_logger.have(MozlogHandler())
        app = DockerflowMiddleware(hello, summary_extra=lambda _environ: {"lang": None})
        finding = look_for_summary(app)
        assert finding.status == "ok"
        assert "lang" not in json.loads(finding.details["line"])["Fields"]

    def test_no_summary(self, summary_logger):
        """A request that does not reach the middleware fails."""
        summary_logger.have(MozlogHandler())
        finding = look_for_summary(hello)
        assert "left no summary" in finding.message

    @pytest.mark.parametrize(
        ("line", "is_right"),
        [
            (json.dumps({**ENVELOPE, "Fields": FIELDS}), True),
            (json.dumps({**ENVELOPE, "Fields": {"errno": 0}}), True),
            (json.dumps({**ENVELOPE, "Fields": FIELDS}, indent=1), False),
            ("[]", False),
            (json.dumps({"Fields": FIELDS}), False),
            (json.dumps({**ENVELOPE, "Fields": FIELDS, "Timestamp": 10**9}), False),
            (json.dumps({**ENVELOPE, "Fields": FIELDS, "Timestamp": "now"}), False),
            (json.dumps({**ENVELOPE, "Fields": FIELDS, "Type": "x"}), False),
            (json.dumps(ENVELOPE), False),
        ],
    )
    def test_mozlog_is_recognized(self, line, is_right):
        """A line has a timestamp in nanoseconds, the type of a summary and fields, in one line."""
        assert app_steps.is_mozlog(line) == is_right

    @pytest.mark.parametrize(
        ("path", "status"), [("/dev/stdout", "ok"), ("summaries.log", "error")]
    )
    def test_files(self, summary_logger, tmp_path, path, status):
        """A file fails, unless its path is that of a stream of the process."""
        handler = logging.FileHandler(tmp_path / path, delay=True)
        handler.setFormatter(MozlogFormatter())
        summary_logger.have(handler)
        assert look_for_summary().status == status


class TestChecks:
    """Each check is a step."""

    @pytest.mark.parametrize(
        ("check", "settings", "status"),
        [
            (lambda: [], {}, "ok"),
            (lambda: checks.Info("by the way"), {}, "ok"),
            (lambda: checks.Info("cannot ask", id="dockerflow.health.I001"), {}, "skipped"),
            (lambda: checks.Warning("low"), {}, "error"),
            (lambda: checks.Warning("low"), {"heartbeat_failed_level": "error"}, "warning"),
            (lambda: checks.Info("low"), {"heartbeat_failed_level": "info"}, "error"),
            (lambda: checks.Warning("low"), {"silenced_checks": ["storage"]}, "ok"),
            (raises, {}, "error"),
            (lambda: "junk", {}, "error"),
        ],
    )
    def test_the_status(self, check, settings, status):
        """The status follows the check's level and the settings of the middleware."""
        assert look_at_check(check, **settings).status == status

    def test_a_hint(self):
        """The hint of a message is the remedy."""
        finding = look_at_check(lambda: checks.Error("down", hint="Start it.", id="a.E1"))
        assert (finding.message, finding.remedy) == ("a.E1: down", "Start it.")

    def test_a_check_that_raises(self):
        """The message has the line of the check."""
        finding = look_at_check(raises)
        assert "test_app.py:" in finding.message
        assert "ValueError: no disk" in finding.message

    def test_a_check_that_hangs(self):
        """The message has the line where the check hangs."""
        release = threading.Event()
        finding = look_at_check(lambda: release.wait(TIMEOUT_S), check_timeout=0.2)
        release.set()
        assert finding.status == "error"
        assert "not done after 0.2 s; it was at " in finding.message
        assert "release.wait(TIMEOUT_S)" in finding.message

    def test_an_async_check_that_hangs(self):
        """The message has the line of the coroutine, not the event loop's."""
        release = []

        async def inner():
            await asyncio.sleep(TIMEOUT_S)

        async def outer():
            release.append(asyncio.get_running_loop())
            release.append(asyncio.current_task())
            await inner()

        finding = look_at_check(outer, check_timeout=0.3)
        release[0].call_soon_threadsafe(release[1].cancel)
        assert "in inner: await asyncio.sleep(TIMEOUT_S)" in finding.message

    @pytest.mark.parametrize("check_timeout", [None, 500])
    def test_a_check_without_a_deadline(self, check_timeout):
        """The limit of the command applies where the check's own is longer, or missing."""
        release = threading.Event()
        finding = look_at_check(lambda: release.wait(TIMEOUT_S), 0.2, check_timeout=check_timeout)
        release.set()
        assert "not done after 0.2 s" in finding.message

    def test_nothing_is_logged(self, listen):
        """The message of a failing check is in its step, and not in the app's log."""
        log = listen("dockerflow_wsgi.checks")
        app = DockerflowMiddleware(hello)
        app.check(lambda: checks.Error("down"), name="storage")
        with record_logs():
            (result,) = CheckSteps(app, TIMEOUT_S, ()).results()
        assert result.status == "error"
        assert len(log) == 0

    def test_no_hook_is_called(self):
        """A check runs once, and `on_heartbeat` is not called."""
        reports, runs = [], []
        app = DockerflowMiddleware(hello, on_heartbeat=reports.append)
        app.check(lambda: runs.append(1), name="storage")
        assert look_at("endpoint_heartbeat", app).status == "ok"
        with record_logs():
            assert [result.status for result in CheckSteps(app, TIMEOUT_S, ()).results()] == ["ok"]
        assert (reports, runs) == ([], [1])


class TestRunStep:
    """A step never raises."""

    def test_a_step_that_raises(self):
        """An exception is a failure; its credentials are redacted."""
        found = run_step(lambda: {}["redis://:s3cr3t@h"], TIMEOUT_S)
        assert found.status == "error"
        assert "KeyError: 'redis://:***@h'" in found.to_dict()["message"]
