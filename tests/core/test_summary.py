"""``request.summary``: its fields, its levels, and that it never hurts."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from wsgi import Server, hello, make_environ, request

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.checks import Error
from dockerflow_wsgi.logging import MozlogFormatter


def fields(record):
    """Format a record as mozlog and return its fields."""
    return json.loads(MozlogFormatter().format(record))["Fields"]


def app_saying(**items):
    """Make an app that puts items into its request's summary."""

    def app(environ, start_response):
        environ["dockerflow.summary"].update(items)
        return hello(environ, start_response)

    return app


def test_a_plain_request_has_these_fields(summaries):
    """The standard's fields with their types, and no others."""
    request(
        DockerflowMiddleware(hello),
        "/caf\u00c3\u00a9",  # UTF-8 as PEP 3333 carries it
        "PUT",
        HTTP_USER_AGENT="curl/8",
        HTTP_ACCEPT_LANGUAGE="tlh",
        HTTP_X_REQUEST_ID="r-1",
        QUERY_STRING="secret=1",
    )
    (summary,) = summaries
    found = fields(summary)
    assert isinstance(found.pop("t"), int)
    assert found == {
        "errno": 0,
        "agent": "curl/8",
        "lang": "tlh",
        "method": "PUT",
        "path": "/café",
        "code": 200,
        "rid": "r-1",
        "uid": "",
    }
    assert summary.levelno == logging.INFO
    assert summary.name == "request.summary"


def test_missing_headers_are_empty(summaries):
    """A prober without headers has an empty agent and language."""
    request(DockerflowMiddleware(hello))
    assert (summaries[0].agent, summaries[0].lang) == ("", "")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/\u00ff\u00fe", "/\ufffd\ufffd"),
        ("/\u20ac", "/\u20ac"),
        ("/%2e", "/%2e"),
        ("/a\nb", "/a\nb"),
        ("/\ud800", "/\ud800"),
    ],
)
def test_any_path_makes_a_summary(summaries, raw, path):
    """Bytes that are no UTF-8 are replaced; text from a server that decoded it stays."""
    app = DockerflowMiddleware(hello)
    app(make_environ(raw), Server().start_response).close()
    assert summaries[0].path == path
    assert "\n" not in MozlogFormatter().format(summaries[0])


def test_the_path_is_as_it_arrived(summaries):
    """A dispatcher or a method override within the app does not change what is logged."""

    def shifting(environ, start_response):
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/a", "/b"
        environ["REQUEST_METHOD"] = "DELETE"
        return hello(environ, start_response)

    request(DockerflowMiddleware(shifting), "/a/b", "POST")
    assert (summaries[0].method, summaries[0].path) == ("POST", "/a/b")


@pytest.mark.parametrize(("text", "shown"), [("a=1", "a=1"), ("q=\u00ff", "q=\ufffd"), ("", "")])
def test_the_query_string_is_logged_on_demand(summaries, text, shown):
    """It may hold personal data, so it is off by default; a bad byte does not hurt."""
    app = DockerflowMiddleware(hello, summary_log_querystring=True)
    app(make_environ(QUERY_STRING=text), Server().start_response).close()
    assert summaries[0].querystring == shown


def test_the_time_is_monotonic_and_covers_the_whole_response(summaries, monkeypatch):
    """Milliseconds until the response was over, whatever the wall clock does."""
    clock = iter([5_000_000_000, 5_123_999_999])
    monkeypatch.setattr("dockerflow_wsgi.exchange.monotonic_ns", lambda: next(clock))
    monkeypatch.setattr("dockerflow_wsgi.summary.monotonic_ns", lambda: next(clock))
    request(DockerflowMiddleware(hello))
    assert summaries[0].t == 123


@pytest.mark.parametrize(
    ("status", "errno"), [("200 OK", 0), ("302 Found", 0), ("404 Not Found", 0), ("503 Busy", 503)]
)
def test_errno_tells_a_server_error(summaries, status, errno):
    """The status from 500 on; a client's error is none of ours. The level stays INFO."""

    def app(_environ, start_response):
        start_response(status, [("Content-Type", "text/plain")])
        return [b""]

    request(DockerflowMiddleware(app))
    assert summaries[0].errno == errno
    assert summaries[0].levelno == logging.INFO


def test_the_app_adds_fields(summaries):
    """What it puts into ``dockerflow.summary`` is in the record; errno and uid too."""
    request(DockerflowMiddleware(app_saying(errno=101, uid="ada", context="checkout", n=3)))
    found = fields(summaries[0])
    assert found["errno"] == 101
    assert found["uid"] == "ada"
    assert found["context"] == "checkout"
    assert found["n"] == 3


