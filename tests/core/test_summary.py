"""``request.summary``: its fields, its levels, and that it never breaks a response."""

from __future__ import annotations

import json
import logging
import sys
import time

import pytest
from odd_objects import UntraceableError
from wsgi import Server, hello, make_environ, request

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.checks import Error
from dockerflow_wsgi.logging import MozlogFormatter


def fields(record):
    """Format a record as mozlog and return its fields."""
    return json.loads(MozlogFormatter().format(record))["Fields"]


def app_with_summary(**items):
    """Make an app that puts items into its request's summary."""

    def app(environ, start_response):
        environ["dockerflow.summary"].update(items)
        return hello(environ, start_response)

    return app


def as_wsgi(text):
    """Encode a text as UTF-8 in the way that PEP 3333 transports it."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def serve(app, **keys):
    """Serve a request without validation, as a client can send anything."""
    app(make_environ(**keys), Server().start_response).close()


class TestFields:
    """A summary has the documented fields."""

    def test_a_plain_request_has_the_standard_fields(self, summaries):
        """A summary has the standard's fields with their types, and no others."""
        request(
            DockerflowMiddleware(hello),
            as_wsgi("/café"),
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

    def test_missing_headers_are_empty(self, summaries):
        """A client without headers has an empty agent and language."""
        request(DockerflowMiddleware(hello))
        assert (summaries[0].agent, summaries[0].lang) == ("", "")

    def test_the_method_and_path_are_those_that_arrived(self, summaries):
        """A dispatcher or a method override in the app does not change what is logged."""

        def shifting(environ, start_response):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/a", "/b"
            environ["REQUEST_METHOD"] = "DELETE"
            return hello(environ, start_response)

        request(DockerflowMiddleware(shifting), "/a/b", "POST")
        assert (summaries[0].method, summaries[0].path) == ("POST", "/a/b")

    @pytest.mark.parametrize(
        ("text", "shown"), [("a=1", "a=1"), ("q=\u00ff", "q=\ufffd"), ("", "")]
    )
    def test_the_query_string_is_logged_on_demand(self, summaries, text, shown):
        """``summary_log_querystring`` adds the query string; invalid bytes are replaced."""
        serve(DockerflowMiddleware(hello, summary_log_querystring=True), QUERY_STRING=text)
        serve(DockerflowMiddleware(hello), QUERY_STRING=text)
        assert summaries[0].querystring == shown
        assert not hasattr(summaries[1], "querystring")

    def test_credentials_in_the_query_string_are_redacted(self, summaries):
        """Tokens and signatures in the query string are not logged."""
        middleware = DockerflowMiddleware(hello, summary_log_querystring=True)
        serve(middleware, QUERY_STRING="page=2&access_token=s3cr3t&q=a%20b")
        assert summaries[0].querystring == "page=2&access_token=***&q=a%20b"

    def test_the_time_covers_the_whole_response(self, summaries):
        """``t`` is in milliseconds, from the call of the app to the end of the body."""

        def app(_environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            time.sleep(0.02)
            yield b"a"
            time.sleep(0.02)

        started_s = time.monotonic()
        request(DockerflowMiddleware(app))
        assert 40 <= summaries[0].t <= (time.monotonic() - started_s) * 1000

    @pytest.mark.parametrize(
        ("status", "errno"),
        [("200 OK", 0), ("302 Found", 0), ("404 Not Found", 0), ("503 Busy", 503)],
    )
    def test_errno_is_the_status_of_a_server_error(self, summaries, status, errno):
        """A status of 500 or more is the errno; the level stays INFO."""

        def app(_environ, start_response):
            start_response(status, [("Content-Type", "text/plain")])
            return [b""]

        request(DockerflowMiddleware(app))
        assert summaries[0].errno == errno
        assert summaries[0].levelno == logging.INFO

    @pytest.mark.parametrize("status", ["fine", "", None])
    def test_a_status_that_is_not_a_number_is_not_a_code(self, summaries, status):
        """A status without a number, which some servers accept, is logged without ``code``."""

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

    def test_a_response_that_was_not_started_has_no_code(self, summaries):
        """``code`` is absent if the app never called ``start_response``."""
        DockerflowMiddleware(lambda *_: [])(make_environ(), Server().start_response).close()
        assert "code" not in fields(summaries[0])


FIELDS_OF_KEYS = {
    "PATH_INFO": "path",
    "HTTP_USER_AGENT": "agent",
    "HTTP_ACCEPT_LANGUAGE": "lang",
    "QUERY_STRING": "querystring",
}

LONG_TEXTS = {
    "ASCII": "p",
    "control characters": "\x01",
    "quotes": '"',
    "backslashes": "\\",
    "DEL": "\x7f",
    "Latin-1": "\xff",
    "UTF-8": as_wsgi("é"),
    "East Asian": as_wsgi("東"),
    "emoji": as_wsgi("\N{PILE OF POO}"),
    "decoded emoji": "\N{PILE OF POO}",
    "lone surrogates": "\ud800",
    "bytes of lone surrogates": as_wsgi("\ud800"),
    "mixed": 'a"\\\x00' + as_wsgi("\N{PILE OF POO}é"),
}


class TestClientText:
    """Texts from the client are decoded as UTF-8 and limited in length."""

    @pytest.mark.parametrize(("key", "name"), FIELDS_OF_KEYS.items())
    @pytest.mark.parametrize(
        ("raw", "shown"),
        [
            (as_wsgi("/天気アプリ/3.1"), "/天気アプリ/3.1"),
            (as_wsgi("/\N{PILE OF POO}"), "/\N{PILE OF POO}"),
            ("/\u00ff\u00fe", "/\ufffd\ufffd"),
            ("/\u20ac", "/\u20ac"),  # decoded by the server
            ("/%2e", "/%2e"),
            ("/a\nb\x00\x1b", "/a\nb\x00\x1b"),
            ('/"\\', '/"\\'),
            ("/\ud800", "/\ud800"),
            ("", ""),
        ],
    )
    def test_it_is_decoded(self, summaries, key, name, raw, shown):
        """Bytes that are not UTF-8 are replaced; text that the server decoded is unchanged."""
        serve(DockerflowMiddleware(hello, summary_log_querystring=True), **{key: raw})
        assert fields(summaries[0])[name] == shown
        assert "\n" not in MozlogFormatter().format(summaries[0])

    @pytest.mark.parametrize(
        "keys",
        [*([key] for key in [*FIELDS_OF_KEYS, "REQUEST_METHOD", "error"]), None],
        ids=lambda keys: "all" if keys is None else keys[0],
    )
    @pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS)
    def test_a_line_has_at_most_4096_bytes(self, summaries, monkeypatch, text, keys):
        """A line without fields of the app is short enough for a pipe to write in one piece."""
        # pytest would report the message, which cannot be encoded in UTF-8.
        monkeypatch.setattr(logging.getLogger("request.summary"), "propagate", False)
        keys = [*FIELDS_OF_KEYS, "REQUEST_METHOD", "error"] if keys is None else keys
        sent = {key: f"/{text * 9000}" for key in keys if key != "error"}

        def app(environ, start_response):
            if "error" in keys:
                raise ValueError(text * 9000)
            return hello(environ, start_response)

        wrapped = DockerflowMiddleware(app, summary_log_querystring=True)
        environ = make_environ(HTTP_X_REQUEST_ID="x" * 200, **{"PATH_INFO": "/", **sent})
        if "error" in keys:
            with pytest.raises(ValueError, match=r"(?s)."):
                wrapped(environ, Server().start_response)
        else:
            wrapped(environ, Server().start_response).close()
        (record,) = summaries
        line = MozlogFormatter(severity=True, logger_name="l" * 30).format(record)
        assert len(line.encode()) < 4096  # with the line break
        found = json.loads(line, parse_constant=pytest.fail)["Fields"]
        names = [{**FIELDS_OF_KEYS, "REQUEST_METHOD": "method", "error": "msg"}[k] for k in keys]
        for name in names:
            assert found[name].endswith("...")
            assert len(found[name]) > len("/...")
        assert len(found["rid"]) == 200

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("PATH_INFO", "/" + "p" * 890),
            ("PATH_INFO", "/" + as_wsgi("東" * 140)),
            ("HTTP_USER_AGENT", "a" * 490),
            ("HTTP_USER_AGENT", '"' * 240),
            ("HTTP_USER_AGENT", as_wsgi("\N{PILE OF POO}" * 40)),
            ("HTTP_ACCEPT_LANGUAGE", "de-CH, de;q=0.9, en;q=0.8, fr;q=0.7, *;q=0.5"),
            ("QUERY_STRING", "q=" + "a" * 690),
        ],
    )
    def test_text_that_fits_is_not_shortened(self, summaries, key, text):
        """Texts of usual lengths are logged completely."""
        serve(DockerflowMiddleware(hello, summary_log_querystring=True), **{key: text})
        decoded = text.encode("latin-1").decode()
        assert fields(summaries[0])[FIELDS_OF_KEYS[key]] == decoded

    def test_the_apps_own_fields_are_not_shortened(self, summaries):
        """Fields that the app adds are logged completely."""
        request(DockerflowMiddleware(app_with_summary(context="c" * 9000)))
        assert len(fields(summaries[0])["context"]) == 9000


