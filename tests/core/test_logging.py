"""mozlog: one line of valid JSON for each record."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import logging.handlers
import math
import os
import queue
import socket
import sys

import pytest
from odd_objects import Unshowable, cycle
from programs import run
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, request_id_context
from dockerflow_wsgi.logging import (
    JsonLogFormatter,
    MozlogFormatter,
    MozlogHandler,
    RequestIdLogFilter,
)

ENVELOPE = {"Timestamp", "Type", "Logger", "Hostname", "EnvVersion", "Severity", "Pid"}


def record(msg="text", *args, level=logging.INFO, exc_info=None, **extra):
    """Make a log record."""
    made = logging.LogRecord("acme.shop", level, __file__, 1, msg, args, exc_info)
    vars(made).update(extra)
    return made


def strict_json(text):
    """Parse ASCII JSON without a line break and without NaN."""
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


def failure():
    """Make an ``exc_info`` with a cause."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError('evil\n"line"') from error
    except ValueError:
        return sys.exc_info()


class Unreadable(dict):
    """A dict that cannot be read."""

    def items(self):
        """Raise."""
        raise RuntimeError("no")


class TestEnvelope:
    """The envelope is the one that the mozlog page describes."""

    def test_it_has_every_key_of_the_standard(self):
        """The envelope has every key of the standard, with the standard's types."""
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

    def test_the_logger_is_dockerflow_by_default(self):
        """``Logger`` is "Dockerflow" by default; a record can have another value."""
        assert formatted(record())["Logger"] == "Dockerflow"
        assert formatted(record(logger_name="own"))["Logger"] == "own"

    @pytest.mark.parametrize(
        ("level", "severity", "text"),
        [
            (60, 2, "CRITICAL"), (50, 2, "CRITICAL"), (45, 3, "ERROR"), (40, 3, "ERROR"),
            (30, 4, "WARNING"), (25, 6, "INFO"), (20, 6, "INFO"), (15, 7, "DEBUG"),
            (10, 7, "DEBUG"), (5, 7, "DEBUG"), (0, 7, "DEBUG"), (-5, 7, "DEBUG"),
        ],
    )  # fmt: skip
    def test_the_severity_is_the_one_of_syslog(self, level, severity, text):
        """A custom level has the severity of the next standard level below it."""
        line = formatted(record(level=level))
        assert line["Severity"] == severity
        assert "severity" not in line
        assert formatted(record(level=level), severity=True)["severity"] == text

    @pytest.mark.parametrize(
        "attributes",
        [
            {"levelno": None},
            {"levelno": None, "levelname": None},
            {"levelno": "INFO"},
            {"process": None},
            {"created": None},
            {"created": "2026-11-27"},
            {"created": float("nan")},
            {"pathname": None, "lineno": None, "args": None},
        ],
    )
    def test_a_record_made_from_a_dict_has_a_complete_line(self, attributes):
        """A record without level, process or time keeps its fields, and the line is complete."""
        made = logging.makeLogRecord({"name": "shop", "msg": "hello", "order": 5, **attributes})
        line = formatted(made)
        assert line.keys() == ENVELOPE | {"Fields"}
        assert line["Type"] == "shop"
        assert line["Fields"] == {"msg": "hello", "order": 5}
        assert {type(line[key]) for key in ("Timestamp", "Severity", "Pid")} == {int}

    def test_a_record_without_anything_is_a_line(self):
        """A record without any attribute is formatted, too."""
        assert formatted(logging.makeLogRecord({}))["Fields"] == {}
        assert formatted(logging.makeLogRecord({}), severity=True)["severity"] == "DEBUG"

    def test_it_has_the_values_of_its_record(self):
        """Logger, level and process are those of the record that is formatted."""
        formatter = MozlogFormatter(logger_name="acme")
        first, second = record(), record()
        second.name, second.levelno, second.process = "other", logging.ERROR, 7
        second.logger_name = "given"
        lines = [strict_json(formatter.format(made)) for made in (first, second, first)]
        assert [line["Type"] for line in lines] == [first.name, "other", first.name]
        assert [line["Severity"] for line in lines] == [6, 3, 6]
        assert [line["Pid"] for line in lines] == [os.getpid(), 7, os.getpid()]
        assert [line["Logger"] for line in lines] == ["acme", "given", "acme"]

    def test_a_logger_name_that_is_not_text_is_converted(self):
        """A ``logger_name`` that is not text is converted like any other value."""
        made = record("kept")
        made.logger_name = ["a"]
        assert formatted(made)["Logger"] == ["a"]
        assert fields(made) == {"msg": "kept"}

    def test_a_record_can_have_its_logger_name_as_a_property(self):
        """A property ``logger_name`` of a record class is read for each record."""

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

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_the_pid_is_that_of_a_forked_process(self):
        """A formatter made before a fork writes the child's PID (``logging.logProcesses`` off)."""
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


