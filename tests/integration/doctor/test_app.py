"""An app that is imported: each step, with its reason and its remedy."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import sys
import threading
import time
from logging.handlers import MemoryHandler, QueueHandler
from queue import Queue

import pytest
from alembic.config import Config
from flask import Flask
from waiting import TIMEOUT_S
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from whitenoise import WhiteNoise
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.checks import check_migrations_applied
from dockerflow_wsgi.checks.run import CheckRun
from dockerflow_wsgi.doctor import container
from dockerflow_wsgi.doctor.checks import run_checks
from dockerflow_wsgi.doctor.endpoints import (
    check_heartbeat_endpoint,
    check_lbheartbeat_endpoint,
    check_version_endpoint,
)
from dockerflow_wsgi.doctor.finding import probe
from dockerflow_wsgi.doctor.mozlog import problem_of
from dockerflow_wsgi.doctor.quiet import quiet_hooks, quiet_logs
from dockerflow_wsgi.doctor.remedies import upgrade_command
from dockerflow_wsgi.doctor.subject import Subject
from dockerflow_wsgi.doctor.summary import check_summary
from dockerflow_wsgi.flask import Dockerflow
from dockerflow_wsgi.logging import MozlogFormatter, MozlogHandler
from dockerflow_wsgi.unwrapping import find_middlewares

ENDPOINTS = [check_version_endpoint, check_heartbeat_endpoint, check_lbheartbeat_endpoint]


def subject(app, middleware=None, timeout_s=TIMEOUT_S):
    """Look at an app."""
    return Subject(app, middleware or find_middlewares(app)[0], timeout_s)


class Keeps:
    """A middleware that calls the app by a name of its own."""

    def __init__(self, app):
        self.whatever = app

    def __call__(self, environ, start_response):
        return self.whatever(environ, start_response)

    def serve(self, environ, start_response):
        return self.whatever(environ, start_response)


def decorated(app):
    """Wrap in a closure."""

    @functools.wraps(app.__call__)
    def inner(environ, start_response):
        return app(environ, start_response)

    return inner


def in_flask(app):
    """Wrap a Flask app's own."""
    flask = Flask(__name__)
    flask.wsgi_app = ProxyFix(app)
    return flask