class TestAppFields:
    """The app adds fields by the environ key ``dockerflow.summary``."""

    def test_its_items_become_fields(self, summaries):
        """Items are in the record, and replace ``errno`` and ``uid``."""
        app = app_with_summary(errno=101, uid="ada", context="checkout", n=3)
        request(DockerflowMiddleware(app))
        found = fields(summaries[0])
        assert found["errno"] == 101
        assert found["uid"] == "ada"
        assert found["context"] == "checkout"
        assert found["n"] == 3

    @pytest.mark.parametrize(
        ("errno", "shown"),
        [("101", 101), (7.0, 7), ("no number", 0), ([], 0), (None, 0), (float("inf"), 0)],
    )
    def test_the_errno_is_a_number(self, summaries, errno, shown):
        """An ``errno`` that is not a number is ignored."""
        request(DockerflowMiddleware(app_with_summary(errno=errno)))
        assert summaries[0].errno == shown

    @pytest.mark.parametrize(("uid", "shown"), [(5, "5"), (None, ""), ("", ""), (0, "0")])
    def test_the_uid_is_text(self, summaries, uid, shown):
        """A user ID that is a number becomes text, and ``None`` becomes empty."""
        request(DockerflowMiddleware(app_with_summary(uid=uid)))
        assert summaries[0].uid == shown

    def test_the_names_of_record_attributes_get_another_name(self, summaries):
        """A field ``name`` does not rename the logger, nor break the record."""
        app = app_with_summary(name="Ada", args=[1], levelno=99, message="m", taskName=1)
        request(DockerflowMiddleware(app))
        found = fields(summaries[0])
        assert summaries[0].name == "request.summary"
        assert (found["name_"], found["args_"], found["levelno_"]) == ("Ada", [1], 99)
        assert (found["message_"], found["taskName_"]) == ("m", 1)

    def test_the_app_can_set_the_message(self, summaries):
        """``msg`` becomes the message, and is not taken for a format."""
        request(DockerflowMiddleware(app_with_summary(msg="100 % done")))
        assert summaries[0].getMessage() == "100 % done"
        assert fields(summaries[0])["msg"] == "100 % done"

    def test_something_else_under_the_key_is_ignored(self, summaries, listen):
        """A value that is not a mapping is left out, and logged as an error."""
        errors = listen("dockerflow_wsgi")

        def app(environ, start_response):
            environ["dockerflow.summary"] = ["uid", "ada"]
            return hello(environ, start_response)

        assert request(DockerflowMiddleware(app)).body == b"hello"
        assert summaries[0].uid == ""
        assert "dockerflow.summary" in errors[0].getMessage()

    @pytest.mark.parametrize("value", [None, {}, ()])
    def test_nothing_under_the_key_is_not_an_error(self, summaries, listen, value):
        """An app can empty or replace the dict."""
        errors = listen("dockerflow_wsgi")

        def app(environ, start_response):
            environ["dockerflow.summary"] = value
            return hello(environ, start_response)

        request(DockerflowMiddleware(app))
        assert (summaries[0].uid, len(errors)) == ("", 0)


