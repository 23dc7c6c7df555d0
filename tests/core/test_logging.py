"""mozlog: one line of valid JSON for each record, whatever it holds."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import io
import json
import logging
import logging.config
import math
import os
import pathlib
import socket
import sys
import time
import uuid

import pytest
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, jsonsafe
from dockerflow_wsgi.logging import (
    JsonLogFormatter,
    MozlogFormatter,
    MozlogHandler,
    RequestIdLogFilter,
)


def record(msg="text", *args, level=logging.INFO, exc_info=None, **extra):
    """Make a log record."""
    made = logging.LogRecord("acme.shop", level, __file__, 1, msg, args, exc_info)
    vars(made).update(extra)
    return made


def strict_json(text):
    """Parse JSON that has no line break and no NaN."""
    assert "\n" not in text
    assert text.isascii()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def formatted(made, **options):
    """Format a record and parse the line."""
    return strict_json(MozlogFormatter(**options).format(made))


def fields(made, **options):
    """Format a record and return its fields."""
    return formatted(made, **options)["Fields"]


def test_the_envelope_is_the_standards():
    """Every key of the standard, with its type."""
    made = record("hello %s", "Ada", n=1)
    assert formatted(made, logger_name="acme") == {
        "Timestamp": int(made.created * 1e9),
        "Type": "acme.shop",
        "Logger": "acme",
        "Hostname": socket.gethostname(),
        "EnvVersion": "2.0",
        "Severity": 6,
        "Pid": os.getpid(),
        "Fields": {"msg": "hello Ada", "n": 1},
    }


def test_the_logger_is_called_dockerflow_by_default():
    """The name in the reference documents."""
    assert formatted(record())["Logger"] == "Dockerflow"
    assert formatted(record(logger_name="own"))["Logger"] == "own"


@pytest.mark.parametrize(
    ("level", "severity", "text"),
    [
        (60, 2, "CRITICAL"), (50, 2, "CRITICAL"), (45, 3, "ERROR"), (40, 3, "ERROR"),
        (30, 4, "WARNING"), (25, 6, "INFO"), (20, 6, "INFO"), (15, 7, "DEBUG"), (10, 7, "DEBUG"),
        (5, 7, "DEBUG"), (0, 7, "DEBUG"), (-5, 7, "DEBUG"),
    ],
)  # fmt: skip
def test_severity_is_syslogs(level, severity, text):
    """Custom levels are mapped by their range; Google Cloud's text comes on demand."""
    line = formatted(record(level=level))
    assert line["Severity"] == severity
    assert "severity" not in line
    assert formatted(record(level=level), severity=True)["severity"] == text


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


class Unshowable:
    """An object whose ``__repr__`` and ``__str__`` raise."""

    def __repr__(self):
        raise RuntimeError("no")


def cycle():
    """Make a list that contains itself."""
    itself = [1]
    itself.append(itself)
    return itself


def deep():
    """Nest dicts a thousand deep."""
    value = {}
    for _ in range(1000):
        value = {"d": value}
    return value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        (5, 5),
        (True, True),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"caf\xc3\xa9\xff", "café\\xff"),
        (bytearray(b"x"), "x"),
        ("\ud800", "\ud800"),
        ("a\nb\u2028", "a\nb\u2028"),
        (10**700, 10**700),
        ([10**5000], [hex(10**5000)]),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        ([1, float("nan")], [1, "nan"]),
        (Colour.RED, "red"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (decimal.Decimal("1.10"), "1.10"),
        (pathlib.PurePosixPath("/a"), "/a"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (ValueError("x"), "x"),
        (range(2), "range(0, 2)"),
        (Unshowable(), "<Unshowable that cannot be shown>"),
        (cycle(), [1, "<list nested too deeply>"]),
        ({"a": 1}, {"a": 1}),
        ({5: 1, (1, 2): 2, None: 3}, {"5": 1, "(1, 2)": 2, "None": 3}),
        ({"a": {"b": {"c": 1}}}, {"a": '{"b": {"c": 1}}'}),
        ([{"a": {"b": 1}}], [{"a": '{"b": 1}'}]),
        ({"a": [{"b": 1}]}, {"a": ['{"b": 1}']}),
        ({"a": float("inf"), "b": None}, {"a": "inf", "b": None}),
        ({"a": Unshowable()}, {"a": "<Unshowable that cannot be shown>"}),
    ],
)
def test_any_value_is_valid_json(value, shown):
    """Text where JSON has no type; text where mozlog allows no deeper object."""
    assert fields(record(value=value))["value"] == shown


