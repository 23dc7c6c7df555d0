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
    """Run a step of an app, and keep its logs."""
    middleware = middleware or find_middleware(app, DockerflowMiddleware)
    with record_logs() as logs:
        return run_step(app_steps.steps_of(app, middleware, "", logs)[name], timeout_s)


@pytest.mark.parametrize("check", ENDPOINTS)
def test_the_middlewares_own_answer_is_right(check, version_directory):
    """Through other wrappers too."""
    app = DockerflowMiddleware(hello, version_path=version_directory)
    app.check(lambda: [], name="fine")
    assert look_at(check, ProxyFix(app)).status == "ok"


def answers(status, content_type, body, **headers):
    """Make an app that answers everything so."""

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


@pytest.mark.parametrize("check", ENDPOINTS)
@pytest.mark.parametrize("other", OTHERS)
def test_an_answer_of_another_app_is_found_out(check, other, version_directory):
    """The middleware is mounted below a path, and something else answers at the root."""
    middleware = DockerflowMiddleware(hello, version_path=version_directory)
    finding = look_at(check, DispatcherMiddleware(other, {"/api": middleware}), middleware)
    assert finding.status == "error"
    assert finding.message.startswith("something else answers TRACE /__")
    assert "outermost" in finding.remedy


def test_the_place_of_a_redirect_is_told(version_directory):
    """It says which login is in the way."""
    middleware = DockerflowMiddleware(hello, version_path=version_directory)
    app = DispatcherMiddleware(OTHERS[0], {"/api": middleware})
    assert "302 Found to /login" in look_at("endpoint_lbheartbeat", app, middleware).message


def test_an_answer_with_another_request_id_is_found_out():
    """Something else answers, though it looks alike."""
    other = answers("405 Method Not Allowed", "application/json", b"", X_Request_ID="mine")
    finding = look_at("endpoint_lbheartbeat", other, DockerflowMiddleware(hello))
    assert finding.status == "error"
    assert "something else answers" in finding.message


@pytest.mark.parametrize("check", ENDPOINTS)
def test_an_app_that_raises_is_told_with_its_line(check):
    """And the doctor goes on."""
    middleware = DockerflowMiddleware(hello)

    def app(_environ, _start_response):
        raise SystemExit("gone")

    finding = look_at(check, app, middleware)
    assert finding.status == "error"
    assert "test_app.py:" in finding.message
    assert "SystemExit: gone" in finding.message


def test_an_app_that_hangs_is_told_with_its_line():
    """In time."""
    release = threading.Event()

    def app(_environ, _start_response):
        release.wait(TIMEOUT_S)

    finding = look_at("endpoint_lbheartbeat", app, DockerflowMiddleware(hello), timeout_s=0.3)
    release.set()
    assert finding.message.startswith("not done after 0.3 s; it was at ")
    assert "release.wait(TIMEOUT_S)" in finding.message


def look_for_version(directory, content=None, **options):
    """Look at a version.json."""
    if content is not None:
        (directory / "version.json").write_text(content)
    return app_steps.check_version(DockerflowMiddleware(hello, version_path=directory, **options))


FULL = {"source": "https://x.test", "version": "", "commit": "abc", "build": "42"}


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
def test_each_fault_of_the_version_file_has_its_reason(tmp_path, content, status, reason):
    """With the file's full path, and a remedy."""
    finding = look_for_version(tmp_path, content)
    assert finding.status == status
    assert reason in finding.message
    assert str(tmp_path / "version.json") in finding.message
    assert bool(finding.remedy) == (status != "ok")


def test_an_unused_fallback_is_not_red(version_directory, monkeypatch):
    """By default /app is looked at first, and the current directory holds the file."""
    monkeypatch.chdir(version_directory)
    assert app_steps.check_version(DockerflowMiddleware(hello)).status == "ok"


