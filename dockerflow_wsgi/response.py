"""The response of the wrapped app: followed from the call to its end, and passed on unchanged."""

from __future__ import annotations

from time import monotonic_ns
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from .errors import log_exception
from .redaction import format_error
from .request_id import CONTEXT_KEY, RequestContext, get_context, set_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
    from types import TracebackType
    from typing import TypeAlias

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    ExcInfo: TypeAlias = (
        tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    )

REQUEST_ID_HEADER = "X-Request-ID"
SUMMARY_KEY = "dockerflow.summary"
FILE_WRAPPER_KEY = "wsgi.file_wrapper"

_CLOSED = object()


class ResponseWrapper:
    """A response, from the call of the app to the end of the body.

    Attributes:
        method: ``REQUEST_METHOD`` before the app was called.
        path: ``PATH_INFO`` before the app was called; dispatchers change the environ's.
        on_end: Called with this object when the response has ended.
        context: The current request, see `request_id`.
        fields: What the app puts into ``environ["dockerflow.summary"]``.
        started_ns: When the app was called, in nanoseconds of the monotonic clock.
        status: The last accepted status, such as ``"200 OK"``; ``None`` before.
        error: The text of the first exception that the app raised, without credentials. The
            exception itself would keep the app's frames alive.
        summary: The whole summary without ``code`` and ``t``, from the adapter of a framework.
            While it has no field, only ``errno``, ``method`` and ``rid`` are logged. A ``msg`` of
            ``None`` removes the text of an exception. ``None`` without an adapter.
    """

    def __init__(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        request_id: str,
        echo: bool,
        on_end: Callable[[ResponseWrapper], object],
    ) -> None:
        self.started_ns = monotonic_ns()
        self.environ = environ
        self.method: str = environ.get("REQUEST_METHOD", "")
        self.path: str = environ.get("PATH_INFO", "")
        self.request_id = request_id
        self.status: str | None = None
        self.error: str | None = None
        self.summary: Mapping[str, Any] | None = None
        self.on_end = on_end
        self._start_response = start_response
        self._echo = echo
        self.context = environ[CONTEXT_KEY] = RequestContext(request_id)
        self.context.response = self
        self.fields: dict[str, Any] = {}
        environ[SUMMARY_KEY] = self.fields

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], object]:
        """Start the response with the server, as PEP 3333 describes it.

        The app's list of headers is not changed. The server's ``write`` is returned.
        """
        if self._echo:
            headers = list(headers)
            for header in headers:
                if header[0].lower() == "x-request-id":
                    break
            else:
                headers.append((REQUEST_ID_HEADER, self.request_id))
        try:
            if exc_info is None:
                write = self._start_response(status, headers)
            else:
                write = self._start_response(status, headers, exc_info)
        finally:
            exc_info = None  # its traceback has this frame: a reference cycle (PEP 3333)
        self.status = status  # not reached if the server refused it: the earlier status holds
        return write

    def elapsed_ms(self) -> int:
        """Return the milliseconds since the app was called."""
        return (monotonic_ns() - self.started_ns) // 1_000_000

    def record_error(self, error: BaseException) -> None:
        """Remember the first exception that the app raised; others may follow from it.

        ``StopIteration`` does not count: WebSocket libraries end a connection with it.
        """
        if self.error is None and not isinstance(error, StopIteration):
            self.error = format_error(error)

    def end(self) -> None:
        """End a response without a body: log it, and forget the request's ID."""
        try:
            self.on_end(self)
        finally:
            self.context.leave()

    def wrap_body(self, iterable: Any) -> Iterable[bytes]:
        """Return what the server gets for the app's body.

        Servers send a file efficiently, often by ``sendfile``, only if they get the object that
        their ``wsgi.file_wrapper`` made. So this object is returned unchanged.
        """
        self.context.is_running = False
        if type(iterable) is not list and is_file(iterable, self.environ):
            return self._follow_file(iterable)
        return (SizedBody if hasattr(type(iterable), "__len__") else Body)(self, iterable)

    def _follow_file(self, file: Any) -> Iterable[bytes]:
        wrapper = self.environ[FILE_WRAPPER_KEY]
        if isinstance(wrapper, FileWrapperRecorder):
            wrapper.made = None  # the file may refer to the environ
        original = SimpleNamespace(close=getattr(file, "close", None))
        body = Body(self, (), closable=original)  # servers read the file itself
        try:
            file.close = body.close
        except Exception:  # it takes no attributes, so its end cannot be observed
            original.close = None
            body.close()
        return cast("Iterable[bytes]", file)


