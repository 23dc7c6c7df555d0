"""``request.summary``: one log record per request, when its response has ended.

The fields are those that Mozilla's mozlog page lists for ``request.summary``.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from .errors import call_safely, log_exception
from .logging import RECORD_ATTRIBUTES
from .redaction import redact, safe_str, truncate
from .request_id import CONTEXT_KEY, ENVIRON_KEY
from .response import SUMMARY_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed.wsgi import WSGIEnvironment

    from .response import ResponseWrapper

    SummaryExtra = Callable[[WSGIEnvironment], Mapping[str, Any]]


# The most bytes of JSON for texts that come from the client or an exception. With everything else
# in a summary, a line has at most 4,096 bytes (PIPE_BUF): a pipe writes it in one piece, even if
# several processes write to it.
_AGENT, _LANG, _METHOD, _PATH, _QUERYSTRING, _MESSAGE = 500, 120, 30, 900, 700, 400


class SummaryLog:
    """Logs the summaries of one middleware.

    Args:
        logger: The logger ``request.summary``.
        extra: Called with the environ; returns further fields. A value of ``None`` removes a field.
        with_querystring: Whether the query string is a field.
    """

    def __init__(
        self, logger: logging.Logger, extra: SummaryExtra | None, *, with_querystring: bool
    ) -> None:
        self._logger = logger
        self._extra = extra
        self._with_querystring = with_querystring

    def log(self, response: ResponseWrapper) -> None:
        """Log a response of the app: as an error if the app raised, otherwise as info."""
        self._log(response, logging.INFO if response.error is None else logging.ERROR)

    def log_endpoint(self, response: ResponseWrapper) -> None:
        """Log a response of an endpoint: successful ones at the level DEBUG, as there are many."""
        if response.error is None and (_code(response) or 500) < 400:
            self._log(response, logging.DEBUG)
        else:
            self.log(response)

    def _log(self, response: ResponseWrapper, level: int) -> None:
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        try:
            fields = self._all_fields(response)
            message = fields.pop("msg", "")
            for name in RECORD_ATTRIBUTES.intersection(fields):
                fields[f"{name}_"] = fields.pop(name)
            # Not Logger.log(), which looks for the caller on the stack.
            record = logger.makeRecord(logger.name, level, "", 0, message, (), None)
            vars(record).update(fields)
            logger.handle(record)
        except Exception as error:  # logging must not break the response
            log_exception("The summary of a request could not be logged", error)

    def _all_fields(self, response: ResponseWrapper) -> dict[str, Any]:
        if response.summary is not None:
            fields = _adapted_fields(response, response.summary)
        else:
            fields = self.request_fields(response.environ, response)
            code = _code(response)
            if code is not None:
                fields["code"] = code
            if self._extra is not None:
                extra = call_safely("summary_extra", self._extra, response.environ, default=None)
                call_safely("summary_extra", _update, fields, extra, default=None)
        if type(fields.get("uid")) is not str and "uid" in fields:
            fields["uid"] = safe_str(fields["uid"])
        if type(fields.get("errno")) is not int and "errno" in fields:
            fields["errno"] = _to_int(fields["errno"], default=_errno(response))
        return fields

    def request_fields(
        self, environ: WSGIEnvironment, response: ResponseWrapper | None
    ) -> dict[str, Any]:
        """Return the fields that are known before the response has ended.

        Without a response, the request did not pass the middleware.
        """
        if response is None:
            method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
            request_id, error, errno = environ.get(ENVIRON_KEY, ""), None, 0
        else:
            method, path, request_id = response.method, response.path, response.request_id
            error, errno = response.error, _errno(response)
        fields: dict[str, Any] = {
            "errno": errno,
            "agent": _text(environ.get("HTTP_USER_AGENT", ""), _AGENT),
            "lang": _text(environ.get("HTTP_ACCEPT_LANGUAGE", ""), _LANG),
            "method": _text(method, _METHOD),
            "path": _text(path, _PATH),
            "rid": request_id,
            "uid": "",
        }
        if response is not None:
            fields["t"] = response.elapsed_ms()
        if self._with_querystring:
            query = redact(truncate(safe_str(environ.get("QUERY_STRING", ""))))
            fields["querystring"] = _text(query, _QUERYSTRING)
        # A later call with the same environ, such as a retry, has its own fields.
        is_reused = response and environ.get(CONTEXT_KEY) is not response.context
        given = response.fields if response and is_reused else environ.get(SUMMARY_KEY)
        if given:
            call_safely(SUMMARY_KEY, _update, fields, given, default=None)
            fields.setdefault("uid", "")  # an app without a user may set None
            fields.setdefault("errno", errno)
        if error is not None:
            if "msg" in fields:
                fields["msg_"] = fields["msg"]
            fields["msg"] = _shorten(error, _MESSAGE)
        return fields


def _adapted_fields(response: ResponseWrapper, summary: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    call_safely("summary_extra", _update, fields, summary, default=None)
    if not fields:
        fields = {"method": _text(response.method, _METHOD), "rid": response.request_id}
        fields["errno"] = _errno(response)
    if response.error is not None and "msg" not in summary:
        fields["msg"] = _shorten(response.error, _MESSAGE)
    if response.error is not None and fields.get("errno") == 0:
        fields["errno"] = 500  # raised after the adapter made the summary, as by a stream
    fields.pop("code", None)
    code = _code(response)
    return fields | {"t": response.elapsed_ms()} | ({} if code is None else {"code": code})


def _update(fields: dict[str, Any], given: Mapping[str, Any] | None) -> None:
    for name, value in (given or {}).items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[safe_str(name)] = value


def _errno(response: ResponseWrapper) -> int:
    if response.error is not None:
        return 500
    code = _code(response) or 0
    return code if code >= 500 else 0


def _code(response: ResponseWrapper) -> int | None:
    try:
        return None if response.status is None else int(response.status[:3])
    except (TypeError, ValueError):  # the app's status is not one
        return None


def _to_int(value: Any, *, default: int) -> int:
    try:
        return int(value)
    except Exception:  # an object of the user's
        return default


def _text(value: Any, max_bytes: int) -> str:
    """Decode a value of the environ, and shorten it to a number of bytes of JSON."""
    if (
        type(value) is str
        and value.isascii()
        and value.isprintable()
        and 2 * len(value) <= max_bytes  # no escape of such a text is longer
    ):
        return value
    return _shorten(_decode(safe_str(value)), max_bytes)


def _shorten(text: str, max_bytes: int) -> str:
    end = max_bytes
    while len(json.dumps(text[:end])) > max_bytes + 2:
        end = end * 3 // 4
    return text if end >= len(text) else f"{text[:end]}..."


def _decode(text: str) -> str:
    """Decode UTF-8 from the Latin-1 text in which PEP 3333 transports bytes."""
    try:
        return text.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text  # the server has decoded it