class TestExceptions:
    """An exception of the app is the message of an ERROR summary."""

    def test_its_text_is_the_message(self, summaries):
        """Level, ``errno`` and ``msg`` show the exception."""

        def app(_environ, _start_response):
            raise ValueError("no %s left")

        with pytest.raises(ValueError, match="left"):
            request(DockerflowMiddleware(app))
        found = fields(summaries[0])
        assert found["msg"] == "no %s left"
        assert found["errno"] == 500
        assert "code" not in found
        assert summaries[0].levelno == logging.ERROR

    def test_the_apps_errno_is_kept(self, summaries):
        """The ``errno`` that the app has set names the failure better than 500."""

        def app(environ, _start_response):
            environ["dockerflow.summary"]["errno"] = 7
            raise LookupError

        with pytest.raises(LookupError):
            request(DockerflowMiddleware(app))
        assert summaries[0].errno == 7
        assert summaries[0].levelno == logging.ERROR

    def test_an_exception_without_a_text_is_named(self, summaries):
        """The message is the class name if the exception has no text."""

        def app(_environ, _start_response):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            request(DockerflowMiddleware(app))
        assert summaries[0].getMessage() == "KeyboardInterrupt"

    def test_passwords_are_redacted(self, summaries):
        """Passwords in an exception's text, such as in a database driver's URL, are redacted."""

        def app(_environ, _start_response):
            raise OSError("cannot reach postgresql://ada:s3cr3t@db/x")

        with pytest.raises(OSError, match="s3cr3t"):
            request(DockerflowMiddleware(app))
        assert summaries[0].getMessage() == "cannot reach postgresql://ada:***@db/x"

    def test_an_exception_whose_text_raises_is_raised_on(self, summaries):
        """The server gets the app's exception, not another one."""

        class Mute(Exception):  # noqa: N818
            def __str__(self):
                raise RuntimeError("mute")

        def app(_environ, _start_response):
            raise Mute

        with pytest.raises(Mute):
            request(DockerflowMiddleware(app))
        assert "Mute" in summaries[0].getMessage()

    def test_the_first_of_two_exceptions_is_logged(self, summaries):
        """A later exception of ``close()`` does not replace the one of the body."""

        class Broken:
            def __iter__(self):
                return self

            def __next__(self):
                raise ValueError("the cause")

            def close(self):
                raise LookupError("the consequence")

        def app(_environ, start_response):
            start_response("200 OK", [])
            return Broken()

        body = DockerflowMiddleware(app)(make_environ(), Server().start_response)
        with pytest.raises(ValueError, match="the cause"):
            list(body)
        body.close()
        (record,) = summaries
        assert record.getMessage() == "the cause"