class Body:
    """The app's body; passes its chunks on as they are.

    The response ends at the first of: the end of the body, an exception, `close`, the closing of
    the iterator, and the dropping of both. Then the app's ``close()`` is called, and the summary
    logged. Servers should call `close`, but some adapters do not.

    The request ID stays readable until `close`, for access logs that are written before it.

    The `ResponseWrapper` must not refer to this object, directly or not: without a cycle, dropping
    this object ends the response at once.
    """

    def __init__(self, response: ResponseWrapper, iterable: Any, closable: Any = None) -> None:
        self._response = response
        self._iterable = iterable
        # What to close; pop() is atomic, so two threads never close it both.
        self._unclosed = {"body": iterable if closable is None else closable}

    def __iter__(self) -> Iterator[bytes]:
        response = self._response
        context = response.context
        try:
            context.is_running = True
            self._resume(context)
            for chunk in self._iterable:
                context.is_running = False
                current = get_context()
                yield chunk
                del chunk  # freed before the app makes the next one
                context.is_running = True
                if get_context() is not current:  # another response used this thread meanwhile
                    self._resume(current)
        except BaseException as error:
            if context.is_running:  # raised by the app
                response.record_error(error)
                self._resume(context)
                self._end(raised=True)
            else:  # this generator is closed, perhaps by its finalizer
                self._end()
            del self  # otherwise the traceback, which has this frame, would keep the body alive
            raise
        self._resume(context)
        self._end()
        self._resume(context)  # close() may have ended another response

    def close(self) -> None:
        """End the response if it has not ended, and forget the request's ID."""
        previous = get_context()
        try:
            self._resume(self._response.context)
            self._end()
        finally:
            self._response.context.leave()
            if get_context() is not previous:
                set_context(previous)

    def __del__(self) -> None:
        try:
            self._end()
        except BaseException as error:  # a finalizer has no caller to raise to
            log_exception("close() of a dropped response raised", error)
        finally:
            self._response.context.leave()

    def _resume(self, context: RequestContext | None) -> None:
        if get_context() is not context and self._response.context.request_id is not None:
            set_context(context)

    def _end(self, *, raised: bool = False) -> None:
        """Close the app's body and log the response; only the first call does so.

        May run in a finalizer, so it does not set the context variable.
        """
        response = self._response
        iterable = self._unclosed.pop("body", _CLOSED)
        if iterable is _CLOSED:
            response.context.is_running = False
            return
        try:
            response.context.is_running = True
            close = getattr(iterable, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            response.record_error(error)
            if not raised:
                response.context.leave()  # the traceback would keep the body alive, and so the ID
                raise
            log_exception("The app's close() raised, after its body had", error)
        finally:
            response.context.is_running = False
            response.on_end(response)


class SizedBody(Body):
    """A body with a length: PEP 3333 lets servers add ``Content-Length`` if it is 1."""

    def __len__(self) -> int:
        return len(cast("Sized", self._iterable))


class FileWrapperRecorder:
    """Records the file that a server's ``wsgi.file_wrapper`` made, if that is a function.

    Objects that a class made are recognized by their type instead.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        self.made: object = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the server's function."""
        self.made = self.make(*arguments, **keywords)
        return self.made


def prepare_file_wrapper(environ: WSGIEnvironment) -> None:
    """Change the environ so that `is_file` recognizes what ``wsgi.file_wrapper`` made.

    A wrapper that is a class is left there: gunicorn and others look it up again to recognize its
    instances.
    """
    wrapper = environ.get(FILE_WRAPPER_KEY)
    if isinstance(wrapper, FileWrapperRecorder):  # of an earlier call with the same environ
        wrapper = wrapper.make
    if wrapper is not None and not isinstance(wrapper, type):
        environ[FILE_WRAPPER_KEY] = FileWrapperRecorder(wrapper)


def is_file(iterable: object, environ: WSGIEnvironment) -> bool:
    """Return whether the server's ``wsgi.file_wrapper`` made a body."""
    wrapper = environ.get(FILE_WRAPPER_KEY)
    if isinstance(wrapper, type):
        return isinstance(iterable, wrapper)
    return isinstance(wrapper, FileWrapperRecorder) and iterable is wrapper.made