WRAPPERS = [
    lambda app: app,
    ProxyFix,
    WhiteNoise,
    Keeps,
    lambda app: Keeps(app).serve,
    lambda app: DispatcherMiddleware(hello, {"/api": app}),
    lambda app: functools.partial(lambda one, environ, start: one(environ, start), app),
    decorated,
    in_flask,
    lambda app: WhiteNoise(ProxyFix(decorated(Keeps(app)))),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_the_middleware_is_found_however_it_is_wrapped(wrap):
    """Attributes of any name, mounts, methods, partials and closures are followed."""
    app = DockerflowMiddleware(hello)
    assert find_middlewares(wrap(app)) == [app]


def test_the_middleware_of_the_flask_extension_is_found():
    """Once, though Flask knows it twice."""
    app = Flask(__name__)
    Dockerflow(app)
    assert find_middlewares(app) == [app.extensions["dockerflow.middleware"]]


def test_of_several_the_outermost_comes_first():
    """The middleware that requests reach first comes before the one of an extension."""
    flask = Flask(__name__)
    Dockerflow(flask)
    inner = flask.wsgi_app
    outer = DockerflowMiddleware(functools.partial(inner))  # which hides the inner one
    flask.wsgi_app = ProxyFix(outer)
    assert find_middlewares(flask) == [outer, inner]


def test_the_search_ends_whatever_it_meets():
    """Wrappers in a circle, attributes that raise, objects that make more of themselves."""

    class Endless:
        def __getattr__(self, name):
            return Endless()

        @property
        def application(self):
            raise AssertionError("it loads itself lazily")

        def __call__(self):
            raise AssertionError

    one, other = Keeps(hello), Keeps(hello)
    one.whatever, other.whatever = other, one
    assert find_middlewares(one) == []
    assert find_middlewares(Endless()) == []


@pytest.mark.parametrize("check", ENDPOINTS)
def test_the_middlewares_own_answer_is_right(check, version_directory):
    """Through other wrappers too."""
    app = DockerflowMiddleware(hello, version_path=version_directory)
    app.check(lambda: [], name="fine")
    assert check(subject(ProxyFix(app))).status == "ok"


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


def echoing(app):
    """Give an app's answers the request's ID, as other Dockerflow packages may do."""

    def echo(environ, start_response):
        def start(status, headers):
            named = ("X-Request-ID", environ["HTTP_X_REQUEST_ID"])
            return start_response(status, [*headers, named])

        return app(environ, start)

    return echo


OTHERS += [echoing(other) for other in OTHERS]


@pytest.mark.parametrize("check", ENDPOINTS)
@pytest.mark.parametrize("other", OTHERS)
def test_an_answer_of_another_app_is_found_out(check, other, version_directory):
    """The middleware is mounted below a path, and something else answers at the root."""
    middleware = DockerflowMiddleware(hello, version_path=version_directory)
    finding = check(subject(DispatcherMiddleware(other, {"/api": middleware})))
    assert finding.status == "error"
    assert finding.message.startswith("something else answers /__")
    assert "outermost" in finding.remedy


def test_the_place_of_a_redirect_is_told(version_directory):
    """It says which login is in the way."""
    middleware = DockerflowMiddleware(hello, version_path=version_directory)
    app = DispatcherMiddleware(OTHERS[0], {"/api": middleware})
    assert "302 Found to /login" in check_lbheartbeat_endpoint(subject(app)).message


def test_a_version_that_is_made_anew_is_right():
    """A callback may tell another one each time."""
    app = DockerflowMiddleware(hello)
    app.version_callback(lambda _root: {**FULL, "time": time.monotonic_ns()})
    assert check_version_endpoint(subject(app)).status == "ok"


def test_an_answer_with_another_request_id_is_found_out():
    """Something else answers, though it looks alike."""
    other = answers("200 OK", "application/json", b"", X_Request_ID="mine")
    finding = check_lbheartbeat_endpoint(subject(other, DockerflowMiddleware(hello)))
    assert finding.status == "error"
    assert "another X-Request-ID than the request's" in finding.message


@pytest.mark.parametrize("check", ENDPOINTS)
def test_an_app_that_raises_is_told_with_its_line(check):
    """And the doctor goes on."""
    middleware = DockerflowMiddleware(hello)

    def app(_environ, _start_response):
        raise SystemExit("gone")

    finding = check(subject(app, middleware))
    assert finding.status == "error"
    assert "test_app.py:" in finding.message
    assert "raised SystemExit: gone" in finding.message


def test_an_app_that_hangs_is_told_with_its_line():
    """In time."""
    release = threading.Event()

    def app(_environ, _start_response):
        release.wait(TIMEOUT_S)

    middleware = DockerflowMiddleware(hello, check_timeout=0.1)
    asked = functools.partial(check_lbheartbeat_endpoint, subject(app, middleware, 0.2))
    finding = probe("endpoint_lbheartbeat", asked, 0.3).finding
    release.set()
    assert finding.message.startswith("not done after 0.3 s; it was at ")
    assert "release.wait(TIMEOUT_S)" in finding.message


def test_a_heartbeat_that_fails_points_at_its_checks():
    """They have steps of their own: one reason is red once."""
    app = DockerflowMiddleware(hello)
    app.check(lambda: checks.Error("down"), name="storage")
    app.check(lambda: checks.Info("by the way"), name="other")
    with quiet_logs():
        finding = check_heartbeat_endpoint(subject(app))
    assert finding.status == "warning"
    assert finding.message == "answers 500 Internal Server Error, because of storage"


def test_a_missing_version_is_red_once(tmp_path):
    """At the step of the file, and not at its endpoint."""
    app = DockerflowMiddleware(hello, version_path=tmp_path)
    with quiet_logs():
        finding = check_version_endpoint(subject(app))
    assert (finding.status, finding.remedy) == ("warning", "See the step version_json")


def look_for_version(directory, content=None, **options):
    """Look at a version.json."""
    if content is not None:
        (directory / "version.json").write_text(content)
    return container.check_version(
        DockerflowMiddleware(hello, version_path=directory, **options).version_endpoint
    )


FULL = {"source": "https://x.test", "version": "", "commit": "abc", "build": "42"}


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (json.dumps(FULL), "ok", "commit abc"),
        (None, "error", "there is no "),
        ("{", "error", "is not JSON"),
        ("[]", "error", "is a JSON list"),
        (json.dumps({**FULL, "commit": " "}), "warning", "commit is blank"),
        ('{"version": "1", "commit": "2"}', "error", "has no source and no build"),
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
    assert container.check_version(DockerflowMiddleware(hello).version_endpoint).status == "ok"


def test_a_version_callback_is_asked():
    """In place of the file."""
    app = DockerflowMiddleware(hello, version_path="/nowhere")
    app.version_callback(lambda _root: FULL)
    assert container.check_version(app.version_endpoint).status == "ok"
    app.version_callback(lambda _root: None)
    assert "returned None" in container.check_version(app.version_endpoint).message
    app.version_callback(lambda _root: 1 / 0)
    assert "raised ZeroDivisionError" in container.check_version(app.version_endpoint).message


@pytest.mark.parametrize(
    ("port", "status"),
    [
        (None, "ok"),
        ("8000", "ok"),
        ("65535", "ok"),
        ("0", "warning"),
        (" 80 ", "ok"),
        ("65536", "error"),
        ("9" * 5000, "error"),
        ("80x", "error"),
        ("", "warning"),
        ("-1", "error"),
        ("\u0661", "error"),
    ],
)
def test_the_port_is_a_number_from_1_to_65535(monkeypatch, port, status):
    """Unset is fine: the server's default counts."""
    monkeypatch.delenv("PORT", raising=False)
    if port is not None:
        monkeypatch.setenv("PORT", port)
    assert container.check_port().status == status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_user_is_10001():
    """Root and others are a warning."""
    assert container.check_user().message == "runs as root"
    os.setegid(10001)
    os.seteuid(10001)
    try:
        as_app = container.check_user()
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert as_app.status == "ok"


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
    return check_summary(subject(app or DockerflowMiddleware(hello)))


def test_a_summary_that_is_mozlog_on_stdout_is_right(summary_logger, capsys):
    """And it is not written: production logs get nothing of the doctor."""
    summary_logger.have(MozlogHandler())
    finding = look_for_summary()
    assert finding.status == "ok"
    assert json.loads(finding.details["line"])["Fields"]["code"] == 405
    assert capsys.readouterr().out == ""
    assert summary_logger.logger.filters == []


def test_checks_that_nobody_would_hear_are_a_warning(summary_logger):
    """A disabled logger is a warning, as logging.config leaves the loggers that it finds."""
    app = DockerflowMiddleware(hello)
    summary_logger.have(MozlogHandler())
    silent = logging.getLogger("dockerflow_wsgi.checks")
    silent.disabled = True
    try:
        finding = look_for_summary(app)
    finally:
        silent.disabled = False
    assert finding.status == "warning"
    assert "dockerflow_wsgi.checks" in finding.message
    assert "disable_existing_loggers" in finding.remedy


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
    """Make a handler that writes mozlog to memory."""
    import io

    return MozlogHandler(io.StringIO())


def with_a_filter():
    """Make a handler that drops everything."""
    handler = MozlogHandler()
    handler.addFilter(lambda _record: False)
    return handler


def broken():
    """Make a handler whose formatter raises."""

    class Broken(MozlogFormatter):
        def format(self, record):
            raise ValueError("broken")

    handler = MozlogHandler()
    handler.setFormatter(Broken())
    return handler


def high():
    """Make a handler above INFO."""
    handler = MozlogHandler()
    handler.setLevel(logging.WARNING)
    return handler


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_handler, "is not JSON"),
        (json_handler, "not mozlog"),
        (elsewhere, "writes elsewhere"),
        (with_a_filter, "a filter of the MozlogHandler drops"),
        (broken, "raised ValueError: broken"),
        (high, "above INFO"),
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
    """To a target; a queue whose reader is not known is no more than a warning."""
    summary_logger.have(MemoryHandler(1, target=MozlogHandler()))
    assert look_for_summary().status == "ok"
    summary_logger.have(QueueHandler(Queue()))
    assert look_for_summary().status == "warning"


