"""mozlog: Mozilla's JSON log format, as a formatter, a handler and a filter for `logging`.

Write it to stdout or stderr, as the Dockerflow README recommends. The format is described on the
page "Firefox/Services/Logging" of Mozilla's wiki. The classes can be named in
`logging.config.dictConfig` and `logging.config.fileConfig`.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from .redaction import redact, safe_str
from .request_id import get_request_id
from .serialization import line_to_json

__all__ = ["JsonLogFormatter", "MozlogFormatter", "MozlogHandler", "RequestIdLogFilter"]

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # takes no type argument before Python 3.11

RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "logger_name",
    "message",
    "taskName",  # since Python 3.12
}
"""Attributes of a record that are not fields: those of every record, and the envelope's."""

# By level, the highest first: syslog's severity (RFC 5424, 6.2.1) and Google Cloud's name for it.
_SEVERITIES = {
    logging.CRITICAL: (2, "CRITICAL"),
    logging.ERROR: (3, "ERROR"),
    logging.WARNING: (4, "WARNING"),
    logging.INFO: (6, "INFO"),
    logging.DEBUG: (7, "DEBUG"),
}


class MozlogFormatter(logging.Formatter):
    """Formats each record as one line of mozlog JSON.

    The attributes of a record that ``extra`` has set become ``Fields``, and so do the items of a
    dict that is logged as the message. The message becomes the field ``msg``. ``None`` is left out,
    and objects in a field's object become JSON strings, as mozlog requires. An exception becomes
    the fields ``error`` and ``traceback`` (``error_`` and ``traceback_`` if the record has fields
    of these names).

    Formatting never raises: values that JSON cannot represent become text.

    Args:
        fmt: Ignored; accepted because `logging.config` passes it.
        datefmt: Ignored, as ``fmt``.
        style: Ignored, as ``fmt``.
        validate: Ignored, as ``fmt``. A string is taken for ``logger_name``, which was the fourth
            argument in version 1.0.
        defaults: Ignored, as ``fmt``.
        logger_name: The ``Logger`` of each line, usually the name of the project.
        severity: Also write Google Cloud's ``severity``, ``message`` and, for exceptions,
            ``stack_trace``.
    """

    ENV_VERSION: ClassVar = "2.0"

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: str = "%",
        validate: bool | str = True,
        *,
        defaults: Any = None,
        logger_name: str = "Dockerflow",
        severity: bool = False,
    ) -> None:
        super().__init__()
        self.logger_name = validate if isinstance(validate, str) else logger_name
        self.hostname = socket.gethostname()
        self._has_severity = severity

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as JSON, without a line break."""
        try:
            return line_to_json(self.convert_record(record))
        except Exception as error:  # a subclass raised; the record is not lost
            problem = redact(f"convert_record raised {_repr(error)}")
            line = {"Timestamp": _timestamp_ns(record), "Type": record.name}
            with suppress(Exception):  # a subclass that does not call __init__
                line = self._envelope(record)
            return line_to_json({**line, "Fields": {"msg": _message(record), "error": problem}})

    def convert_record(self, record: logging.LogRecord) -> dict[str, Any]:
        """Convert a record to the object that is written; override it to change that.

        Returns:
            The envelope, with the fields under ``Fields`` as they were logged: they are converted
            to what JSON and mozlog allow afterwards.
        """
        fields = self._fields(record)
        line = self._envelope(record)
        line["Fields"] = fields
        if self._has_severity:
            line["message"] = fields.get("msg", "")
            if "traceback" in fields:
                line["stack_trace"] = fields["traceback"]
        return line

    def _envelope(self, record: logging.LogRecord) -> dict[str, Any]:
        syslog, severity = _severity(getattr(record, "levelno", None))
        envelope = {
            "Timestamp": _timestamp_ns(record),
            "Type": record.name,
            "Logger": getattr(record, "logger_name", self.logger_name),
            "Hostname": self.hostname,
            "EnvVersion": self.ENV_VERSION,
            "Severity": syslog,
            "Pid": record.process or os.getpid(),
        }
        if self._has_severity:
            envelope["severity"] = severity
        return envelope

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {key: value for key, value in vars(record).items() if key not in RECORD_ATTRIBUTES}
        if isinstance(record.msg, dict) and not record.args:
            _update(fields, record.msg)
        elif text := _message(record):
            fields["msg"] = text
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        exc_info = record.exc_info
        if isinstance(exc_info, tuple) and exc_info[1] is not None:
            _add(fields, "error", _repr(exc_info[1]))
            _add(fields, "traceback", self._traceback(exc_info))
        elif record.exc_text:
            _add(fields, "traceback", record.exc_text)
        return fields

    def _traceback(self, exc_info: Any) -> str:
        try:
            return self.formatException(exc_info)
        except Exception:  # a method of the exception raised
            return "".join(traceback.format_tb(exc_info[2])) + _repr(exc_info[1])


JsonLogFormatter = MozlogFormatter
"""The name of the formatter in python-dockerflow's documentation."""


class MozlogHandler(_StreamHandler):
    """Writes mozlog lines to a stream.

    Args:
        stream: The stream; by default standard output.
        name: The ``Logger`` of each line, usually the name of the project.
    """

    def __init__(self, stream: TextIO | None = None, name: str = "Dockerflow") -> None:
        super().__init__(sys.stdout if stream is None else stream)
        self.setFormatter(MozlogFormatter(logger_name=name))


class RequestIdLogFilter(logging.Filter):
    """Adds the current request ID to each record as ``rid``; ``None`` outside a request.

    Put it on a handler, so that it sees the records of all loggers. With a
    `logging.handlers.QueueHandler`, put it on that one: the listener's handlers run in a thread
    that has no request.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ID to a record without one; every record passes."""
        if getattr(record, "rid", None) is None:
            record.rid = get_request_id()
        return True


def _timestamp_ns(record: logging.LogRecord) -> int:
    try:
        return int(record.created * 1e9)
    except (TypeError, ValueError, OverflowError):  # a record made from foreign data
        return time.time_ns()


def _severity(level: Any) -> tuple[int, str]:
    if isinstance(level, int):
        for known, severity in _SEVERITIES.items():
            if level >= known:
                return severity
    return _SEVERITIES[logging.DEBUG]


def _add(fields: dict[str, Any], name: str, value: str) -> None:
    while fields.get(name) is not None:
        name += "_"
    fields[name] = value


def _update(fields: dict[str, Any], message: Any) -> None:
    try:
        fields.update({safe_str(key): value for key, value in message.items()})
    except Exception:  # a dict of the user's own class
        fields["msg"] = safe_str(message)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the arguments do not fit the message
        return f"{safe_str(record.msg)} {safe_str(record.args)}"


def _repr(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # a method of the exception raised
        return type(error).__name__
