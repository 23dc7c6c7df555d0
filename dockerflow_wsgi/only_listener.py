"""The one handler that gets a logger's records, if the line it writes of each is known beforehand.

Such a line needs no record, and the record is most of what a line costs. Whoever could tell the
difference makes all go the usual way: another handler, a filter, a formatter of one's own, or a
library that has put functions in the place of those of `logging`.
"""

from __future__ import annotations

import logging
from logging import Logger, LogRecord, StreamHandler
from operator import is_
from types import FunctionType
from typing import TYPE_CHECKING

from .logging import MozlogFormatter, MozlogHandler, RequestIdLogFilter

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Listener: TypeAlias = StreamHandler[Any]

_KINDS = (StreamHandler, MozlogHandler)

_METHODS = ("format", "convert_record")  # of a formatter; they may be replaced on the object

# How many attributes they have when none was put in the place of a method.
_OF_LOGGER = len(vars(logging.getLogger("dockerflow_wsgi")))
_OF_HANDLER = len(vars(StreamHandler()))


def find_only_listener(logger: Logger, level: int) -> Listener | None:
    """Find the handler that alone would get a record.

    Args:
        logger: The record's logger.
        level: The record's level, for which the logger is enabled.

    Returns:
        A stream handler with a `MozlogFormatter`, and without a filter but, perhaps, one
        `RequestIdLogFilter`; ``None`` if something else would see the record too, or nothing.
    """
    found = _only_handler(logger)
    if type(found) not in _KINDS or found.level > level or found.lock is None:
        return None
    if len(vars(found)) != _OF_HANDLER or len(vars(logger)) != _OF_LOGGER:
        return None
    if type(logger) is not Logger or type(found.formatter) is not MozlogFormatter:
        return None
    if logger.filters or (found.filters and not _add_nothing(found.filters)):
        return None
    if not vars(found.formatter).keys().isdisjoint(_METHODS):
        return None
    # By identity: a proxy of wrapt's, as tracers use it, is equal to what it wraps.
    return found if all(map(is_, _way_of_a_record(type(found)), _known_way)) else None


def write_fields(listener: Listener, name: str, level: int, fields: str) -> None:
    """Write the line that the listener would write of a record of this moment.

    Args:
        listener: From `find_only_listener`.
        name: The logger's name.
        level: The record's level.
        fields: The record's fields, as JSON; with the request's ID.

    Raises:
        Exception: Whatever the stream raised.
    """
    formatter: Any = listener.formatter
    lock: Any = listener.lock
    line = formatter.format_fields(name, level, fields) + listener.terminator
    with lock:
        stream = listener.stream
        stream.write(line)
        flush = getattr(stream, "flush", None)
        if flush is not None:
            flush()


def _only_handler(logger: Logger | None) -> Any:
    found = None
    while logger is not None:
        if logger.handlers:
            if found is not None or len(logger.handlers) > 1:
                return None
            found = logger.handlers[0]
        logger = logger.parent if logger.propagate else None
    return found


def _add_nothing(filters: list[Any]) -> bool:
    return len(filters) == 1 and type(filters[0]) is RequestIdLogFilter


def _way_of_a_record(handlers: type[Listener]) -> tuple[object, ...]:
    """Return what makes a line of a record: tracers and error reporters replace some of it."""
    return (
        MozlogFormatter.format,
        MozlogFormatter.convert_record,
        RequestIdLogFilter.filter,
        logging._logRecordFactory,  # type: ignore[attr-defined]  # noqa: SLF001 - no other way
        LogRecord.__init__,
        LogRecord.getMessage,
        Logger.makeRecord,
        Logger.handle,
        Logger.filter,
        Logger.callHandlers,
        handlers.handle,
        handlers.filter,
        handlers.emit,
        handlers.format,
        handlers.flush,
    )


def _known_when_imported() -> tuple[object, ...]:
    """Return what the way of a record should be; something else if a part was replaced already."""
    way = _way_of_a_record(StreamHandler)
    factory, *functions = way[3:]
    file = logging.getLogger.__code__.co_filename
    is_as_made = factory is LogRecord and all(
        type(function) is FunctionType and function.__code__.co_filename == file
        for function in functions
    )
    return way if is_as_made else (None,)


_known_way = _known_when_imported()