@pytest.mark.parametrize(("errno", "shown"), [("101", 101), (7.0, 7), ("no number", 0), ([], 0)])
def test_the_errno_is_a_number(summaries, errno, shown):
    """What is none does not count."""
    request(DockerflowMiddleware(app_saying(errno=errno)))
    assert summaries[0].errno == shown


@pytest.mark.parametrize(("uid", "shown"), [(5, "5"), (None, ""), ("", ""), (0, "0")])
def test_the_uid_is_text(summaries, uid, shown):
    """Applications have numbers; the standard has text."""
    request(DockerflowMiddleware(app_saying(uid=uid)))
    assert summaries[0].uid == shown


def test_fields_that_a_record_has_itself_get_another_name(summaries):
    """A field ``name`` must not rename the logger, nor break the record."""
    request(DockerflowMiddleware(app_saying(name="Ada", args=[1], levelno=99, message="m")))
    found = fields(summaries[0])
    assert summaries[0].name == "request.summary"
    assert (found["name_"], found["args_"], found["levelno_"]) == ("Ada", [1], 99)
    assert found["message_"] == "m"


def test_the_app_can_set_the_message(summaries):
    """``msg`` is a standard field of a summary."""
    request(DockerflowMiddleware(app_saying(msg="100 % done")))
    assert fields(summaries[0])["msg"] == "100 % done"


def test_an_exception_is_the_message(summaries):
    """The exception's text wins; what the app had said is kept beside it."""

    def app(environ, _start_response):
        environ["dockerflow.summary"].update(msg="half done", errno=7)
        raise ValueError("no %s left")

    with pytest.raises(ValueError, match="left"):
        request(DockerflowMiddleware(app))
    found = fields(summaries[0])
    assert found["msg"] == "no %s left"
    assert found["msg_"] == "half done"
    assert found["errno"] == 7
    assert summaries[0].levelno == logging.ERROR


def test_an_exception_without_a_text_is_named(summaries):
    """An empty message would tell nothing."""

    def app(_environ, _start_response):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        request(DockerflowMiddleware(app))
    assert summaries[0].getMessage() == "KeyboardInterrupt"


def test_an_exception_shows_no_password(summaries):
    """Database drivers put URLs into their texts."""

    def app(_environ, _start_response):
        raise OSError("cannot reach postgresql://ada:s3cr3t@db/x")

    with pytest.raises(OSError, match="s3cr3t"):
        request(DockerflowMiddleware(app))
    assert summaries[0].getMessage() == "cannot reach postgresql://ada:***@db/x"


def test_an_exception_whose_text_raises_is_raised_on(summaries):
    """The server gets the app's exception, not one of ours."""

    class Mute(Exception):  # noqa: N818
        def __str__(self):
            raise RuntimeError("mute")

    def app(_environ, _start_response):
        raise Mute

    with pytest.raises(Mute):
        request(DockerflowMiddleware(app))
    assert "Mute" in summaries[0].getMessage()


def test_summary_extra_adds_fields(summaries):
    """The hook sees the environ; the app's own items win over it."""

    def extra(environ):
        return {"host": environ["HTTP_HOST"], "uid": "hook", "nothing": None}

    app = DockerflowMiddleware(app_saying(uid="app"), summary_extra=extra)
    request(app, HTTP_HOST="x.test")
    found = fields(summaries[0])
    assert found["host"] == "x.test"
    assert found["uid"] == "app"
    assert "nothing" not in found


@pytest.mark.parametrize("extra", [lambda environ: environ["no key"], lambda _environ: "text"])
def test_a_summary_extra_that_fails_hurts_nothing(summaries, listen, extra):
    """The response is unharmed, the summary is written without it, the fault is logged."""
    faults = listen("dockerflow_wsgi")
    assert request(DockerflowMiddleware(hello, summary_extra=extra)).body == b"hello"
    assert summaries[0].code == 200
    assert "summary_extra" in faults[0].getMessage()


def test_summary_extra_may_return_nothing(summaries, listen):
    """None is no field."""
    faults = listen("dockerflow_wsgi")
    request(DockerflowMiddleware(hello, summary_extra=lambda _environ: None))
    assert len(summaries) == 1
    assert len(faults) == 0


def test_an_app_that_spoils_its_summary_hurts_nothing(summaries, listen):
    """Something that is no mapping is left out, and told."""
    faults = listen("dockerflow_wsgi")

    def app(environ, start_response):
        environ["dockerflow.summary"] = ["uid", "ada"]
        return hello(environ, start_response)

    assert request(DockerflowMiddleware(app)).body == b"hello"
    assert summaries[0].uid == ""
    assert "dockerflow.summary" in faults[0].getMessage()


