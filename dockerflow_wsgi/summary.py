"""``request.summary``: one log record for each request, when its response is over."""

from __future__ import annotations

import logging
from functools import lru_cache
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from .faults import call_hook, log_fault
from .jsonsafe import json_text
from .masking import text_of
from .only_listener import find_only_listener, write_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed.wsgi import WSGIEnvironment

    from .exchange import Exchange

    SummaryExtra = Callable[[WSGIEnvironment], Mapping[str, Any]]

ENVIRON_KEY = "dockerflow.summary"
FAILURE_KEY = "dockerflow.failure"
"""Where a framework's adapter says what the app raised when the framework made a page of it."""

logger = logging.getLogger("request.summary")

# Names that a record needs for itself: a field of that name gets a "_" appended.
_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_EMPTY = json_text("")


class SummaryLog:
    """Writes the summaries of one middleware.

    The fields are those of Mozilla's mozlog standard for ``request.summary``.

    Args:
        extra: Called with the environ of a request; returns further fields.
        with_querystring: Whether the query string is a field.
    """

    __slots__ = ("_extra", "_has_more", "_with_querystring")

    def __init__(self, extra: SummaryExtra | None, *, with_querystring: bool) -> None:
        self._extra = extra
        self._with_querystring = with_querystring
        self._has_more = with_querystring or extra is not None

    def write(self, exchange: Exchange) -> None:
        """Write the summary of an exchange that is over; raises nothing of its own.

        Args:
            exchange: The exchange. Nothing is built when the logger is above its level.
        """
        try:
            if exchange.failure is None:
                exchange.failure = exchange.environ.get(FAILURE_KEY)
            if exchange.failure is not None:
                level = logging.ERROR
            else:
                level = _probe_level(exchange) if exchange.is_probe else logging.INFO
            if not logger.isEnabledFor(level):
                return
            listener = None if self._has_more else find_only_listener(logger, level)
            if listener is None or (fields := _usual_fields(exchange)) is None:
                logger.handle(self._record(exchange, level))
                return
            try:  # without a record, as nobody could tell: 4 us in place of 11
                write_fields(listener, logger.name, level, fields)
            except Exception:  # noqa: BLE001 - as in logging, the handler tells of it
                listener.handleError(self._record(exchange, level))
        except Exception as error:  # noqa: BLE001 - a broken log must not break the response
            log_fault("The summary of a request could not be logged", error)

    def _record(self, exchange: Exchange, level: int) -> logging.LogRecord:
        # Not Logger.log(): it walks the stack for the caller, which is always this line.
        fields = self._fields(exchange)
        message = exchange.failure if exchange.failure is not None else fields.pop("msg", "")
        record = logger.makeRecord(logger.name, level, __file__, 0, message, (), None)
        if not _RECORD_ATTRIBUTES.isdisjoint(fields):
            for name in _RECORD_ATTRIBUTES.intersection(fields):
                fields[f"{name}_"] = fields.pop(name)
        vars(record).update(fields)
        return record

    def _fields(self, exchange: Exchange) -> dict[str, Any]:
        environ = exchange.environ
        code = _code(exchange.status)
        fields = {
            "errno": _errno(exchange, code),
            "code": code,
            "agent": environ.get("HTTP_USER_AGENT", ""),
            "lang": environ.get("HTTP_ACCEPT_LANGUAGE", ""),
            "method": exchange.method,
            "path": _decoded(exchange.path),
            "rid": exchange.request_id,
            "t": (monotonic_ns() - exchange.started_ns) // 1_000_000,
            "uid": "",
        }
        if code is None:
            del fields["code"]
        if self._with_querystring:
            fields["querystring"] = _decoded(environ.get("QUERY_STRING", ""))
        if self._extra is not None or environ.get(ENVIRON_KEY):
            self._add_given(fields, environ)
        return fields

    def _add_given(self, fields: dict[str, Any], environ: WSGIEnvironment) -> None:
        """Add what the user's hook and the app have to say."""
        errno = fields["errno"]
        if self._extra is not None:
            call_hook("summary_extra", _update, fields, self._extra, environ, instead=None)
        if environ.get(ENVIRON_KEY):
            call_hook(ENVIRON_KEY, _update, fields, _given_by_app, environ, instead=None)
        fields["uid"] = text_of(fields["uid"])
        fields["errno"] = _integer(fields["errno"], instead=errno)


def _probe_level(exchange: Exchange) -> int:
    # A lower one for a probe that was answered well, so that probes do not drown the log.
    return logging.DEBUG if (_code(exchange.status) or 500) < 400 else logging.INFO


def _code(status: str | None) -> int | None:
    try:
        return None if status is None else int(status[:3])
    except (TypeError, ValueError):
        return None


def _usual_fields(exchange: Exchange) -> str | None:
    """Write the fields as JSON, if they are those of most summaries: 1 us in place of 3.5.

    Returns:
        What a formatter would make of `SummaryLog._fields`; ``None`` if there may be other fields
        or other types.
    """
    environ = exchange.environ
    given = environ.get(ENVIRON_KEY)
    if exchange.failure is not None or (given and not _is_user_only(given)):
        return None
    status, path = exchange.status, exchange.path
    if type(status) is not str:
        return None
    try:
        return (
            f"{{{_fields_of_status(status)}, "
            f'"agent": {json_text(environ.get("HTTP_USER_AGENT", ""))}, '
            f'"lang": {json_text(environ.get("HTTP_ACCEPT_LANGUAGE", ""))}, '
            f'"method": {json_text(exchange.method)}, '
            f'"path": {json_text(path if path.isascii() else _decoded(path))}, '
            f'"rid": "{exchange.request_id}", '  # of characters that need no escape
            f'"t": {(monotonic_ns() - exchange.started_ns) // 1_000_000}, '
            f'"uid": {json_text(given["uid"]) if given else _EMPTY}}}'
        )
    except (TypeError, ValueError, AttributeError):
        return None  # no code, or what should be text is something else


@lru_cache(maxsize=256)
def _fields_of_status(status: str) -> str:
    """Write ``errno`` and ``code`` as JSON; remembered, as they are two thirds of a us."""
    code = int(status[:3])
    return f'"errno": {code if code >= 500 else 0}, "code": {code}'


def _is_user_only(given: object) -> bool:
    return type(given) is dict and len(given) == 1 and type(given.get("uid")) is str


def _given_by_app(environ: WSGIEnvironment) -> Mapping[str, Any]:
    given: Mapping[str, Any] = environ[ENVIRON_KEY]
    return given


def _update(fields: dict[str, Any], extra: SummaryExtra, environ: WSGIEnvironment) -> None:
    given = extra(environ) or {}
    fields.update({text_of(name): value for name, value in given.items() if value is not None})


def _errno(exchange: Exchange, code: int | None) -> int:
    if exchange.failure is not None:
        return 500
    return code if code is not None and code >= 500 else 0


def _integer(value: Any, *, instead: int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return instead


def _decoded(text: str) -> str:
    """Undo the Latin-1 in which PEP 3333 carries the bytes of a URL."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text  # a server that decoded it already
