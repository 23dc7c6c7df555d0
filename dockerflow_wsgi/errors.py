"""The package's exceptions, and what keeps other exceptions from breaking a request."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from .redaction import redact, truncate

T = TypeVar("T")


class DockerflowError(Exception):
    """The base class of the package's exceptions."""


class ConfigurationError(DockerflowError, ValueError):
    """The configuration is wrong; raised when a middleware or an extension is built.

    Args:
        problems: One text per problem. For a setting: its name, its value, where the value was
            found, and what is expected.

    Attributes:
        problems: The same texts, as a tuple.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(map(redact, problems))
        count = len(self.problems)
        title = f"The configuration has {count} problem{'' if count == 1 else 's'}:"
        super().__init__("\n  ".join([title, *self.problems]))


class ListenError(DockerflowError, OSError):
    """The endpoints cannot be served at an address; the text has the reason and the remedy."""


class NoThreadError(DockerflowError, RuntimeError):
    """The process can start no more threads."""


class VersionError(DockerflowError, ValueError):
    """There is a version object, but it cannot be served.

    The text is shown to clients, so it has the base name of the file only.

    Attributes:
        path: The full path of the file, for the log; ``""`` without a file.
    """

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.path = path


def call_safely(name: str, function: Callable[..., T], *arguments: object, default: T) -> T:
    """Call a hook of the user; if it raises, log that under its name and return a default."""
    try:
        return function(*arguments)
    except Exception as error:  # a hook must not break the request
        log_exception(f"{name} raised an exception, which is ignored", error)
        return default


def log_exception(text: str, error: BaseException) -> None:
    """Log an exception as an error of the logger ``dockerflow_wsgi``.

    Never raises: if logging itself is broken, the exception is written to stderr.
    """
    try:
        target = logging.getLogger("dockerflow_wsgi")
        log_redacted(target, logging.ERROR, text, format_traceback(error))
    except Exception as logging_error:  # there is no other place to report it
        with contextlib.suppress(Exception):
            sys.stderr.write(f"{format_traceback(logging_error)}\n")


def log_redacted(
    target: logging.Logger,
    level: int,
    text: str,
    traceback_text: str | None = None,
    **fields: object,
) -> None:
    """Log a text, and the result of `format_traceback`, without credentials.

    The traceback is in the record's ``exc_text``: a formatter would show credentials in
    ``exc_info``.
    """
    if target.isEnabledFor(level):
        record = target.makeRecord(target.name, level, __file__, 0, redact(text), (), None)
        record.exc_text = traceback_text
        vars(record).update(fields)
        target.handle(record)


def format_traceback(error: BaseException) -> str:
    """Format an exception with its causes and its traceback, without credentials.

    The text of each exception is shortened to 4,000 characters.
    """
    try:
        parts = traceback.format_exception(error)
    except Exception:  # a method of the exception raised
        return f"{type(error).__name__} (its traceback cannot be formatted)"
    return "\n".join(redact(truncate(part.rstrip("\n"))) for part in parts).rstrip()


@contextlib.contextmanager
def require_extra(name: str) -> Iterator[None]:
    """Add the command that installs an extra to an ``ImportError`` in this context."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{error}: install it with  pip install 'dockerflow-wsgi[{name}]'"
        ) from error