class TestSummaryExtra:
    """The hook ``summary_extra`` adds, changes and removes fields."""

    def test_it_replaces_fields_of_the_app(self, summaries):
        """The hook's fields replace those that the app has set."""

        def extra(environ):
            return {"host": environ["HTTP_HOST"], "uid": 5, "context": "hook", 7: "seven"}

        app = DockerflowMiddleware(app_with_summary(uid="app", context="app"), summary_extra=extra)
        request(app, HTTP_HOST="x.test")
        found = fields(summaries[0])
        assert found["host"] == "x.test"
        assert (found["uid"], found["context"]) == ("5", "hook")
        assert found["7"] == "seven"

    @pytest.mark.parametrize(
        "name", ["agent", "lang", "uid", "errno", "path", "method", "rid", "t", "context"]
    )
    def test_none_removes_a_field(self, summaries, name):
        """A value of ``None`` removes a field, also one that the app has set."""
        app = DockerflowMiddleware(
            app_with_summary(context="app", uid="app"),
            summary_extra=lambda _environ: {name: None, "unknown": None},
        )
        request(app, HTTP_USER_AGENT="curl")
        found = fields(summaries[0])
        assert name not in found
        assert "unknown" not in found
        assert len(found) == 9

    def test_none_removes_the_text_of_an_exception(self, summaries):
        """A hook can keep an exception's text out of the log."""

        def app(_environ, _start_response):
            raise ValueError("personal data")

        with pytest.raises(ValueError, match="personal"):
            request(DockerflowMiddleware(app, summary_extra=lambda _environ: {"msg": None}))
        assert "personal" not in MozlogFormatter().format(summaries[0])
        assert summaries[0].levelno == logging.ERROR

    def test_a_wrong_errno_does_not_count(self, summaries):
        """An ``errno`` of the hook that is not a number is ignored."""
        request(DockerflowMiddleware(hello, summary_extra=lambda _environ: {"errno": "bad"}))
        assert summaries[0].errno == 0

    @pytest.mark.parametrize("extra", [lambda environ: environ["no key"], lambda _environ: "text"])
    def test_a_failure_does_not_break_the_response(self, summaries, listen, extra):
        """The response is complete, the summary lacks the fields, the exception is logged."""
        errors = listen("dockerflow_wsgi")
        assert request(DockerflowMiddleware(hello, summary_extra=extra)).body == b"hello"
        assert summaries[0].code == 200
        assert "summary_extra" in errors[0].getMessage()

    @pytest.mark.parametrize("returned", [None, {}])
    def test_it_may_return_nothing(self, summaries, listen, returned):
        """A hook that returns ``None`` adds no fields."""
        errors = listen("dockerflow_wsgi")
        request(DockerflowMiddleware(hello, summary_extra=lambda _environ: returned))
        assert len(summaries) == 1
        assert len(errors) == 0

    def test_an_exception_that_cannot_be_formatted_is_named(self, summaries, listen):
        """The log names the exception's class, and the summary is written."""

        def extra(_environ):
            raise UntraceableError

        errors = listen("dockerflow_wsgi")
        request(DockerflowMiddleware(hello, summary_extra=extra))
        assert len(summaries) == 1
        assert ["UntraceableError" in record.exc_text for record in errors] == [True]