class TestFields:
    """``Fields`` has the message and what ``extra`` has set."""

    def test_none_is_left_out(self):
        """``None`` is left out, and so is an empty message."""
        assert fields(record("", uid=None)) == {}

    def test_a_dict_as_message_becomes_the_fields(self):
        """The items of a dict that is logged as the message become fields."""
        assert fields(record({"a": 1, "b": None}, n=2)) == {"a": 1, "n": 2}

    @pytest.mark.parametrize("args", [("x",), (1, 2)])
    def test_arguments_that_do_not_fit_are_shown(self, args):
        """A wrong logging call keeps the message and its arguments."""
        assert fields(record("%d items", *args))["msg"] == f"%d items {args}"

    def test_a_message_that_cannot_be_shown_is_still_a_line(self):
        """A message whose ``__str__`` raises is replaced by a placeholder."""
        assert "cannot be shown" in fields(record(Unshowable()))["msg"]

    def test_a_huge_message_is_written_completely(self):
        """A message of a million characters is not shortened."""
        assert len(fields(record("x" * 1_000_000))["msg"]) == 1_000_000

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ({"a": 1}, {"a": 1}),
            ({"a": {"b": {"c": 1}}}, {"a": '{"b": {"c": 1}}'}),
            ([{"a": {"b": 1}}], [{"a": '{"b": 1}'}]),
            ({"a": [{"b": 1}]}, {"a": ['{"b": 1}']}),
            ({"a": [[{"b": 1}], 2]}, {"a": [['{"b": 1}'], 2]}),
            ({"a": None}, {"a": None}),
        ],
    )
    def test_an_object_in_a_fields_object_becomes_a_json_string(self, value, shown):
        """A field can hold an object, but not an object within an object, as mozlog requires."""
        assert fields(record(value=value))["value"] == shown

    def test_stack_info_is_kept(self):
        """The text that ``stack_info=True`` adds becomes a field."""
        made = record("here")
        made.stack_info = "Stack (most recent call last):\n  File ..."
        assert fields(made)["stack_info"].startswith("Stack")

    def test_the_message_of_a_record_class_is_used(self):
        """The message comes from ``getMessage``, which a record class can override."""

        class MaskingRecord(logging.LogRecord):
            def getMessage(self):  # noqa: N802
                return super().getMessage().replace("s3cret", "***")

        made = MaskingRecord("acme", logging.INFO, __file__, 1, "password s3cret", (), None)
        assert fields(made) == {"msg": "password ***"}

    @pytest.mark.parametrize(
        ("odd", "kept"),
        [
            ({"n": 10**5000}, {"msg": "text"}),
            ({b"k": 1, ("a", 1): 1, math.nan: 1, None: 1}, {"msg": "text"}),
            ({"msg": Unreadable(a=1)}, {"msg": "{'a': 1}"}),
            ({"msg": {Unshowable(): 1, "b": 2}}, {"b": 2}),
            ({"extra": Unreadable(a=1)}, {"msg": "text"}),
        ],
    )
    def test_an_invalid_field_does_not_affect_the_others(self, odd, kept):
        """A field that JSON cannot represent affects neither the envelope nor other fields."""
        made = record()
        vars(made).update(user="ada", a=1)
        vars(made).update(odd)
        line = formatted(made)
        assert line.keys() == ENVELOPE | {"Fields"}
        assert {**kept, "user": "ada", "a": 1}.items() <= line["Fields"].items()
        assert "error" not in line["Fields"]


