"""Exceptions, and the functions that keep them from breaking a request."""

from __future__ import annotations

import logging
import sys

import pytest
from odd_objects import UntraceableError

from dockerflow_wsgi import ConfigurationError
from dockerflow_wsgi.errors import (
    DockerflowError,
    ListenError,
    VersionError,
    call_safely,
    format_traceback,
    log_exception,
    log_redacted,
    require_extra,
)
from dockerflow_wsgi.import_string import TargetError


class TestExceptions:
    """The package's exceptions have a common base, and a standard one each."""

    @pytest.mark.parametrize(
        ("kind", "standard"),
        [
            (ConfigurationError, ValueError),
            (VersionError, ValueError),
            (TargetError, ValueError),
            (ListenError, OSError),
        ],
    )
    def test_they_have_a_standard_base_class(self, kind, standard):
        """Code that catches the standard exception catches the package's, too."""
        assert issubclass(kind, DockerflowError)
        assert issubclass(kind, standard)

    def test_a_configuration_error_lists_its_problems(self):
        """The text has a title and a line per problem."""
        error = ConfigurationError(iter(["a = 1: expected 2", "b = 3: expected 4"]))
        assert error.problems == ("a = 1: expected 2", "b = 3: expected 4")
        assert str(error).splitlines() == [
            "The configuration has 2 problems:",
            "  a = 1: expected 2",
            "  b = 3: expected 4",
        ]

    def test_a_target_error_has_reason_and_remedy(self):
        """The text is one line for a terminal."""
        assert (
            str(TargetError("It cannot be imported", "Fix it")) == "It cannot be imported. Fix it"
        )
        assert str(TargetError("It raised.", "Fix it")) == "It raised. Fix it"


class TestCallSafely:
    """``call_safely`` calls a user's function and logs its exceptions."""

    def test_it_returns_the_result(self, listen):
        """The result of the function is returned, and nothing is logged."""
        log = listen("dockerflow_wsgi")
        assert call_safely("hook", max, 1, 2, default=0) == 2
        assert len(log) == 0

    def test_an_exception_gives_the_default(self, listen):
        """The exception is logged as one error with the hook's name and the traceback."""
        log = listen("dockerflow_wsgi")
        assert call_safely("hook", int, "x", default=7) == 7
        (record,) = log
        assert record.levelno == logging.ERROR
        assert record.getMessage() == "hook raised an exception, which is ignored"
        assert "ValueError: invalid literal" in record.exc_text

    def test_system_exit_is_not_caught(self):
        """``SystemExit`` is not caught."""
        with pytest.raises(SystemExit):
            call_safely("hook", sys.exit, default=None)


class TestLogException:
    """``log_exception`` logs an exception without credentials, and never raises."""

    def test_credentials_are_redacted(self, listen):
        """Neither the text nor the traceback has a password."""
        log = listen("dockerflow_wsgi")
        log_exception("redis://:s3cret@db failed", ValueError("password=s3cret"))
        (record,) = log
        assert "s3cret" not in str(vars(record))
        assert record.getMessage() == "redis://:***@db failed"
        assert record.exc_text == "ValueError: password=***"

    def test_an_exception_that_cannot_be_formatted_is_named(self, listen):
        """The log has the class of an exception whose attributes raise."""
        log = listen("dockerflow_wsgi")
        log_exception("failed", UntraceableError())
        assert "UntraceableError" in log[0].exc_text

    def test_broken_logging_is_written_to_stderr(self, capsys, monkeypatch):
        """The exception of a broken handler is written to standard error, if there is one."""

        class Broken(logging.Handler):
            def handle(self, record):
                raise OSError("log disk full", record.name)

        handler = Broken()
        logger = logging.getLogger("dockerflow_wsgi")
        logger.addHandler(handler)
        try:
            log_exception("failed", ValueError("x"))
            assert "log disk full" in capsys.readouterr().err
            monkeypatch.setattr(sys, "stderr", None)
            log_exception("failed", ValueError("x"))
        finally:
            logger.removeHandler(handler)

    def test_the_causes_are_formatted(self):
        """A traceback has the exception's causes."""
        try:
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise ValueError("outer") from error
        except ValueError as error:
            text = format_traceback(error)
        assert text.startswith("Traceback (most recent call last):")
        assert "KeyError: 'inner'" in text
        assert text.endswith("ValueError: outer")


class TestLogRedacted:
    """``log_redacted`` logs a text with further fields."""

    def test_the_record_has_the_fields(self, listen):
        """Fields become attributes, and a ``%`` in the text is not a format."""
        log = listen("acme")
        log_redacted(logging.getLogger("acme"), logging.WARNING, "100 % done", check="db")
        (record,) = log
        assert (record.getMessage(), record.check, record.exc_text) == ("100 % done", "db", None)

    def test_nothing_is_logged_below_the_loggers_level(self, listen):
        """A record below the level is not logged."""
        log = listen("acme", logging.ERROR)
        log_redacted(logging.getLogger("acme"), logging.WARNING, "text")
        assert len(log) == 0


class TestRequireExtra:
    """``require_extra`` names the command that installs a missing package."""

    def test_require_extra_names_the_command(self):
        """An ``ImportError`` in the context gets the command that installs the extra."""
        match = (
            r"No module named 'nowhere': install it with  pip install 'dockerflow-wsgi\[redis\]'"
        )
        with pytest.raises(ImportError, match=match) as caught, require_extra("redis"):
            import nowhere  # noqa: F401
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)

    def test_require_extra_passes_other_exceptions(self):
        """Exceptions other than ``ImportError`` are raised unchanged."""
        with pytest.raises(LookupError, match="other"), require_extra("redis"):
            raise LookupError("other")