class TestLevels:
    """The level depends on who answered, and how."""

    @pytest.mark.parametrize("path", ["/__version__", "/__heartbeat__", "/__lbheartbeat__"])
    def test_successful_probes_are_logged_at_debug(self, summaries, version_directory, path):
        """Successful probes are logged at DEBUG, so that they do not fill the log."""
        app = DockerflowMiddleware(hello, version_path=version_directory)
        request(app, path)
        request(app, f"{path}/")
        assert [record.levelno for record in summaries] == [logging.DEBUG] * 2

    def test_probes_that_get_an_error_are_logged_at_info(self, summaries, tmp_path):
        """A 404, a 405 and a failed heartbeat are logged at INFO."""
        app = DockerflowMiddleware(hello, version_path=tmp_path)
        app.check(lambda: Error("x"), name="a")
        request(app, "/__version__")
        request(app, "/__lbheartbeat__", "POST")
        request(app, "/__heartbeat__")
        found = [(record.levelno, record.code, record.errno) for record in summaries]
        assert found == [(20, 404, 0), (20, 405, 0), (20, 500, 500)]

    def test_no_record_is_made_if_the_level_is_higher(self, listen):
        """If the logger's level is higher, no record is made and no hook is called."""
        listen("request.summary", logging.WARNING)
        calls = []
        request(DockerflowMiddleware(hello, summary_extra=calls.append))
        assert calls == []