class TestExceptions:
    """An exception becomes the fields ``error`` and ``traceback``."""

    def test_an_exception_is_in_error_and_traceback(self):
        """The traceback includes the causes; line breaks are escaped."""
        found = fields(record("failed", exc_info=failure()))
        assert found["msg"] == "failed"
        assert found["error"] == "ValueError('evil\\n\"line\"')"
        assert "KeyError: 'inner'" in found["traceback"]
        assert found["traceback"].startswith("Traceback (most recent call last):")

    @pytest.mark.parametrize("exc_info", [(None, None, None), True, None])
    def test_without_an_exception_there_are_no_fields(self, exc_info):
        """``logger.exception`` outside an ``except`` block adds no fields."""
        assert fields(record("failed", exc_info=exc_info)) == {"msg": "failed"}

    def test_an_exception_whose_repr_raises_is_named(self):
        """An exception that cannot be shown is reported by its class."""

        class Mute(Exception):  # noqa: N818
            def __repr__(self):
                raise RuntimeError("mute")

        try:
            raise Mute
        except Mute:
            assert fields(record("failed", exc_info=sys.exc_info()))["error"] == "Mute"

    def test_an_exception_that_cannot_be_formatted_has_a_traceback(self):
        """Frames and exception are written even if the standard library cannot format them."""
        notes = property(lambda _: 1 / 0)
        try:
            raise type("Odd", (ValueError,), {"__notes__": notes})("bad")
        except ValueError:
            line = formatted(record("hi", exc_info=sys.exc_info()))
        assert line.keys() == ENVELOPE | {"Fields"}
        assert "in test_an_exception_that" in line["Fields"]["traceback"]
        assert "bad" in line["Fields"]["traceback"]
        assert line["Fields"]["error"] == "Odd('bad')"

    @pytest.mark.parametrize("left", ["\n", "\x1b[31mTraceback\x1b[0m", "Traceback ...", ""])
    def test_the_traceback_of_another_formatter_is_not_used(self, left):
        """The traceback is made from ``exc_info``, though ``exc_text`` has one in other colours."""
        made = record("failed", exc_info=failure())
        expected = fields(made)["traceback"]
        made.exc_text = left
        assert fields(made)["traceback"] == expected
        assert made.exc_text == left

    def test_a_traceback_without_its_exception_is_kept(self):
        """``exc_text`` is used when there is no ``exc_info``, as after pickling."""
        made = record("failed")
        made.exc_text = "Traceback ..."
        assert fields(made) == {"msg": "failed", "traceback": "Traceback ..."}

    @pytest.mark.parametrize("as_message", [False, True])
    def test_the_apps_fields_of_the_same_names_are_kept(self, as_message):
        """The app's ``error`` and ``traceback`` stay; the exception's get the next free name."""
        own = {"error": "PAY-0042", "traceback": "mine", "error_": "too", "order": 5}
        made = (
            record(own, exc_info=failure())
            if as_message
            else record("refused", exc_info=failure(), **own)
        )
        found = fields(made)
        assert own.items() <= found.items()
        assert found["error__"].startswith("ValueError(")
        assert found["traceback_"].startswith("Traceback")

    def test_the_apps_traceback_is_kept_next_to_exc_text(self):
        """A text in ``exc_text`` does not replace a field of the app either."""
        made = record("refused", traceback="mine")
        made.exc_text = "Traceback ..."
        assert fields(made) == {
            "msg": "refused", "traceback": "mine", "traceback_": "Traceback ...",
        }  # fmt: skip

    def test_a_field_of_none_does_not_take_the_name(self):
        """An ``error=None`` in ``extra`` is left out, so the exception has the name."""
        found = fields(record("refused", exc_info=failure(), error=None))
        assert found["error"].startswith("ValueError(")
        assert "error_" not in found


