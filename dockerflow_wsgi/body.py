"""The app's response body, watched until the server closes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sized

    from _typeshed.wsgi import WSGIEnvironment

    from .exchange import Exchange

FILE_WRAPPER = "wsgi.file_wrapper"


class WatchedBody:
    """Hands the app's chunks on as they are, and ends the exchange at `close`.

    Args:
        iterable: What the app returned; it is iterated only when the server does.
        exchange: The exchange that this is the body of.
    """

    __slots__ = ("_exchange", "_is_closed", "_iterable")

    def __init__(self, iterable: Iterable[bytes], exchange: Exchange) -> None:
        self._iterable = iterable
        self._exchange = exchange
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        self._exchange.scope.enter()
        try:
            return Chunks(iter(self._iterable), self._exchange)
        except BaseException as error:
            self._exchange.fail(error)
            raise

    def close(self) -> None:
        """Close the app's iterable, once, and end the exchange.

        PEP 3333: the server calls this when the response is over, sent in full or not.
        """
        if not self._is_closed:
            self._is_closed = True
            close_and_end(self._iterable, self._exchange)


class Chunks:
    """An iterator over the app's chunks.

    Args:
        chunks: The app's iterator.
        exchange: The exchange that they belong to.
    """

    __slots__ = ("_exchange", "_next")

    def __init__(self, chunks: Iterator[bytes], exchange: Exchange) -> None:
        self._next = chunks.__next__
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        exchange.scope.enter()
        try:
            return self._next()
        except StopIteration:
            raise
        except BaseException as error:
            exchange.fail(error)
            raise


class SizedBody(WatchedBody):
    """The body of an app that returned something with a length.

    A server may take the length 1 as leave to send a ``Content-Length`` (PEP 3333), so a body
    has a length only if the app's has.
    """

    __slots__ = ()

    def __len__(self) -> int:
        return len(cast("Sized", self._iterable))


class FileWrapperRecorder:
    """Stands in for a server's ``wsgi.file_wrapper`` that is a function.

    What a class made can be told by its type; what a function made must be remembered.

    Args:
        make: The server's function.

    Attributes:
        made: What it returned last; ``None`` before.
    """

    __slots__ = ("_make", "made")

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.made: object = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the server's function, and remember what it returns."""
        self.made = self._make(*arguments, **keywords)
        return self.made


def expect_file(environ: WSGIEnvironment) -> None:
    """Prepare the environ so that `watch` can tell the server's file wrapper.

    Args:
        environ: The request. A wrapper that is a class stays as it is, because gunicorn and
            others look it up in the environ again to recognise its instances.
    """
    wrapper = environ.get(FILE_WRAPPER)
    if wrapper is not None and not isinstance(wrapper, type):
        environ[FILE_WRAPPER] = FileWrapperRecorder(wrapper)


def watch(iterable: Iterable[bytes], exchange: Exchange) -> Iterable[bytes]:
    """Make a body end its exchange when the server closes it.

    Args:
        iterable: What the app returned.
        exchange: The exchange that it is the body of.

    Returns:
        The very iterable, if the server's ``wsgi.file_wrapper`` made it and the server may
        therefore send the file by itself; else a wrapper of the same length, if any.
    """
    wrapper = exchange.environ.get(FILE_WRAPPER)
    if wrapper is not None and _is_made_by(wrapper, iterable):
        _follow_close(iterable, exchange)
        return iterable
    body_class = SizedBody if hasattr(type(iterable), "__len__") else WatchedBody
    return body_class(iterable, exchange)


def close_and_end(closable: object, exchange: Exchange) -> None:
    """Close what the app returned, if it can be, and end the exchange whatever that does."""
    exchange.scope.enter()
    try:
        close = getattr(closable, "close", None)
        if close is not None:
            close()
    except BaseException as error:
        exchange.fail(error)
        raise
    finally:
        exchange.end()


def _is_made_by(wrapper: object, iterable: object) -> bool:
    if isinstance(wrapper, type):
        return isinstance(iterable, wrapper)
    return isinstance(wrapper, FileWrapperRecorder) and iterable is wrapper.made


def _follow_close(iterable: Any, exchange: Exchange) -> None:
    """Have the file's own ``close`` end the exchange, for the server gets the file itself."""
    original = [SimpleNamespace(close=getattr(iterable, "close", None))]

    def close() -> None:
        if original:
            close_and_end(original.pop(), exchange)

    try:
        iterable.close = close
    except (AttributeError, TypeError):
        exchange.end()  # a type that takes no attributes: when it is over cannot be learnt
