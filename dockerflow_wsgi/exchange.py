"""One request and its response, from the call until the response is over."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from .masking import describe
from .request_id import RequestIDScope

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeAlias

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    ExcInfo: TypeAlias = (
        tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    )

RESPONSE_HEADER = "X-Request-ID"


class Exchange:
    """What is known of a request while it is served; ends exactly once.

    Args:
        environ: The request.
        start_response: The server's.
        request_id: The request's ID.
        is_probe: Whether one of our endpoints answers, and not the wrapped app.
        echo: Whether the response gets the request ID, unless it brings one.
        on_end: Called with the exchange when the response is over.

    Attributes:
        environ: The request.
        scope: Shows the request ID to the code that serves the request.
        request_id: The request's ID.
        path: ``PATH_INFO`` as it arrived; a dispatcher may change the environ's.
        method: ``REQUEST_METHOD`` as it arrived.
        started_ns: When the request was taken on, in nanoseconds of the monotonic clock.
        is_probe: Whether one of our endpoints answers.
        status: The status of the last accepted ``start_response``; ``None`` before.
        failure: What was raised, as text without credentials; ``None`` if nothing was. The
            exception itself would keep the frames of the request alive.
    """

    __slots__ = (
        "_echo",
        "_is_over",
        "_on_end",
        "_start_response",
        "environ",
        "failure",
        "is_probe",
        "method",
        "path",
        "request_id",
        "scope",
        "started_ns",
        "status",
    )

    def __init__(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        request_id: str,
        *,
        is_probe: bool,
        echo: bool,
        on_end: Callable[[Exchange], object],
    ) -> None:
        self.started_ns = monotonic_ns()
        self.environ = environ
        self.path: str = environ.get("PATH_INFO", "")
        self.method: str = environ.get("REQUEST_METHOD", "")
        self.request_id = request_id
        self.scope = RequestIDScope(request_id)
        self.is_probe = is_probe
        self.status: str | None = None
        self.failure: str | None = None
        self._start_response = start_response
        self._echo = echo
        self._on_end = on_end
        self._is_over = False

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], object]:
        """Start the response with the server, and note its status.

        PEP 3333 lets an app call this late, and again with ``exc_info`` while no header was
        sent; if the server refuses, the status before stays the response's.

        Args:
            status: Such as ``"200 OK"``; a reason phrase is not required.
            headers: The app's; the list itself is left as it is.
            exc_info: Given by an app that replaces its response by an error page.

        Returns:
            The server's own ``write``.
        """
        if not isinstance(headers, list):
            headers = list(headers)  # no list, though PEP 3333 wants one; many servers take it
        if self._echo and not _has_request_id(headers):
            headers = [*headers, (RESPONSE_HEADER, self.request_id)]
        try:
            if exc_info is None:
                write = self._start_response(status, headers)
            else:
                write = self._start_response(status, headers, exc_info)
        finally:
            exc_info = None  # its traceback refers to this frame: a cycle (PEP 3333)
        self.status = status
        return write

    def fail(self, error: BaseException) -> None:
        """Note what the app raised.

        Args:
            error: The exception; the first one noted counts, the next may follow from it.
        """
        if self.failure is None:
            self.failure = describe(error)

    def end(self) -> None:
        """End the exchange: report it and take the request ID down. Later calls do nothing."""
        if self._is_over:
            return
        self._is_over = True
        try:
            self._on_end(self)
        finally:
            self.scope.leave()


def _has_request_id(headers: list[tuple[str, str]]) -> bool:
    for header in headers:  # noqa: SIM110 - any() takes twice as long
        if header[0].lower() == "x-request-id":
            return True
    return False