def test_a_logging_set_up_that_raises_hurts_nothing(listen):
    """Neither the response nor the next request suffers from a broken handler."""
    faults = listen("dockerflow_wsgi")

    class Broken(logging.Handler):
        def handle(self, record):
            raise OSError("log disk full", record.name)

    handler = Broken()
    logger = logging.getLogger("request.summary")
    logger.addHandler(handler)
    try:
        app = DockerflowMiddleware(hello)
        listen("request.summary", logging.INFO)
        assert request(app).body == b"hello"
    finally:
        logger.removeHandler(handler)
    assert "could not be logged" in faults[0].getMessage()


def test_a_logging_set_up_that_raises_everywhere_hurts_nothing(capsys):
    """The last resort is standard error."""

    class Broken(logging.Handler):
        def handle(self, record):
            raise OSError("log disk full", record.name)

    handler = Broken()
    root = logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    try:
        assert request(DockerflowMiddleware(hello)).body == b"hello"
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert "log disk full" in capsys.readouterr().err


def test_a_logging_set_up_that_raises_hurts_nothing_without_a_standard_error(monkeypatch):
    """As in a process of a Windows service, or of a daemon that has closed it."""

    def raises(_record):
        raise OSError("log disk full")

    monkeypatch.setattr(logging.getLogger("dockerflow_wsgi"), "handle", raises)
    monkeypatch.setattr(logging.getLogger("request.summary"), "handle", raises)
    monkeypatch.setattr(logging.getLogger("request.summary"), "level", logging.INFO)
    monkeypatch.setattr(sys, "stderr", None)
    assert request(DockerflowMiddleware(hello)).body == b"hello"


@pytest.mark.parametrize("path", ["/__version__", "/__heartbeat__", "/__lbheartbeat__"])
def test_probes_are_logged_at_debug(summaries, version_directory, path):
    """So that they do not drown the log."""
    request(DockerflowMiddleware(hello, version_path=version_directory), path)
    assert [record.levelno for record in summaries] == [logging.DEBUG]


def test_probes_that_get_an_error_are_logged_at_info(summaries, tmp_path):
    """A 404, a 405 and a failing heartbeat are news."""
    app = DockerflowMiddleware(hello, version_path=tmp_path)
    app.check(lambda: Error("x"), name="a")
    request(app, "/__version__")
    request(app, "/__lbheartbeat__", "POST")
    request(app, "/__heartbeat__")
    found = [(record.levelno, record.code, record.errno) for record in summaries]
    assert found == [(20, 404, 0), (20, 405, 0), (20, 500, 500)]


def test_nothing_is_built_when_nothing_listens(listen):
    """A logger above the level costs no record, and calls no hook."""
    listen("request.summary", logging.WARNING)
    calls = []
    request(DockerflowMiddleware(hello, summary_extra=calls.append))
    assert calls == []


def test_a_record_factory_of_the_applications_is_used(summaries):
    """Set-ups that extend all records extend ours too."""
    factory = logging.getLogRecordFactory()

    def marking(*arguments, **keywords):
        record = factory(*arguments, **keywords)
        record.marked = True
        return record

    logging.setLogRecordFactory(marking)
    try:
        request(DockerflowMiddleware(hello))
    finally:
        logging.setLogRecordFactory(factory)
    assert summaries[0].marked


@pytest.mark.parametrize("status", ["fine", "", None])
def test_a_status_that_is_no_number_is_no_code(summaries, status):
    """Some servers take such a one; the summary is written without it."""

    def app(_environ, start_response):
        start_response(status, [])
        return []

    server = Server()
    DockerflowMiddleware(app)(make_environ(), server.start_response).close()
    (record,) = summaries
    shown = fields(record)
    assert server.status == status
    assert "code" not in shown
    assert shown["errno"] == 0


def test_of_two_failures_the_first_is_told(summaries):
    """What ``close()`` raises may follow from what the body raised."""

    class Broken:
        def __iter__(self):
            raise ValueError("the cause")

        def close(self):
            raise LookupError("the consequence")

    def app(_environ, start_response):
        start_response("200 OK", [])
        return Broken()

    body = DockerflowMiddleware(app)(make_environ(), Server().start_response)
    with pytest.raises(ValueError, match="the cause"):
        iter(body)
    with pytest.raises(LookupError, match="the consequence"):
        body.close()
    (record,) = summaries
    assert record.getMessage() == "the cause"


class UntraceableError(Exception):
    """An exception that cannot be formatted."""

    @property
    def __cause__(self):
        raise RuntimeError("no cause")


def test_a_hooks_exception_that_cannot_be_shown_is_told_by_its_class(summaries, listen):
    """The log has a record of it, and the summary is written."""
    log = listen("dockerflow_wsgi")

    def extra(_environ):
        raise UntraceableError

    request(DockerflowMiddleware(hello, summary_extra=extra))
    assert len(summaries) == 1
    assert [record.exc_text for record in log] == [
        "UntraceableError without a traceback that can be shown"
    ]
