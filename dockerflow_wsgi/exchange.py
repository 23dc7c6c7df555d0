"""One request and its response, from the call until the response is over."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any, cast

from werkzeug.wsgi import ClosingIterator

from .chunks import watch_chunks
from .file_wrapper import is_file
from .masking import describe
from .request_id import get_current, set_current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sized
    from types import TracebackType
    from typing import TypeAlias

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    ExcInfo: TypeAlias = (
        tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    )

RESPONSE_HEADER = "X-Request-ID"


class Exchange:
    """What is known of a request while it is served; ends exactly once.

    It is also the body that the server gets: the app's chunks as they are.

    A response's steps (the call, each chunk, ``close()``) may run in turns with those of other
    responses on the same thread, or each in another thread; so each step begins by making this
    request the current one, unless it is: asking takes 0.02 us, setting 0.06, and several times
    that beside Flask's own variables.

    Args:
        environ: The request.
        start_response: The server's.
        path: ``PATH_INFO`` as it arrived.
        request_id: The request's ID.
        is_probe: Whether one of our endpoints answers, and not the wrapped app.
        echo: Whether the response gets the request ID, unless it brings one.
        on_end: Called with the exchange when the response is over.

    Attributes:
        environ: The request.
        request_id: The request's ID.
        path: The path; a dispatcher may change the environ's.
        method: ``REQUEST_METHOD`` as it arrived.
        started_ns: When the request was taken on, in nanoseconds of the monotonic clock.
        is_probe: Whether one of our endpoints answers.
        status: The status of the last accepted ``start_response``; ``None`` before.
        failure: What was raised, as text without credentials; ``None`` if nothing was. The
            exception itself would keep the frames of the request alive.
        iterable: What the app returned; it is iterated only when the server does.
    """

    __slots__ = (
        "_cell",
        "_echo",
        "_on_end",
        "_outer",
        "_start_response",
        "environ",
        "failure",
        "is_probe",
        "iterable",
        "method",
        "path",
        "request_id",
        "started_ns",
        "status",
    )

    def __init__(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        path: str,
        request_id: str,
        is_probe: bool,
        echo: bool,
        on_end: Callable[[Exchange], object],
    ) -> None:
        self.started_ns = monotonic_ns()
        self.environ = environ
        self.path = path
        self.method: str = environ.get("REQUEST_METHOD", "")
        self.request_id = request_id
        self.is_probe = is_probe
        self.status: str | None = None
        self.failure: str | None = None
        self.iterable: Iterable[bytes] = ()
        self._start_response = start_response
        self._echo = echo
        self._on_end: Callable[[Exchange], object] | None = on_end
        self._outer = get_current()
        self._cell = [request_id]
        set_current(self._cell)

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
        if self._echo:
            for header in headers:  # here and not in a function: half of its time is the call
                if header[0].lower() == "x-request-id":
                    break
            else:
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

    def watch(self, iterable: Any) -> Iterable[bytes]:
        """Take on what the app returned, so that closing it ends the exchange.

        Args:
            iterable: The app's body.

        Returns:
            The very iterable, if the server's ``wsgi.file_wrapper`` made it and the server may
            therefore send the file by itself; else the exchange, of the same length, if any.
        """
        kind = type(iterable)
        self.iterable = iterable
        if kind is ClosingIterator:
            return self  # Werkzeug's and Flask's: 0.5 us sooner than by what follows
        if kind is not list and is_file(iterable, self.environ):
            return self._watch_file(iterable)
        if kind is list or hasattr(kind, "__len__"):
            # Takes half the time of another object around it.
            self.__class__ = SizedExchange  # pyright: ignore[reportAttributeAccessIssue]
        return self

    def __iter__(self) -> Iterator[bytes]:
        try:
            return watch_chunks(self.iterable, self, self._cell)
        except BaseException as error:
            self.fail(error)
            raise

    def close(self) -> None:
        """Close what the app returned, once, if it can be, and end the exchange.

        PEP 3333: the server calls this when the response is over, sent in full or not.
        """
        on_end = self._on_end
        if on_end is None:
            return
        self._on_end = None
        if get_current() is not self._cell:
            set_current(self._cell)
        try:
            close = getattr(self.iterable, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            try:
                on_end(self)
            finally:  # take the request ID down in every thread and context
                self._cell.clear()
                if self._outer and get_current() is self._cell:
                    set_current(self._outer)

    def fail(self, error: BaseException) -> None:
        """Note what the app raised.

        Args:
            error: The exception; the first one noted counts, the next may follow from it.
        """
        if self.failure is None:
            self.failure = describe(error)

    def _watch_file(self, file: Any) -> Iterable[bytes]:
        self.iterable = cast("Iterable[bytes]", _ClosedOnce(getattr(file, "close", None)))
        try:
            file.close = self.close
        except (AttributeError, TypeError):
            self.iterable = ()
            self.close()  # a type that takes no attributes: when it is over cannot be learnt
        return cast("Iterable[bytes]", file)


class SizedExchange(Exchange):
    """The exchange of an app that returned something with a length.

    A server may take the length 1 as leave to send a ``Content-Length`` (PEP 3333), so a body
    has a length only if the app's has.
    """

    __slots__ = ()

    def __len__(self) -> int:
        return len(cast("Sized", self.iterable))


class _ClosedOnce:
    """Calls a file's own ``close`` and forgets it, as that one's place is taken by ours."""

    __slots__ = ("_close",)

    def __init__(self, close: Callable[[], object] | None) -> None:
        self._close = close

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()
