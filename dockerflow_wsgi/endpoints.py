"""The endpoints: small WSGI apps that answer instead of the wrapped one.

Their paths, methods and statuses are those of the Dockerflow README.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from .errors import VersionError, call_safely, log_exception
from .serialization import to_json_bytes
from .version import FILE_NAME, VersionFile, call_version_callback, version_to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .checks.runner import CheckRunner
    from .settings import DetailsPolicy
    from .version import VersionCallback

VERSION_PATH = "/__version__"
HEARTBEAT_PATH = "/__heartbeat__"
LBHEARTBEAT_PATH = "/__lbheartbeat__"
ERROR_PATH = "/__error__"

JSON = "application/json"
HTML = "text/html"

_ALLOW = ("Allow", "GET, HEAD, OPTIONS")
_STYLE_ONLY = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")


class Response:
    """A complete response of an endpoint, with all headers except the request ID's."""

    def __init__(
        self,
        code: int,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        content_type: str = JSON,
    ) -> None:
        self.status = f"{code} {_reason(code)}"
        self.body = body
        self.headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *headers,
        ]


def error_response(code: int, text: str, *headers: tuple[str, str]) -> Response:
    """Make a response with the JSON body ``{"error": text}``."""
    return Response(code, to_json_bytes({"error": text}), headers)


def _reason(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Heartbeat Failed"  # a heartbeat_failed_status_code that is not registered


class Endpoint:
    """Handles ``GET``, ``HEAD`` and ``OPTIONS``, and answers 405 to every other method."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer a request, as a WSGI app."""
        method = environ.get("REQUEST_METHOD")
        if method in ("GET", "HEAD"):
            response = self.respond(environ)
        elif method == "OPTIONS":
            response = Response(200, headers=[_ALLOW])
        else:
            response = error_response(405, f"{method} is not allowed: use GET or HEAD", _ALLOW)
        start_response(response.status, response.headers.copy())
        return [] if method == "HEAD" or not response.body else [response.body]

    def respond(self, environ: WSGIEnvironment) -> Response:
        """Return the response to a ``GET``."""
        raise NotImplementedError


class LbHeartbeatEndpoint(Endpoint):
    """``/__lbheartbeat__``: responds immediately, without running checks.

    The status is 200, not 204: AWS's classic load balancer takes 204 for a failure.
    """

    _ok = Response(200)

    def respond(self, environ: WSGIEnvironment) -> Response:
        """Return an empty response."""
        return self._ok


class VersionEndpoint(Endpoint):
    """``/__version__``: the version object, from a file or, if one is set, from a callback."""

    def __init__(self, file: VersionFile) -> None:
        self.file = file
        self.callback: VersionCallback | None = None

    def respond(self, environ: WSGIEnvironment) -> Response:
        """Return the version object; 404 without one, 500 if it is invalid."""
        try:
            body = self._body()
        except VersionError as error:
            source = error.path or "the version callback"
            log_exception(f"{VERSION_PATH}: {source}: {error}", error)
            return error_response(500, str(error))
        return self._not_found() if body is None else Response(200, body)

    def _body(self) -> bytes | None:
        if self.callback is None:
            return self.file.read()
        version = call_version_callback(self.callback, self.file.directory())
        return None if version is None else version_to_json(version)

    def version(self) -> str | None:
        """Return the ``version`` of the version object; ``None`` if it cannot be read."""
        try:
            version = json.loads(self._body() or "{}").get("version")
        except (VersionError, AttributeError):
            return None
        return None if version is None else str(version)

    def _not_found(self) -> Response:
        if self.callback is not None:
            return error_response(404, "the version callback returned None: there is no version")
        paths = self.file.paths
        with suppress(FileNotFoundError):  # the current directory itself may be gone
            paths = tuple(map(os.path.abspath, paths))
        warn = logging.getLogger("dockerflow_wsgi").warning
        text = f"{VERSION_PATH}: file not found: {', '.join(paths)}"
        call_safely("Logging", warn, "%s", text, default=None)
        remedy = (
            f"write it at build time by  dockerflow-wsgi version --output {FILE_NAME}, or set "
            "version_path to its directory"
        )
        return error_response(404, f"{FILE_NAME} not found: {remedy}")


class HeartbeatEndpoint(Endpoint):
    """``/__heartbeat__``: the results of the checks, for a browser as an HTML page."""

    def __init__(
        self,
        runner: CheckRunner,
        *,
        failed_status_code: int,
        details: DetailsPolicy,
        version: VersionEndpoint,
    ) -> None:
        self.runner = runner
        self._failed_status_code = failed_status_code
        self._details = details
        self._version_endpoint = version

    def respond(self, environ: WSGIEnvironment) -> Response:
        """Run the checks, and return the report; a browser gets an HTML page."""
        report = self.runner.report()
        code = self._failed_status_code if report.has_failed else 200
        with_details = self._shows_details(environ)
        vary = [("Vary", "Accept")]
        if _prefers_html(environ.get("HTTP_ACCEPT", "")):
            http_status, version = f"{code} {_reason(code)}", self._version_endpoint.version()
            page = report.to_html(http_status, version=version, with_details=with_details)
            body = page.encode("utf-8", "backslashreplace")
            return Response(code, body, [*vary, _STYLE_ONLY], f"{HTML}; charset=utf-8")
        return Response(code, to_json_bytes(report.to_dict(with_details=with_details)), vary)

    def _shows_details(self, environ: WSGIEnvironment) -> bool:
        if callable(self._details):
            return bool(call_safely("heartbeat_details", self._details, environ, default=False))
        return self._details == "always"


class ErrorEndpoint(Endpoint):
    """``/__error__``: logs an error and raises, to test how errors are reported."""

    def respond(self, environ: WSGIEnvironment) -> NoReturn:
        """Raise a `RuntimeError`."""
        logging.getLogger("dockerflow_wsgi").error("%s was requested", ERROR_PATH)
        raise RuntimeError(f"{ERROR_PATH} raises this exception to test how errors are reported")


@lru_cache(maxsize=64)  # probers send the same header each time
def _prefers_html(header: str) -> bool:
    if "text/" not in header.lower():
        return False
    accept = parse_accept_header(header, MIMEAccept)
    return accept.quality(HTML) > accept.quality(JSON)