def test_a_logger_that_does_not_propagate_is_told(summary_logger):
    """A handler of the root logger would not mend it."""
    summary_logger.have()
    finding = look_for_summary()
    assert "its propagate is False" in finding.message
    assert "Set propagate to True" in finding.remedy
    summary_logger.logger.propagate = True
    summary_logger.logger.parent, root = None, summary_logger.logger.parent
    finding = look_for_summary()
    summary_logger.logger.parent = root
    assert finding.message == "the logger request.summary has no handler"


def test_each_fault_of_the_logger_has_its_reason(summary_logger):
    """The reasons are: no handler, a level above INFO, a disabled logger."""
    app = DockerflowMiddleware(hello)
    summary_logger.have()
    assert "has no handler" in look_for_summary().message
    summary_logger.have(MozlogHandler())
    summary_logger.logger.setLevel(logging.WARNING)
    assert "is at WARNING, above INFO" in look_for_summary().message
    summary_logger.logger.setLevel(logging.INFO)
    logging.disable(logging.INFO)
    assert "logging.disable()" in look_for_summary().message
    logging.disable(logging.NOTSET)
    summary_logger.logger.disabled = True
    finding = look_for_summary(app)
    assert "is disabled" in finding.message
    assert "disable_existing_loggers" in finding.remedy