class TestGoogleCloud:
    """``severity=True`` adds the fields that Google Cloud's logging reads."""

    def test_it_adds_severity_and_message(self):
        """A plain record has ``severity`` and ``message`` in addition to mozlog's keys."""
        line = formatted(record("hello %s", "Ada", level=logging.WARNING), severity=True)
        assert line.keys() == ENVELOPE | {"Fields", "severity", "message"}
        assert (line["severity"], line["message"]) == ("WARNING", "hello Ada")
        assert line["Fields"] == {"msg": "hello Ada"}

    def test_it_adds_the_stack_trace_of_an_exception(self):
        """An exception has a ``stack_trace``, by which Error Reporting groups errors."""
        made = record("boom", level=logging.ERROR, exc_info=failure())
        line = formatted(made, severity=True)
        assert line["stack_trace"] == line["Fields"]["traceback"]
        assert line["stack_trace"].startswith("Traceback (most recent call last):")
        assert line["message"] == "boom"

    def test_it_adds_nothing_by_default(self):
        """Without the option, the line has mozlog's keys only."""
        made = record("boom", level=logging.ERROR, exc_info=failure())
        assert formatted(made).keys() == ENVELOPE | {"Fields"}

    def test_a_message_without_text_is_empty(self):
        """A dict as message, and an empty message, give an empty ``message``."""
        assert formatted(record({"a": 1}), severity=True)["message"] == ""
        assert formatted(record(""), severity=True)["message"] == ""