def test_deep_and_huge_values_are_valid_json():
    """Depth ends in text, length does not end."""
    assert fields(record(value=deep()))["value"]["d"].startswith('{"d"')
    assert len(fields(record("x" * 1_000_000))["msg"]) == 1_000_000


def test_linked_data_costs_no_more_than_its_budget():
    """Ten dicts that all refer to each other have a million paths."""
    people = [{"name": number} for number in range(12)]
    for one in people:
        one["friends"] = [other for other in people if other is not one]
    started_s = time.monotonic()
    line = MozlogFormatter().format(record(who=people[0]))
    assert time.monotonic() - started_s < 5
    assert len(line) < 1_000_000
    assert "too large" in line
    strict_json(line)


def test_none_is_left_out():
    """The standard has no null among the fields; an empty message is none either."""
    assert fields(record("", uid=None)) == {}


def test_a_dict_as_message_becomes_the_fields():
    """Structured logging without ``extra``."""
    assert fields(record({"a": 1, "b": None}, n=2)) == {"a": 1, "n": 2}


@pytest.mark.parametrize("args", [("x",), (1, 2)])
def test_arguments_that_do_not_fit_are_shown(args):
    """A wrong logging call loses nothing."""
    message = fields(record("%d items", *args))["msg"]
    assert message == f"%d items {args}"


def test_a_message_that_cannot_be_shown_is_still_a_line():
    """Whatever ``__str__`` does."""
    assert "cannot be shown" in fields(record(Unshowable()))["msg"]


def failure():
    """Make an ``exc_info`` with a cause."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError('evil\n"line"') from error
    except ValueError:
        return sys.exc_info()


def test_an_exception_gives_error_and_traceback():
    """With its causes, and its line breaks escaped."""
    found = fields(record("failed", exc_info=failure()))
    assert found["msg"] == "failed"
    assert found["error"] == "ValueError('evil\\n\"line\"')"
    assert "KeyError: 'inner'" in found["traceback"]
    assert found["traceback"].startswith("Traceback (most recent call last):")


@pytest.mark.parametrize("exc_info", [(None, None, None), True, None])
def test_no_exception_gives_neither(exc_info):
    """``logger.exception`` outside of an ``except`` block."""
    assert fields(record("failed", exc_info=exc_info)) == {"msg": "failed"}


def test_an_exception_that_cannot_be_shown_is_named():
    """Even its ``repr`` may raise."""

    class Mute(Exception):  # noqa: N818
        def __repr__(self):
            raise RuntimeError("mute")

    try:
        raise Mute
    except Mute:
        assert fields(record("failed", exc_info=sys.exc_info()))["error"] == "Mute"


def test_a_ready_made_traceback_is_kept():
    """Such as that of a check, from which the passwords are gone."""
    made = record("failed")
    made.exc_text = "Traceback ..."
    assert fields(made) == {"msg": "failed", "traceback": "Traceback ..."}


def test_a_ready_made_traceback_is_kept_beside_its_exception():
    """As `logging` does: another formatter, or a filter that masks, has made it."""
    made = record("failed", exc_info=failure())
    made.exc_text = "Traceback ..."
    assert fields(made)["traceback"] == "Traceback ..."


class Unreadable(dict):
    """A dict that cannot be read."""

    def items(self):
        """Raise."""
        raise RuntimeError("no")


def noted(notes):
    """Make an ``exc_info`` whose traceback Python cannot format."""
    try:
        raise type("Odd", (ValueError,), {"__notes__": notes})("bad")
    except ValueError:
        return sys.exc_info()


def with_names(made, *names):
    """Give a record attributes of any names."""
    vars(made).update(dict.fromkeys(names, 1))
    return made


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        (lambda: record("hi", user="ada", n=10**5000), {"msg": "hi", "user": "ada"}),
        (lambda: with_names(record("hi", user="ada"), b"k", ("a", 1), math.nan), {"user": "ada"}),
        (lambda: record(Unreadable(a=1), user="ada"), {"msg": "{'a': 1}", "user": "ada"}),
        (lambda: record("hi", exc_info=noted(property(lambda _: 1 / 0))), {"msg": "hi"}),
    ],
)
def test_what_is_odd_costs_nothing_of_the_rest(made, kept):
    """Neither the envelope, by whose severity alerts go, nor the other fields."""
    odd = made()
    line = strict_json(MozlogFormatter().format(odd))
    assert {*line} >= {"Timestamp", "Type", "Logger", "Hostname", "EnvVersion", "Severity", "Pid"}
    assert kept.items() <= line["Fields"].items()
    assert "convert_record raised" not in line["Fields"].get("error", "")
    if odd.exc_info:
        assert "in noted" in line["Fields"]["traceback"]
        assert "bad" in line["Fields"]["traceback"]


def test_a_formatter_that_raises_costs_no_severity():
    """A subclass's mistake must not hide an error from who looks for it."""

    class Broken(MozlogFormatter):
        def convert_record(self, record):
            raise LookupError("mine")

    line = strict_json(Broken(logger_name="mine").format(record("hi")))
    assert (line["Logger"], line["Fields"]["msg"]) == ("mine", "hi")
    assert line["Severity"] == strict_json(MozlogFormatter().format(record("hi")))["Severity"]