def test_a_request_that_leaves_no_summary_is_told(summary_logger):
    """It did not pass the middleware."""
    summary_logger.have(MozlogHandler())
    finding = check_summary(subject(hello, DockerflowMiddleware(hello)))
    assert "left no summary" in finding.message


ENVELOPE = {"Timestamp": 10**18, "Type": "request.summary", "EnvVersion": "2.0"}
FIELDS = {"errno": 0, "agent": "", "lang": "", "method": "GET", "path": "/", "code": 200}
FIELDS |= {"rid": "x", "t": 1, "uid": ""}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (json.dumps({**ENVELOPE, "Fields": FIELDS}), ""),
        (json.dumps({**ENVELOPE, "Fields": FIELDS}, indent=1), "several lines"),
        ("[]", "no object"),
        (json.dumps({"Fields": FIELDS}), "no Timestamp"),
        (json.dumps({**ENVELOPE, "Timestamp": 10**9}), "Timestamp in nanoseconds"),
        (json.dumps({**ENVELOPE, "Type": "x"}), "its Type is not"),
        (json.dumps({**ENVELOPE, "Pid": "1", "Fields": FIELDS}), "Pid is of type str"),
        (json.dumps(ENVELOPE), "has no Fields"),
        (json.dumps({**ENVELOPE, "Fields": {**FIELDS, "t": 0.5}}), "t is of type float"),
        (json.dumps({**ENVELOPE, "Fields": {**FIELDS, "errno": True}}), "errno is of type bool"),
        (json.dumps({**ENVELOPE, "Fields": {"errno": 0}}), "no agent"),
        (json.dumps({**ENVELOPE, "Fields": {**FIELDS, "x": {"y": {"z": 1}}}}), "nests deeper"),
    ],
)
def test_mozlog_is_told_from_other_json(line, problem):
    """By the standard's own rules."""
    assert problem in problem_of(line)
    assert bool(problem) == bool(problem_of(line))


def look_at_check(function, timeout_s=TIMEOUT_S, **settings):
    """Run one check, and return what was found."""
    app = DockerflowMiddleware(hello, **settings)
    app.check(function, name="storage")
    (probe,) = run_checks(subject(app, app, timeout_s), frozenset())
    assert probe.name == "check:storage"
    return probe.finding


def raises():
    """Raise."""
    raise ValueError("no disk")