def test_a_version_callback_is_asked():
    """In place of the file."""
    app = DockerflowMiddleware(hello, version_path="/nowhere")
    app.version_callback(lambda _root: FULL)
    assert app_steps.check_version(app).status == "ok"
    app.version_callback(lambda _root: {"version": "1.2.0"})
    assert app_steps.check_version(app).status == "error"
    app.version_callback(lambda _root: None)
    assert "returned None" in app_steps.check_version(app).message
    app.version_callback(lambda _root: 1 / 0)
    assert "raised ZeroDivisionError" in app_steps.check_version(app).message


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
def test_the_port_is_a_number_from_1_to_65535(monkeypatch, port, status):
    """Unset is fine: the server's default counts."""
    monkeypatch.delenv("PORT", raising=False)
    if port is not None:
        monkeypatch.setenv("PORT", port)
    assert app_steps.check_port().status == status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_user_of_a_container_is_10001(monkeypatch):
    """Root and other users are a warning, but only in a container."""
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


class SummaryLogger:
    """The summaries' logger, with handlers of the test's choice only: pytest has its own."""

    def __init__(self, logger):
        self.logger = logger

    def have(self, *handlers):
        """Set the handlers."""
        self.logger.handlers[:] = handlers


@pytest.fixture
def summary_logger():
    """Return the summaries' logger, and leave it as it was."""
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
    """Look at the summary of an app's request."""
    with record_logs() as logs:
        return check_summary(app or DockerflowMiddleware(hello), logs)


def test_a_summary_that_is_mozlog_on_stdout_is_right(summary_logger, capsys):
    """And it is not written: production logs get nothing of the doctor."""
    summary_logger.have(MozlogHandler())
    finding = look_for_summary()
    assert finding.status == "ok"
    assert json.loads(finding.details["line"])["Fields"]["code"] == 405
    assert capsys.readouterr().out == ""
    assert summary_logger.logger.filters == []


def test_a_second_handler_does_no_harm(summary_logger, tmp_path):
    """One that is right is enough."""
    handler = logging.FileHandler(tmp_path / "log")
    summary_logger.have(handler, MozlogHandler())
    assert look_for_summary().status == "ok"
    handler.close()


def text_handler():
    """Make a handler that writes no JSON."""
    return logging.StreamHandler(sys.stdout)


def json_handler():
    """Make a handler that writes JSON that is no mozlog."""
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


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_handler, "is not mozlog"),
        (json_handler, 'is not mozlog: {"message": ""}'),
        (elsewhere, "writes the summaries to the file "),
        (high, "has no handler at the level INFO"),
    ],
)
def test_each_fault_of_a_handler_has_its_reason(summary_logger, make, reason):
    """And a remedy."""
    summary_logger.have(make())
    finding = look_for_summary()
    assert finding.status == "error"
    assert reason in finding.message
    assert finding.remedy


def test_handlers_that_hand_on_are_followed(summary_logger):
    """A queue whose listener is not known is only a warning."""
    summary_logger.have(QueueHandler(Queue()))
    assert look_for_summary().status == "warning"


def test_a_logger_that_does_not_propagate_is_told(summary_logger):
    """A handler of the root logger would not mend it."""
    summary_logger.have()
    finding = look_for_summary()
    assert "its propagate is False" in finding.message
    summary_logger.logger.propagate = True
    summary_logger.logger.parent, root = None, summary_logger.logger.parent
    finding = look_for_summary()
    summary_logger.logger.parent = root
    assert finding.message == "the logger request.summary has no handler at the level INFO"


def test_each_fault_of_the_logger_has_its_reason(summary_logger):
    """The reasons are: no handler, a level above INFO, a disabled logger."""
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


def test_a_field_that_summary_extra_removes_is_not_missing(summary_logger):
    """Users may leave out what they do not want to log."""
    summary_logger.have(MozlogHandler())
    app = DockerflowMiddleware(hello, summary_extra=lambda _environ: {"lang": None})
    finding = look_for_summary(app)
    assert finding.status == "ok"
    assert "lang" not in json.loads(finding.details["line"])["Fields"]