def test_stack_info_is_kept():
    """As it was asked for."""
    made = record("here")
    made.stack_info = "Stack (most recent call last):\n  File ..."
    assert fields(made)["stack_info"].startswith("Stack")


def test_the_envelope_is_each_records_own():
    """Though its text is kept: logger, level, process and names may differ from line to line."""
    formatter = MozlogFormatter(logger_name="acme")
    first, second = record(), record()
    second.name, second.levelno, second.process = "other", logging.ERROR, 7
    second.logger_name = "given"
    lines = [strict_json(formatter.format(made)) for made in (first, second, first)]
    formatter.hostname = "moved"
    formatter.logger_name = "renamed"
    lines.append(strict_json(formatter.format(first)))
    assert [line["Type"] for line in lines] == [first.name, "other", first.name, first.name]
    assert [line["Severity"] for line in lines] == [6, 3, 6, 6]
    assert [line["Pid"] for line in lines] == [os.getpid(), 7, os.getpid(), os.getpid()]
    assert [line["Logger"] for line in lines] == ["acme", "given", "acme", "renamed"]
    assert [line["Hostname"] == "moved" for line in lines] == [False, False, False, True]


def test_loggers_named_after_data_do_not_fill_the_memory():
    """A thousand of them leave a hundred envelopes at most."""
    formatter = MozlogFormatter()
    for number in range(1000):
        made = record()
        made.name = f"user.{number}"
        assert strict_json(formatter.format(made))["Type"] == made.name
    assert len(formatter._envelopes) <= 100


def test_an_odd_logger_name_does_not_lose_the_line():
    """Whatever it is, the envelope has its text."""
    made = record("kept")
    made.logger_name = ["a", "list"]
    assert formatted(made)["Logger"] == "['a', 'list']"


def test_a_record_may_tell_its_logger_name_by_a_property():
    """Each line has that of its own record, though envelopes are kept."""

    class TenantRecord(logging.LogRecord):
        @property
        def logger_name(self):
            return self.tenant

    formatter = MozlogFormatter()
    names = []
    for tenant in ("a", "b"):
        made = TenantRecord("acme", logging.INFO, __file__, 1, "text", (), None)
        made.tenant = tenant
        names.append(strict_json(formatter.format(made))["Logger"])
    assert names == ["a", "b"]


def test_the_pid_is_the_forks_own():
    """Also where records do not tell it (``logging.logProcesses``), and envelopes are kept."""
    formatter = MozlogFormatter()
    made = record()
    made.process = None
    assert strict_json(formatter.format(made))["Pid"] == os.getpid()
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.write(sender, formatter.format(made).encode())
        os._exit(0)
    os.close(sender)
    with open(receiver, encoding="utf-8") as pipe:
        assert strict_json(pipe.read())["Pid"] == child
    os.waitpid(child, 0)


def test_a_records_own_message_is_taken():
    """As from a record factory that keeps secrets out of it."""

    class MaskingRecord(logging.LogRecord):
        def getMessage(self):  # noqa: N802
            return super().getMessage().replace("s3cret", "***")

    made = MaskingRecord("acme", logging.INFO, __file__, 1, "password s3cret", (), None)
    assert fields(made) == {"msg": "password ***"}


def test_convert_record_may_be_replaced_at_any_time():
    """On the formatter itself, or for a while on its class."""
    formatter = MozlogFormatter()
    formatter.format(record())
    formatter.convert_record = lambda made: {"Own": made.name}
    assert strict_json(formatter.format(record())) == {"Own": "acme.shop"}


def test_a_subclass_can_convert_records_its_own_way():
    """Its dict is what is written, however odd."""

    class Own(MozlogFormatter):
        def convert_record(self, record):
            line = super().convert_record(record)
            line["Fields"]["set"] = {float("nan")}
            line["Fields"]["cycle"] = cycle()
            return line

    assert strict_json(Own().format(record()))["Fields"] == {
        "msg": "text",
        "set": ["nan"],
        "cycle": [1, "<list nested too deeply>"],
    }


