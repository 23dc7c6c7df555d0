"""Whether ``request.summary`` reaches stdout or stderr as mozlog."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING

from ..endpoints import LBHEARTBEAT_PATH
from ..redaction import format_error
from .asking import ask
from .finding import ERROR, OK, WARNING, Finding, failed, passed, warned
from .mozlog import problem_of

if TYPE_CHECKING:
    from .subject import Subject

logger = logging.getLogger("request.summary")

_ADD_HANDLER = (
    "Configure logging: logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO); or "
    "--skip summary, if the server's own configuration does it"
)
_LEAVE_ENABLED = 'Configure logging with "disable_existing_loggers": False'
_OTHER_LOGGERS = ("dockerflow_wsgi", "dockerflow_wsgi.checks")
_BY_MERIT = (OK, WARNING, ERROR)
_STREAM_PATHS = ("/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2", "/proc/")


def check_summary(subject: Subject) -> Finding:
    """Take the summary of a real request, and have it formatted by the handlers that would get it.

    The request is one that the middleware refuses with 405, so that no app sees it; its
    summary is kept from the handlers, so that no log gets it.
    """
    if finding := _closed_door():
        return finding
    with _kept() as records:
        _make_a_request(subject)
    if not records:
        text = "a request left no summary: it did not pass the middleware, or a filter dropped it"
        return failed(text, "See the step endpoint_lbheartbeat, and the logger's filters")
    handlers = [handler for handler in _handlers() if handler.level <= logging.INFO]
    if not handlers:
        text = "no handler gets the summaries: those of request.summary are above INFO"
        return failed(text, "Set the handler's level to INFO")
    findings = [_through(handler, records[0]) for handler in handlers]
    found = min(findings, key=lambda finding: _BY_MERIT.index(finding.status))
    silent = [name for name in _OTHER_LOGGERS if logging.getLogger(name).disabled]
    if found.status == OK and silent:
        text = f"what checks say is not logged: disabled is the logger {' and '.join(silent)}"
        return warned(text, _LEAVE_ENABLED)
    return found


def _closed_door() -> Finding | None:
    """Say what keeps every summary from every handler."""
    if logger.disabled:
        text = (
            "the logger request.summary is disabled, as logging.config does with loggers it finds"
        )
        return failed(text, _LEAVE_ENABLED)
    if not any(True for _ in _handlers()):
        if not logger.propagate:
            text = "the logger request.summary has no handler, and its propagate is False"
            return failed(text, "Set propagate to True, or give it a handler of its own")
        return failed("the logger request.summary has no handler", _ADD_HANDLER)
    if logger.manager.disable >= logging.INFO:
        text = "logging.disable() keeps INFO from being logged"
        return failed(text, "Take the call of logging.disable() out")
    level = logger.getEffectiveLevel()
    if level > logging.INFO:
        text = f"the logger request.summary is at {logging.getLevelName(level)}, above INFO"
        return failed(text, 'Call logging.getLogger("request.summary").setLevel(logging.INFO)')
    return None


def _make_a_request(subject: Subject) -> None:
    try:
        ask(subject.app, LBHEARTBEAT_PATH, "TRACE")
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the endpoints' own steps tell it
        return


@contextmanager
def _kept() -> Iterator[list[logging.LogRecord]]:
    """Keep the summaries from the handlers, in a list."""
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    logger.filters.insert(0, keep)
    try:
        yield records
    finally:
        logger.filters.remove(keep)


def _handlers() -> Iterator[logging.Handler]:
    """Find the handlers that get the logger's records."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            yield from _final(handler)
        current = current.parent if current.propagate else None


def _final(handler: logging.Handler) -> Iterator[logging.Handler]:
    """Follow handlers that hand records on: to a queue's listener, or to a target."""
    listener = getattr(handler, "listener", None)
    target = getattr(handler, "target", None)
    if listener is not None:
        yield from listener.handlers
    elif isinstance(target, logging.Handler):
        yield target
    else:
        yield handler


def _through(handler: logging.Handler, record: logging.LogRecord) -> Finding:
    name = type(handler).__name__
    if isinstance(handler, QueueHandler):
        text = "the summaries go into a queue, and what reads it is not to be seen from here"
        return warned(text, "See that its listener writes mozlog to stdout or stderr")
    record = copy.copy(record)
    try:
        if not handler.filter(record):
            return failed(f"a filter of the {name} drops the summaries", "Take that filter out")
        line = handler.format(record)
    except Exception as error:  # noqa: BLE001 - the formatter is the user's
        text = f"the formatter of the {name} raised {type(error).__name__}: {format_error(error)}"
        return failed(text, "Use MozlogFormatter, or mend the formatter")
    if problem := problem_of(line):
        text = f"a summary that the {name} writes {problem}"
        remedy = "Use dockerflow_wsgi.logging.MozlogFormatter as the handler's formatter"
        return failed(text, remedy, line=line)
    if not _writes_to_a_stream(handler):
        remedy = "Add a MozlogHandler(): containers log to stdout or stderr"
        return failed(f"the {name} that gets the summaries writes elsewhere", remedy, line=line)
    return passed(f"mozlog, by a {name}", line=line)


def _writes_to_a_stream(handler: logging.Handler) -> bool:
    path = getattr(handler, "baseFilename", None)
    if path is not None:
        return str(path).startswith(_STREAM_PATHS)
    stream = getattr(handler, "stream", None)
    if stream is None:
        return False
    if stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        return True
    try:
        return stream.fileno() in {1, 2}
    except (AttributeError, OSError, ValueError):
        return False
