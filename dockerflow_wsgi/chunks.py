"""The chunks of a body, each asked of the app as a part of its request."""

from __future__ import annotations

from types import GeneratorType
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from .request_id import get_current, set_current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Fail: TypeAlias = Callable[[BaseException], object]

ENDED_BY_RAISING = (GeneratorType, ClosingIterator)
"""Iterators that are at their end when they have raised, as `generate_chunks` is.

Werkzeug's is, because its responses put it around a generator.
"""

_END: Any = object()


def generate_chunks(chunks: Iterator[Any], fail: Fail, cell: list[str]) -> Iterator[bytes]:
    """Pass on what the app yields: 0.06 us for each chunk, and 0.08 by `Chunks`.

    Args:
        chunks: The app's iterator, of `ENDED_BY_RAISING`.
        fail: Called with what the app raises.
        cell: The request ID, in the list that `request_id.current` holds.

    Yields:
        The app's chunks as they are.
    """
    while True:
        if get_current() is not cell:
            set_current(cell)
        try:
            chunk = next(chunks, _END)
        except BaseException as error:
            fail(error)
            raise
        if chunk is _END:
            return
        yield chunk
        del chunk  # a server that drops it has its memory back


class Chunks:
    """Passes on what an iterator of the app's yields that may go on after it has raised.

    Args:
        chunks: The app's iterator.
        fail: Called with what the app raises.
        cell: The request ID, in the list that `request_id.current` holds.
    """

    __slots__ = ("_cell", "_chunks", "_fail")

    def __init__(self, chunks: Iterator[bytes], fail: Fail, cell: list[str]) -> None:
        self._chunks: Iterator[Any] = chunks
        self._fail = fail
        self._cell = cell

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if get_current() is not self._cell:
            set_current(self._cell)
        try:
            chunk: bytes = next(self._chunks, _END)  # a StopIteration would take 0.2 us more
        except BaseException as error:
            self._fail(error)
            raise
        if chunk is _END:
            raise StopIteration
        return chunk