@pytest.mark.parametrize(
    ("check", "settings", "status"),
    [
        (lambda: [], {}, "ok"),
        (lambda: checks.Info("by the way"), {}, "ok"),
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
    assert "release.wait(TIMEOUT_S)" in finding.details["stack"][-1]


def test_an_async_check_is_told_with_its_own_line():
    """Not with the event loop's, which waits for it."""
    release = []

    async def inner():
        await asyncio.sleep(TIMEOUT_S)

    async def outer():
        release.append(asyncio.get_running_loop())
        release.append(asyncio.current_task())
        await asyncio.create_task(inner())

    finding = look_at_check(outer, check_timeout=0.3)
    release[0].call_soon_threadsafe(release[1].cancel)
    assert "in inner: await asyncio.sleep(TIMEOUT_S)" in finding.message
    assert "in outer: await asyncio.create_task(inner())" in finding.details["stack"][-2]


class FlaskMigrate:
    """Looks like one."""

    def get_config(self, directory): ...


@pytest.mark.parametrize(
    ("migrate", "command"),
    [
        (Config("here/al embic.ini"), "alembic -c 'here/al embic.ini' upgrade head"),
        (Config(), "alembic upgrade head"),
        (FlaskMigrate(), "flask db upgrade"),
    ],
)
def test_the_command_that_applies_migrations_can_be_pasted(migrate, command):
    """With the config that the app uses."""
    assert upgrade_command(functools.partial(check_migrations_applied, migrate)) == command


@pytest.mark.parametrize("check_timeout", [None, 500])
def test_a_check_without_a_near_deadline_is_bounded_by_the_timeout(check_timeout):
    """The doctor does not wait for it for ever."""
    release = threading.Event()
    finding = look_at_check(lambda: release.wait(TIMEOUT_S), 0.2, check_timeout=check_timeout)
    release.set()
    assert "not done after 0.2 s" in finding.message


@pytest.mark.parametrize(
    ("level", "status"), [("warning", "error"), ("error", "error"), ("critical", "warning")]
)
def test_a_check_beyond_its_deadline_fails_as_the_heartbeat_does(monkeypatch, level, status):
    """Though it is done by then: its run was the heartbeat's, which could not wait for it."""
    app = DockerflowMiddleware(hello, check_timeout=0.2, heartbeat_failed_level=level)
    asked, wait = threading.Event(), CheckRun.wait

    @app.check
    def storage():
        started_s = time.monotonic()
        assert asked.wait(TIMEOUT_S)
        time.sleep(max(0, started_s + 0.25 - time.monotonic()))  # the check's own work

    assert request(app, "/__heartbeat__").status[:3] == ("500" if status == "error" else "200")
    monkeypatch.setattr(CheckRun, "wait", lambda run, left_s: asked.set() or wait(run, left_s))
    (probe,) = run_checks(subject(app, app, TIMEOUT_S), frozenset())
    assert probe.finding.status == status
    assert "not done at its deadline of 0.2 s" in probe.finding.message


def test_a_check_slower_than_half_its_deadline_is_a_warning():
    """With how long it took."""
    finding = look_at_check(lambda: time.sleep(2.1), check_timeout=4)  # the check's own work
    assert finding.status == "warning"
    assert "more than half of its deadline of 4 s" in finding.message


def test_nothing_is_logged_that_the_doctor_causes(listen):
    """A failing check's error is told by its step, and by no log."""
    log = listen("dockerflow_wsgi.checks")
    app = DockerflowMiddleware(hello)
    app.check(lambda: checks.Error("down"), name="storage")
    with quiet_logs():
        check_heartbeat_endpoint(subject(app))
        list(run_checks(subject(app), frozenset()))
    assert len(log) == 0


def test_the_apps_hooks_are_not_called():
    """They may count heartbeats, or page somebody; afterwards they are called again."""
    reports = []
    app = DockerflowMiddleware(hello, on_heartbeat=reports.append)
    with quiet_hooks([app]):
        assert check_heartbeat_endpoint(subject(app)).status == "ok"
    assert reports == []
    check_heartbeat_endpoint(subject(app))
    assert len(reports) == 1


def test_a_step_that_cannot_be_taken_is_a_failure():
    """And the doctor goes on, without a traceback."""
    found = probe("port", lambda: {}["redis://:s3cr3t@h"], TIMEOUT_S)
    assert not found.ok
    assert "KeyError: 'redis://:***@h'" in found.to_dict()["message"]
    assert "--skip port" in found.finding.remedy
