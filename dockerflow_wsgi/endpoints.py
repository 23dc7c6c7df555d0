"""The endpoints: small WSGI apps that answer in front of the wrapped one.

The paths, their methods and their status codes come from the Dockerflow README.
"""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, NoReturn

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from . import summary
from .answer import JSON, Answer, error_answer, to_json
from .checks.page import render_page
from .checks.runner import CheckRunner
from .errors import VersionError
from .faults import call_hook, log_fault
from .version import FILE_NAME, VersionFile, call_version_callback, version_to_json

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .checks import CheckRegistry
    from .config import DetailsPolicy, Settings
    from .hooks import Hooks
    from .version import VersionCallback

VERSION_PATH = "/__version__"
HEARTBEAT_PATH = "/__heartbeat__"
LBHEARTBEAT_PATH = "/__lbheartbeat__"
ERROR_PATH = "/__error__"

HTML = "text/html"

_STYLE_ONLY = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
_ALLOW = ("Allow", "GET, HEAD, OPTIONS")

logger = logging.getLogger("dockerflow_wsgi")


class Endpoint:
    """Answers ``GET`` and ``HEAD``, tells ``OPTIONS`` so, and refuses every other method."""

    __slots__ = ()

    _options: ClassVar = Answer(200, headers=[_ALLOW])

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer as a WSGI app."""
        method = environ.get("REQUEST_METHOD")
        if method in ("GET", "HEAD"):
            answer = self.answer(environ)
        elif method == "OPTIONS":
            answer = self._options
        else:
            answer = error_answer(405, f"{method} is not allowed: use GET or HEAD", _ALLOW)
        start_response(answer.status, list(answer.headers))
        return [] if method == "HEAD" else [answer.body]

    def answer(self, environ: WSGIEnvironment) -> Answer:
        """Answer a ``GET``.

        Args:
            environ: The request.

        Returns:
            The answer; ``HEAD`` gets it too, without its body.
        """
        raise NotImplementedError


class LbHeartbeatEndpoint(Endpoint):
    """``/__lbheartbeat__``: this process serves requests. Checks nothing, waits for nothing.

    The status is 200 and not 204, which AWS's classic load balancer takes for a failure.

    Attributes:
        ok: Its answer.
    """

    __slots__ = ()

    ok: ClassVar = Answer(200)

    def answer(self, environ: WSGIEnvironment) -> Answer:  # noqa: ARG002
        """Answer at once."""
        return self.ok


LBHEARTBEAT = LbHeartbeatEndpoint()


def needs_no_record(environ: WSGIEnvironment) -> bool:
    """Tell whether a probe will be answered well, and nobody listens to that.

    Args:
        environ: A request to ``/__lbheartbeat__``.

    Returns:
        Whether there is nothing to log.
    """
    method = environ.get("REQUEST_METHOD")
    return method in ("GET", "HEAD") and not summary.logger.isEnabledFor(logging.DEBUG)


class VersionEndpoint(Endpoint):
    """``/__version__``: the version object.

    Args:
        file: Where it is read from.

    Attributes:
        file: Where it is read from.
        callback: Asked in place of the file, if set.
    """

    __slots__ = ("_last", "callback", "file")

    def __init__(self, file: VersionFile) -> None:
        self.file = file
        self._last: tuple[bytes, Answer] = (b"", Answer(200))
        self.callback: VersionCallback | None = None

    def answer(self, environ: WSGIEnvironment) -> Answer:  # noqa: ARG002
        """Answer with the version object: 404 if there is none, 500 if it is wrong."""
        try:
            body = self._body()
        except VersionError as error:
            log_fault(f"{VERSION_PATH}: {error.path or 'the version callback'}: {error}", error)
            return error_answer(500, str(error))
        return self._absent() if body is None else self._present(body)

    def _body(self) -> bytes | None:
        if self.callback is None:
            reading = self.file.read()
            return None if reading is None else reading.body
        version = call_version_callback(self.callback, self.file.directory())
        return None if version is None else version_to_json(version)

    def _present(self, body: bytes) -> Answer:
        last_body, answer = self._last
        if body != last_body:
            answer = Answer(200, body)
            self._last = (body, answer)
        return answer

    def _absent(self) -> Answer:
        if self.callback is not None:
            return error_answer(404, "the version callback returned None: there is no version")
        paths = self.file.paths
        with suppress(FileNotFoundError):  # the current directory itself may be gone
            paths = tuple(map(os.path.abspath, paths))
        logger.warning("%s: there is no %s", VERSION_PATH, " and no ".join(paths))
        remedy = "write it at build time, or set version_path to its directory"
        return error_answer(404, f"{FILE_NAME} not found: {remedy}")


class HeartbeatEndpoint(Endpoint):
    """``/__heartbeat__``: what the checks found.

    Args:
        runner: Runs the checks.
        failed_status_code: The status when the heartbeat has failed.
        details: Who may see the messages; see `dockerflow_wsgi.config.Settings`.

    Attributes:
        runner: Runs the checks.
    """

    __slots__ = ("_details", "_failed_status_code", "runner")

    def __init__(
        self, runner: CheckRunner, *, failed_status_code: int, details: DetailsPolicy
    ) -> None:
        self.runner = runner
        self._failed_status_code = failed_status_code
        self._details = details

    def answer(self, environ: WSGIEnvironment) -> Answer:
        """Answer with the report, as a page if the prober is a browser."""
        report = self.runner.report()
        code = self._failed_status_code if report.has_failed else 200
        with_details = self._shows_details(environ)
        vary = [("Vary", "Accept")]
        if _prefers_html(environ.get("HTTP_ACCEPT", "")):
            page = render_page(report, with_details=with_details)
            body = page.encode("utf-8", "backslashreplace")
            return Answer(code, body, [*vary, _STYLE_ONLY], f"{HTML}; charset=utf-8")
        return Answer(code, to_json(report.to_dict(with_details=with_details)), vary)

    def _shows_details(self, environ: WSGIEnvironment) -> bool:
        if callable(self._details):
            return bool(call_hook("heartbeat_details", self._details, environ, instead=False))
        return self._details == "always"


class ErrorEndpoint(Endpoint):
    """``/__error__``: logs an error and raises, to test how errors are reported."""

    __slots__ = ()

    def answer(self, environ: WSGIEnvironment) -> NoReturn:  # noqa: ARG002
        """Raise.

        Raises:
            RuntimeError: Always.
        """
        logger.error("%s was called", ERROR_PATH)
        raise RuntimeError(f"{ERROR_PATH} raises this to test how errors are reported")


def make_endpoints(
    settings: Settings, hooks: Hooks, registry: CheckRegistry, version: VersionEndpoint
) -> dict[str, WSGIApplication]:
    """Make the endpoints of a middleware.

    Args:
        settings: What they go by.
        hooks: What they call.
        registry: The checks.
        version: The endpoint of the version object.

    Returns:
        The WSGI app of each path that is answered.
    """
    runner = CheckRunner(
        registry,
        timeout_s=settings.check_timeout,
        ttl_s=settings.heartbeat_ttl,
        failed_level=settings.heartbeat_failed_level,
        silenced=settings.silenced_checks,
        on_report=hooks.on_heartbeat,
        context=hooks.check_context or nullcontext,
    )
    endpoints: dict[str, WSGIApplication] = {
        VERSION_PATH: version,
        LBHEARTBEAT_PATH: LBHEARTBEAT,
        HEARTBEAT_PATH: HeartbeatEndpoint(
            runner,
            failed_status_code=settings.heartbeat_failed_status_code,
            details=settings.heartbeat_details,
        ),
    }
    if settings.error_endpoint:
        endpoints[ERROR_PATH] = ErrorEndpoint()
    return endpoints


@lru_cache(maxsize=64)  # a prober sends the same header each time; parsing takes 6 to 25 us
def _prefers_html(header: str) -> bool:
    if "text/" not in header.lower():
        return False
    accept = parse_accept_header(header, MIMEAccept)
    return accept.quality(HTML) > accept.quality(JSON)