class TestSubclasses:
    """A subclass can override ``convert_record``."""

    def test_it_sees_the_objects_that_were_logged(self):
        """Fields are converted after ``convert_record``, so a subclass can look into them."""

        class Formatter(JsonLogFormatter):
            def convert_record(self, record):
                line = super().convert_record(record)
                scope = line["Fields"].pop("scope")
                line["Fields"].update(scope["state"]["log_context"])
                line["Fields"]["kind"] = type(scope["user"]).__name__
                return line

        class User:
            pass

        scope = {"state": {"log_context": {"client": "ada"}}, "user": User()}
        line = strict_json(Formatter().format(record("m", scope=scope)))
        assert line["Fields"] == {"msg": "m", "client": "ada", "kind": "User"}
        assert "log_context" in scope["state"]

    def test_its_error_is_redacted(self):
        """The text of an error in ``convert_record`` is ours, so it has no credentials."""

        class Broken(MozlogFormatter):
            def convert_record(self, record):
                raise ValueError("redis://:s3cr3t@cache")

        line = strict_json(Broken().format(record()))
        assert line["Fields"]["error"].endswith("ValueError('redis://:***@cache')")

    def test_its_result_is_converted(self):
        """The values that a subclass adds become valid JSON, too."""

        class Own(MozlogFormatter):
            def convert_record(self, record):
                line = super().convert_record(record)
                line["Fields"]["set"] = {float("nan")}
                line["Fields"]["cycle"] = cycle()
                line["Fields"]["deep"] = {"a": {"b": 1}}
                line["labels"] = {"a": {"b": 1}}
                line["trace"] = None
                return line

        line = strict_json(Own().format(record()))
        assert line["labels"] == {"a": '{"b": 1}'}
        assert "trace" not in line
        assert line["Fields"] == {
            "msg": "text",
            "set": ["nan"],
            "cycle": [1, "<list nested too deeply>"],
            "deep": {"a": '{"b": 1}'},
        }

    @pytest.mark.parametrize(
        ("returned", "line"),
        [
            ({"own": 1}, {"own": 1}),
            ({}, {}),
            ({"own": None}, {}),
            ({"Fields": {}}, {"Fields": {}}),
            ({"Fields": {"a": None}}, {"Fields": {}}),
            ({"own": None, "Fields": {"a": 1}}, {"Fields": {"a": 1}}),
            ({"own": 1, "Fields": None}, {"own": 1}),
            ({"Fields": [1]}, {"Fields": [1]}),
            ({"Fields": "text"}, {"Fields": "text"}),
        ],
    )
    def test_its_result_determines_the_line(self, returned, line):
        """The line has the members that ``convert_record`` returned, and no others."""

        class Own(MozlogFormatter):
            def convert_record(self, record):
                return returned

        before = str(returned)
        assert strict_json(Own().format(record())) == line
        assert str(returned) == before

    @pytest.mark.parametrize("result", [None, "text", 5])
    def test_a_wrong_result_loses_nothing(self, result):
        """When ``convert_record`` returns something unusable, message and envelope are written."""

        class Broken(MozlogFormatter):
            def convert_record(self, record):
                return result

        line = strict_json(Broken(logger_name="mine").format(record("kept")))
        assert line.keys() == ENVELOPE | {"Fields"}
        assert line["Fields"]["msg"] == "kept"

    def test_an_exception_loses_nothing(self):
        """When ``convert_record`` raises, the line has message, envelope and the exception."""

        class Broken(MozlogFormatter):
            def convert_record(self, record):
                raise LookupError(record.name)

        line = strict_json(Broken(logger_name="mine").format(record("kept", level=logging.ERROR)))
        assert line.keys() == ENVELOPE | {"Fields"}
        assert (line["Logger"], line["Severity"]) == ("mine", 3)
        assert line["Fields"]["msg"] == "kept"
        assert "LookupError('acme.shop')" in line["Fields"]["error"]

    def test_a_subclass_without_the_base_classs_init_loses_no_message(self):
        """A subclass that does not call ``__init__`` still writes the message as valid JSON."""

        class Uninitialized(MozlogFormatter):
            def __init__(self):
                pass

        line = strict_json(Uninitialized().format(record("kept")))
        assert line["Fields"]["msg"] == "kept"
        assert line["Type"] == "acme.shop"


