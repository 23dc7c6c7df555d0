"""mozlog: Mozilla's JSON log format, as formatter, handler and filter for `logging`.

Write it to stdout or stderr, as the Dockerflow README asks. The envelope is that of the
page "Firefox/Services/Logging" of Mozilla's wiki. The classes can be named in
`logging.config.dictConfig` and `fileConfig`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO

from .forks import getpid
from .jsonsafe import READY, encode, field_value, plain
from .masking import text_of
from .request_id import get_request_id

__all__ = ["JsonLogFormatter", "MozlogFormatter", "MozlogHandler", "RequestIdLogFilter"]

if TYPE_CHECKING:
    from typing import TypeAlias

    _StreamHandler = logging.StreamHandler[TextIO]
    _EnvelopeKey: TypeAlias = tuple[str, int, int, str, str]
else:
    _StreamHandler = logging.StreamHandler  # takes no type argument before Python 3.11

# Not fields: what every record has, and what the envelope says already.
_NO_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "logger_name",
    "message",
    "taskName",
}

# By level, the highest first: syslog's severity (RFC 5424, 6.2.1) and Google Cloud's name for it.
_SEVERITY = {
    logging.CRITICAL: (2, "CRITICAL"),
    logging.ERROR: (3, "ERROR"),
    logging.WARNING: (4, "WARNING"),
    logging.INFO: (6, "INFO"),
    logging.DEBUG: (7, "DEBUG"),
}


_MAX_ENVELOPES = 100  # loggers may be named after data


class MozlogFormatter(logging.Formatter):
    """Formats each record as one line of mozlog JSON, whatever the record holds.

    A record's own attributes (``extra``) become ``Fields``, its message the field ``msg``; a
    dict logged as the message becomes ``Fields`` too. ``None`` is left out. What cannot be
    JSON becomes text; what nests deeper than one object becomes a JSON string. An exception
    gives the fields ``error`` and ``traceback``.

    Args:
        fmt: Accepted for `logging.config`; not used.
        datefmt: Accepted for `logging.config`; not used.
        style: Accepted for `logging.config`; not used.
        logger_name: The ``Logger`` of the envelope, usually the name of the project.
        severity: Whether the line also has ``severity``, the text that Google Cloud's logging
            looks for.
    """

    ENV_VERSION: ClassVar = "2.0"

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        logger_name: str = "Dockerflow",
        *,
        severity: bool = False,
    ) -> None:
        super().__init__(fmt, datefmt, style)
        self.logger_name = logger_name
        self.hostname = socket.gethostname()
        self._has_severity = severity
        self._envelopes: dict[_EnvelopeKey, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        """Format a record.

        Args:
            record: The record.

        Returns:
            One line of JSON, without a line break.
        """
        try:
            kind, own = type(self), vars(self)
            if kind.convert_record is _CONVERT_RECORD and "convert_record" not in own:
                fields = _encode_fields(self._fields(record))
                key = self._key(record)
                envelope = self._envelopes.get(key) or self._encode_envelope(key)
                return f'{{"Timestamp": {_timestamp_ns(record)}, {envelope}, "Fields": {fields}}}'
            line = self.convert_record(record)
        except Exception as error:  # noqa: BLE001 - a subclass may raise; the record is not lost
            line = self._unconverted(record, error)
        try:
            return encode(line)
        except Exception:  # noqa: BLE001 - a subclass may have put anything in
            return json.dumps(plain(line))

    def convert_record(self, record: logging.LogRecord) -> dict[str, Any]:
        """Convert a record to what is written; override it to change that.

        Args:
            record: The record.

        Returns:
            The envelope, with the fields under ``Fields``.
        """
        return {
            "Timestamp": _timestamp_ns(record),
            **self._envelope(*self._key(record)),
            "Fields": self._fields(record),
        }

    def _key(self, record: logging.LogRecord) -> _EnvelopeKey:
        """Return all that an envelope depends on."""
        logger_name = getattr(record, "logger_name", self.logger_name)
        process = record.process or os.getpid()
        return record.name, record.levelno, process, text_of(logger_name), self.hostname

    def _envelope(
        self, name: str, level: int, process: int, logger_name: str, hostname: str
    ) -> dict[str, Any]:
        syslog, text = _SEVERITY.get(level) or _severity_of_custom_level(level)
        envelope = {
            "Type": name,
            "Logger": logger_name,
            "Hostname": hostname,
            "EnvVersion": self.ENV_VERSION,
            "Severity": syslog,
            "Pid": process,
        }
        if self._has_severity:
            envelope["severity"] = text
        return envelope

    def format_fields(self, name: str, level: int, fields: str, end: str = "") -> str:
        """Format what a record of this moment would hold, without one.

        Args:
            name: The logger's name.
            level: The record's level.
            fields: The fields, as JSON.
            end: What to put behind the line.

        Returns:
            What `format` returns of such a record, and the end.
        """
        logger_name = self.logger_name
        if type(logger_name) is not str:
            logger_name = text_of(logger_name)
        key = name, level, getpid(), logger_name, self.hostname
        envelope = self._envelopes.get(key) or self._encode_envelope(key)
        return f'{{"Timestamp": {time.time_ns()}, {envelope}, "Fields": {fields}}}{end}'

    def _encode_envelope(self, key: _EnvelopeKey) -> str:
        # All but the time and the fields is the same for most records: saves 2 us of 6.
        if len(self._envelopes) >= _MAX_ENVELOPES:
            self._envelopes.clear()
        self._envelopes[key] = envelope = encode(self._envelope(*key))[1:-1]
        return envelope

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {
            name: value if type(value) in READY else field_value(value)
            for name, value in vars(record).items()
            if name not in _NO_FIELDS and value is not None
        }
        if isinstance(record.msg, dict) and not record.args:
            fields.update(_own_fields(record))
        elif message := _message(record):
            fields["msg"] = message
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            fields["error"] = _error(record.exc_info[1])
            fields["traceback"] = record.exc_text or self._traceback(record.exc_info)
        elif record.exc_text:
            fields["traceback"] = record.exc_text
        return fields

    def _traceback(self, exc_info: Any) -> str:
        try:
            return self.formatException(exc_info)
        except Exception:  # noqa: BLE001 - of an exception that cannot be shown
            return "".join(traceback.format_tb(exc_info[2])) + _error(exc_info[1])

    def _unconverted(self, record: logging.LogRecord, error: Exception) -> dict[str, Any]:
        problem = f"convert_record raised {_error(error)}"
        try:
            envelope = self._envelope(*self._key(record))
        except Exception:  # noqa: BLE001 - a subclass that does not call __init__, for one
            envelope = {"Type": record.name}
        fields = {"msg": plain(_message(record)), "error": problem}
        return {"Timestamp": _timestamp_ns(record), **envelope, "Fields": fields}


_CONVERT_RECORD = MozlogFormatter.convert_record  # a subclass, or a test, may have another

JsonLogFormatter = MozlogFormatter
"""The formatter's name in older documents."""