def test_a_request_that_leaves_no_summary_is_told(summary_logger):
    """It did not pass the middleware."""
    summary_logger.have(MozlogHandler())
    finding = look_for_summary(hello)
    assert "left no summary" in finding.message


ENVELOPE = {"Timestamp": 10**18 + 1, "Type": "request.summary", "EnvVersion": "2.0"}
FIELDS = {"errno": 0, "agent": "", "lang": "", "method": "GET", "path": "/", "code": 200}
FIELDS |= {"rid": "x", "t": 1, "uid": ""}


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
def test_mozlog_is_recognized(line, is_right):
    """A line has a timestamp in nanoseconds, the type of a summary and fields, in one line."""
    assert app_steps.is_mozlog(line) == is_right


def look_at_check(function, timeout_s=TIMEOUT_S, **settings):
    """Run one check, and return what was found."""
    app = DockerflowMiddleware(hello, **settings)
    app.check(function, name="storage")
    with record_logs():
        (result,) = CheckSteps(app, timeout_s, ()).results()
    assert result.name == "check:storage"
    return result


def raises():
    """Raise."""
    raise ValueError("no disk")


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
def test_a_check_is_as_red_as_its_heartbeat(check, settings, status):
    """The middleware's settings count."""
    assert look_at_check(check, **settings).status == status


def test_a_checks_own_hint_is_the_remedy():
    """Who wrote it knows best."""
    finding = look_at_check(lambda: checks.Error("down", hint="Start it.", id="a.E1"))
    assert (finding.message, finding.remedy) == ("a.E1: down", "Start it.")


def test_a_check_that_raises_is_told_with_its_line():
    """The line is that of the check's own code."""
    finding = look_at_check(raises)
    assert "test_app.py:" in finding.message
    assert "ValueError: no disk" in finding.message


def test_a_check_over_its_deadline_is_told_with_its_stack():
    """Where it hangs at this moment."""
    release = threading.Event()
    finding = look_at_check(lambda: release.wait(TIMEOUT_S), check_timeout=0.2)
    release.set()
    assert finding.status == "error"
    assert "not done after 0.2 s; it was at " in finding.message
    assert "release.wait(TIMEOUT_S)" in finding.message


def test_an_async_check_is_told_with_its_own_line():
    """Not with the event loop's, which waits for it."""
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
def test_a_check_without_a_near_deadline_is_bounded_by_the_timeout(check_timeout):
    """The doctor does not wait for it for ever."""
    release = threading.Event()
    finding = look_at_check(lambda: release.wait(TIMEOUT_S), 0.2, check_timeout=check_timeout)
    release.set()
    assert "not done after 0.2 s" in finding.message


def test_nothing_is_logged_that_the_doctor_causes(listen):
    """The message of a failing check is in its step, and in no log."""
    log = listen("dockerflow_wsgi.checks")
    app = DockerflowMiddleware(hello)
    app.check(lambda: checks.Error("down"), name="storage")
    with record_logs():
        (result,) = CheckSteps(app, TIMEOUT_S, ()).results()
    assert result.status == "error"
    assert len(log) == 0


def test_a_check_runs_once_and_the_hooks_of_the_app_are_not_called():
    """Hooks may count heartbeats, or page somebody."""
    reports, runs = [], []
    app = DockerflowMiddleware(hello, on_heartbeat=reports.append)
    app.check(lambda: runs.append(1), name="storage")
    assert look_at("endpoint_heartbeat", app).status == "ok"
    with record_logs():
        assert [result.status for result in CheckSteps(app, TIMEOUT_S, ()).results()] == ["ok"]
    assert (reports, runs) == ([], [1])


def test_a_step_that_raises_is_a_failure():
    """There is no traceback, and no password."""
    found = run_step(lambda: {}["redis://:s3cr3t@h"], TIMEOUT_S)
    assert found.status == "error"
    assert "KeyError: 'redis://:***@h'" in found.to_dict()["message"]