class TestConfiguration:
    """`logging.config` builds the formatter, the handler and the filter."""

    @pytest.fixture(autouse=True)
    def configured(self):
        """Undo a logging configuration."""
        names = ["", "request.summary", "dockerflow_wsgi", "dockerflow_wsgi.checks", "acme"]
        loggers = [logging.getLogger(name) for name in names]
        saved = [(logger, logger.handlers[:], logger.level) for logger in loggers]
        others = [item for item in logging.root.manager.loggerDict.values() if item not in loggers]
        enabled = [item for item in others if not getattr(item, "disabled", True)]
        yield
        for logger, handlers, level in saved:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = True
            logger.disabled = False
        for logger in enabled:
            logger.disabled = False

    @staticmethod
    def configure(formatter, **options):
        """Configure the root logger with a formatter that writes to standard output."""
        console = {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "json",
        }
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"json": formatter},
                "handlers": {"console": console},
                "root": {"handlers": ["console"], "level": "INFO"},
                **options,
            }
        )

    def test_the_example_of_the_reference_documents_works(self, capsys):
        """The documents' ``dictConfig`` works with the import root changed."""
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
                "loggers": {
                    "request.summary": {"handlers": ["console", "mozlog"], "level": "DEBUG"}
                },
            }
        )
        request(DockerflowMiddleware(hello), HTTP_X_REQUEST_ID="r-1")
        lines = [strict_json(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["Logger"] for line in lines] == ["myproject", "second"]
        assert [line["Type"] for line in lines] == ["request.summary"] * 2
        assert [line["Fields"]["rid"] for line in lines] == ["r-1"] * 2

    CLASS = "dockerflow_wsgi.logging.MozlogFormatter"

    @pytest.mark.parametrize(
        ("formatter", "logger"),
        [
            ({"class": CLASS}, "Dockerflow"),
            ({"class": CLASS, "validate": False}, "Dockerflow"),
            ({"class": CLASS, "validate": True, "format": "json"}, "Dockerflow"),
            ({"class": CLASS, "format": "{message}", "style": "%"}, "Dockerflow"),
            ({"class": CLASS, "format": "x", "datefmt": "%Y", "style": "{"}, "Dockerflow"),
            ({"class": CLASS, "format": "$x", "style": "$", "validate": False}, "Dockerflow"),
            ({"class": CLASS, "defaults": {"a": 1}}, "Dockerflow"),
            ({"()": CLASS, "logger_name": "acme"}, "acme"),
            ({"()": CLASS, "format": "json", "logger_name": "acme"}, "acme"),
            ({"()": CLASS, "fmt": "json", "validate": False, "logger_name": "acme"}, "acme"),
            ({"()": CLASS, "defaults": {"a": 1}, "severity": False}, "Dockerflow"),
        ],
    )
    def test_every_form_of_a_formatter_is_accepted(self, capsys, formatter, logger):
        """The arguments that ``dictConfig`` passes are accepted and do not change the line."""
        self.configure(formatter)
        logging.getLogger("acme").warning("low")
        line = strict_json(capsys.readouterr().out.strip())
        assert line["Logger"] == logger
        assert line["Fields"] == {"msg": "low"}

    @pytest.mark.parametrize("disable", [True, False])
    def test_file_config_works(self, capsys, disable):
        """The older form of a configuration, an INI file, works as well."""
        ini = """
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
            format = {not a percent format}
            datefmt = %%Y
            """
        text = "\n".join(line.strip() for line in ini.splitlines())
        logging.config.fileConfig(io.StringIO(text), disable_existing_loggers=disable)
        request(DockerflowMiddleware(hello))
        lines = [strict_json(line) for line in capsys.readouterr().out.splitlines()]
        assert [(line["Logger"], line["Type"]) for line in lines] == [
            ("Dockerflow", "request.summary"),
            ("acme", "request.summary"),
        ]

    @pytest.mark.parametrize("existing", [True, False])
    def test_disabled_existing_loggers_are_enabled_by_a_new_middleware(
        self, capsys, tmp_path, existing
    ):
        """A ``dictConfig`` with its default silences nothing if the middleware is built later."""
        if existing:
            DockerflowMiddleware(hello)
        self.configure({"class": self.CLASS}, disable_existing_loggers=True)
        assert logging.getLogger("dockerflow_wsgi.checks").disabled
        app = DockerflowMiddleware(hello, version_path=tmp_path)

        @app.check
        def broken():
            raise LookupError

        for path in ("/", "/__version__", "/__heartbeat__"):
            request(app, path)
        lines = [strict_json(line) for line in capsys.readouterr().out.splitlines()]
        found = [line["Type"] for line in lines]
        assert found.count("request.summary") == 3
        assert {"dockerflow_wsgi", "dockerflow_wsgi.checks"} <= {*found}

    def test_a_configuration_before_the_import_silences_nothing(self):
        """Loggers that do not exist yet are not affected by ``disable_existing_loggers``."""
        code = f"""
import logging.config
logging.config.dictConfig({{
    "version": 1,
    "disable_existing_loggers": True,
    "formatters": {{"mozlog": {{"class": {self.CLASS!r}, "validate": False}}}},
    "handlers": {{"out": {{
        "class": "logging.StreamHandler", "formatter": "mozlog", "stream": "ext://sys.stdout"
    }}}},
    "root": {{"handlers": ["out"], "level": "INFO"}},
}})
from dockerflow_wsgi import DockerflowMiddleware
app = DockerflowMiddleware(lambda environ, start_response: start_response("200 OK", []) and [])
for path in ("/", "/__version__"):
    list(app({{"REQUEST_METHOD": "GET", "PATH_INFO": path}}, lambda *arguments: print))
"""
        lines = run([sys.executable, "-c", code], check=True).stdout.splitlines()
        assert [(line["Type"], line["Logger"]) for line in map(strict_json, lines)] == [
            ("request.summary", "Dockerflow"),
            ("dockerflow_wsgi", "Dockerflow"),
            ("request.summary", "Dockerflow"),
        ]

    def test_the_old_name_is_the_same_formatter(self):
        """``JsonLogFormatter`` is another name of the formatter."""
        assert JsonLogFormatter is MozlogFormatter

    @pytest.mark.parametrize("unused", ["json", "{message}", "%", '{"service": "shop"}', ""])
    def test_a_format_is_ignored(self, unused):
        """Any text is accepted as format, because it is not used."""
        assert strict_json(MozlogFormatter(unused).format(record()))["Fields"] == {"msg": "text"}
        MozlogFormatter(unused, unused, "nonsense", False, defaults={})

    def test_the_logger_name_can_be_the_fourth_argument(self):
        """Code written for version 1.0 passes ``logger_name`` in fourth place."""
        line = strict_json(MozlogFormatter(None, None, "%", "acme").format(record()))
        assert line["Logger"] == "acme"


class TestHandler:
    """`MozlogHandler` writes lines to a stream."""

    def test_it_writes_to_stdout(self, capsys):
        """The handler writes one line per record; its name is the envelope's ``Logger``."""
        handler = MozlogHandler(name="acme")
        handler.handle(record("one"))
        handler.handle(record("two"))
        lines = [strict_json(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["Fields"]["msg"] for line in lines] == ["one", "two"]
        assert {line["Logger"] for line in lines} == {"acme"}

    def test_it_writes_to_a_stream_of_any_encoding(self):
        """Lines are ASCII, so that every text stream takes them."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, "ascii", write_through=True)
        MozlogHandler(stream).handle(record("é\ud800"))
        assert strict_json(raw.getvalue().decode().rstrip("\n"))["Fields"]["msg"] == "é\ud800"


class TestRequestIdLogFilter:
    """`RequestIdLogFilter` adds the current request ID as ``rid``."""

    def test_it_adds_the_id_during_a_request(self, listen):
        """Records logged in a request get its ID; a ``rid`` of the app stays."""
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

    def test_it_adds_the_id_of_a_request_id_context(self, listen):
        """Records of a background job get the ID that `request_id_context` has set."""
        handler = listen("acme")
        handler.addFilter(RequestIdLogFilter())
        with request_id_context("job-1"):
            logging.getLogger("acme").info("inside")
        logging.getLogger("acme").info("after")
        assert [made.rid for made in handler] == ["job-1", None]

    def test_a_queue_handler_keeps_the_id_for_its_listener(self):
        """On a ``QueueHandler``, the filter adds the ID before another thread formats."""
        stream = io.StringIO()
        records = queue.SimpleQueue()
        handler = logging.handlers.QueueHandler(records)
        handler.addFilter(RequestIdLogFilter())
        logger = logging.getLogger("acme")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        listener = logging.handlers.QueueListener(records, MozlogHandler(stream))
        listener.start()

        def app(environ, start_response):
            logger.info("in the view")
            return hello(environ, start_response)

        try:
            request(DockerflowMiddleware(app), HTTP_X_REQUEST_ID="r-1")
        finally:
            listener.stop()
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
        line = strict_json(stream.getvalue().strip())
        assert line["Fields"] == {"msg": "in the view", "rid": "r-1"}