class MozlogHandler(_StreamHandler):
    """Writes mozlog lines to a stream.

    Args:
        stream: Where to; by default standard output.
        name: The ``Logger`` of the envelope, usually the name of the project.
    """

    def __init__(self, stream: TextIO | None = None, name: str = "Dockerflow") -> None:
        """Make a handler that writes to standard output, if no stream is given."""
        super().__init__(sys.stdout if stream is None else stream)
        self.setFormatter(MozlogFormatter(logger_name=name))


class RequestIdLogFilter(logging.Filter):
    """Adds the request's ID to every record as ``rid``; ``None`` outside a request.

    Put it on a handler, so that it sees the records of all loggers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ID to a record that has none.

        Args:
            record: The record.

        Returns:
            ``True``: every record passes.
        """
        if getattr(record, "rid", None) is None:
            record.rid = get_request_id()
        return True


def _timestamp_ns(record: logging.LogRecord) -> int:
    return int(record.created * 1e9)


def _encode_fields(fields: dict[str, Any]) -> str:
    try:
        return encode(fields)
    except Exception:  # noqa: BLE001 - a name that is no text, an integer that Python refuses
        return encode(plain(fields))


def _severity_of_custom_level(level: int) -> tuple[int, str]:
    return next((_SEVERITY[known] for known in _SEVERITY if level >= known), (7, "DEBUG"))


def _own_fields(record: logging.LogRecord) -> dict[str, Any]:
    message: Any = record.msg
    try:
        return {text_of(k): field_value(value) for k, value in message.items() if value is not None}
    except Exception:  # noqa: BLE001 - a dict of the user's own kind
        return {"msg": text_of(message)}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit: show what there is
        return f"{text_of(record.msg)} {text_of(record.args)}"


def _error(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - the exception is the user's
        return type(error).__name__