class Refuse(logging.Filter):
    """A filter that drops every record, and keeps the summaries."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def filter(self, record):
        """Keep and drop a record."""
        self.seen.append(record)
        return False


class TestLogRecord:
    """Each summary is an ordinary log record that goes through ``Logger.handle``."""

    def test_a_record_factory_makes_it(self, summaries):
        """An application's record factory makes the summaries, too."""
        factory = logging.getLogRecordFactory()

        class OwnRecord(logging.LogRecord):
            marked = True

        logging.setLogRecordFactory(OwnRecord)
        try:
            request(DockerflowMiddleware(hello))
        finally:
            logging.setLogRecordFactory(factory)
        assert type(summaries[0]) is OwnRecord
        assert fields(summaries[0])["code"] == 200

    def test_a_filter_on_the_logger_sees_it(self, summaries):
        """A filter on the logger sees every summary and can drop it."""
        refuse = Refuse()
        logger = logging.getLogger("request.summary")
        logger.addFilter(refuse)
        try:
            request(DockerflowMiddleware(hello))
        finally:
            logger.removeFilter(refuse)
        assert [type(record) for record in refuse.seen] == [logging.LogRecord]
        assert len(summaries) == 0

    def test_a_filter_on_a_handler_sees_it(self, listen):
        """A filter on one handler does not affect another one."""
        first, second = listen("request.summary"), listen("request.summary")
        refuse = Refuse()
        first.addFilter(refuse)
        request(DockerflowMiddleware(hello))
        assert (len(refuse.seen), len(first), len(second)) == (1, 0, 1)

    def test_all_handlers_get_the_same_record(self, listen):
        """Handlers of the logger and of its parents get one record with all fields."""
        handlers = [listen("request.summary"), listen("request.summary"), listen("request")]
        root = listen(None)
        request(DockerflowMiddleware(hello, summary_extra=lambda _environ: {"host": "x"}))
        records = [*(handler[0] for handler in handlers)]
        records += [record for record in root if record.name == "request.summary"]
        assert len(records) == 4
        assert len({id(record) for record in records}) == 1
        assert isinstance(records[0], logging.LogRecord)
        assert (records[0].levelname, records[0].host) == ("INFO", "x")
        assert logging.Formatter("%(name)s %(code)s %(path)s").format(records[0]) == (
            "request.summary 200 /"
        )

    def test_a_handlers_level_is_respected(self, listen):
        """A handler for errors gets the summaries of exceptions only."""
        handler = listen("request.summary")
        handler.setLevel(logging.ERROR)

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/bad":
                raise LookupError("bad")
            return hello(environ, start_response)

        request(DockerflowMiddleware(app))
        with pytest.raises(LookupError):
            request(DockerflowMiddleware(app), "/bad")
        assert [record.path for record in handler] == ["/bad"]


class BrokenHandler(logging.Handler):
    """A handler that raises."""

    def handle(self, record):
        """Raise."""
        raise OSError("log disk full", record.name)


class TestBrokenLogging:
    """A logging setup that raises breaks neither the response nor the next request."""

    def test_a_broken_handler_is_logged(self, listen):
        """The exception of a handler is logged by another logger."""
        errors = listen("dockerflow_wsgi")
        handler = BrokenHandler()
        logger = logging.getLogger("request.summary")
        logger.addHandler(handler)
        try:
            app = DockerflowMiddleware(hello)
            listen("request.summary", logging.INFO)
            assert request(app).body == b"hello"
        finally:
            logger.removeHandler(handler)
        assert "could not be logged" in errors[0].getMessage()

    def test_standard_error_is_the_last_resort(self, capsys):
        """When every logger is broken, the exception is written to standard error."""
        handler = BrokenHandler()
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

    def test_a_process_without_standard_error_continues(self, monkeypatch, listen):
        """The response is complete even if a daemon has closed standard error."""
        handlers = [logging.getLogger(name) for name in ("dockerflow_wsgi", "request.summary")]
        broken = BrokenHandler()
        listen("request.summary", logging.INFO)
        monkeypatch.setattr(sys, "stderr", None)
        for logger in handlers:
            logger.addHandler(broken)
        try:
            assert request(DockerflowMiddleware(hello)).body == b"hello"
        finally:
            for logger in handlers:
                logger.removeHandler(broken)


class TestOddObjects:
    """An object that raises affects only its own field."""

    def test_number_that_raises(self, summaries):
        """An ``errno`` that is not a number becomes the usual one."""

        class Odd:
            def __int__(self):
                raise RuntimeError("odd")

        def app(environ, start_response):
            environ["dockerflow.summary"]["errno"] = Odd()
            return hello(environ, start_response)

        serve(DockerflowMiddleware(app))
        assert [record.errno for record in summaries] == [0]

    def test_very_long_exception(self, summaries):
        """The text of an exception is cut before credentials are searched in it."""

        def app(environ, start_response):
            raise ValueError("://b:c@d " * 500_000)

        started_s = time.monotonic()
        with pytest.raises(ValueError, match="b:c@d"):
            serve(DockerflowMiddleware(app))
        assert time.monotonic() - started_s < 10
        assert len(summaries[0].getMessage()) < 1000
        assert ":c@" not in summaries[0].getMessage()