def test_a_subclass_that_raises_loses_nothing():
    """The message is written all the same, with what went wrong."""

    class Broken(MozlogFormatter):
        def convert_record(self, record):
            raise LookupError(record.name)

    line = strict_json(Broken().format(record("kept")))
    assert line["Fields"]["msg"] == "kept"
    assert "LookupError" in line["Fields"]["error"]


def test_the_handler_writes_to_stdout(capsys):
    """One line for each record; the name is the envelope's Logger."""
    handler = MozlogHandler(name="acme")
    handler.handle(record("one"))
    handler.handle(record("two"))
    lines = [strict_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["Fields"]["msg"] for line in lines] == ["one", "two"]
    assert {line["Logger"] for line in lines} == {"acme"}


def test_the_handler_writes_to_a_stream():
    """Any text stream, of any encoding."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", write_through=True)
    MozlogHandler(stream).handle(record("é\ud800"))
    assert strict_json(raw.getvalue().decode().rstrip("\n"))["Fields"]["msg"] == "é\ud800"


@pytest.fixture
def configured():
    """Undo a logging configuration."""
    names = ["", "request.summary"]
    saved = [
        (logging.getLogger(n), logging.getLogger(n).handlers[:], logging.getLogger(n).level)
        for n in names
    ]
    yield
    for logger, handlers, level in saved:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = True


@pytest.mark.usefixtures("configured")
def test_it_is_configured_by_dict_config(capsys):
    """As the reference documents have it, with the import root changed."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": "dockerflow_wsgi.logging.JsonLogFormatter",
                    "logger_name": "myproject",
                }
            },
            "filters": {"rid": {"()": "dockerflow_wsgi.logging.RequestIdLogFilter"}},
            "handlers": {
                "console": {
                    "level": "DEBUG",
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stdout",
                    "formatter": "json",
                    "filters": ["rid"],
                },
                "mozlog": {"class": "dockerflow_wsgi.logging.MozlogHandler", "name": "second"},
            },
            "loggers": {"request.summary": {"handlers": ["console", "mozlog"], "level": "DEBUG"}},
        }
    )
    request(DockerflowMiddleware(hello), HTTP_X_REQUEST_ID="r-1")
    lines = [strict_json(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["Logger"] == "myproject"
    assert [line["Type"] for line in lines] == ["request.summary"] * 2
    assert [line["Fields"]["rid"] for line in lines] == ["r-1"] * 2


INI = """
[loggers]
keys = root
[handlers]
keys = stdout,mozlog
[formatters]
keys = json
[logger_root]
level = INFO
handlers = stdout,mozlog
[handler_stdout]
class = StreamHandler
args = (sys.stdout,)
formatter = json
[handler_mozlog]
class = dockerflow_wsgi.logging.MozlogHandler
args = (sys.stdout, "acme")
[formatter_json]
class = dockerflow_wsgi.logging.MozlogFormatter
"""


@pytest.mark.usefixtures("configured")
def test_it_is_configured_by_file_config(capsys):
    """The older form, as an INI file."""
    logging.config.fileConfig(io.StringIO(INI), disable_existing_loggers=False)
    logging.getLogger("acme").warning("low")
    lines = [strict_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["Logger"], line["Severity"]) for line in lines] == [
        ("Dockerflow", 4),
        ("acme", 4),
    ]


def test_the_old_name_is_the_same_formatter():
    """Without any warning."""
    assert JsonLogFormatter is MozlogFormatter


def test_the_filter_adds_the_request_id(listen):
    """To every record logged while a request is served; None outside."""
    handler = listen("acme")
    handler.addFilter(RequestIdLogFilter())
    logger = logging.getLogger("acme")

    def app(environ, start_response):
        logger.info("inside")
        return hello(environ, start_response)

    logger.info("before")
    request(DockerflowMiddleware(app), HTTP_X_REQUEST_ID="r-1")
    logger.info("own", extra={"rid": "own"})
    assert [made.rid for made in handler] == [None, "r-1", "own"]
    assert "rid" not in fields(handler[0])
    assert fields(handler[1])["rid"] == "r-1"


def test_without_the_c_encoder_the_line_is_the_same(monkeypatch):
    """As in PyPy, or in a Python whose JSON module is made otherwise."""
    made = record("caf\u00e9", number=1.5, nested={"a": [True, None]})
    expected = MozlogFormatter().format(made)
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    monkeypatch.setattr("dockerflow_wsgi.logging.encode", jsonsafe._make_encode())
    assert MozlogFormatter().format(made) == expected
