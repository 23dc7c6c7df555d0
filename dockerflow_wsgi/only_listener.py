"""The one handler that gets a logger's records, if the line it writes of each is known beforehand.

Such a line needs no record, and the record is most of what a line costs. Whoever could tell the
difference makes all go the usual way: another handler, a filter, a formatter of one's own, or a
library that has put functions in the place of those of `logging`.
"""

from __future__ import annotations

import logging
from logging import Logger, LogRecord, StreamHandler
from types import FunctionType
from typing import TYPE_CHECKING

from .logging import MozlogFormatter, MozlogHandler, RequestIdLogFilter

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Listener: TypeAlias = StreamHandler[Any]

_KINDS = (StreamHandler, MozlogHandler)

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
    if logger.filters or (found.filters and not _add_nothing(found.filters)):
        return None
    if not _is_plain(found.formatter):
        return None
    return found if _way_of_a_record(type(logger), type(found)) == _known_way else None


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


def _is_plain(formatter: object) -> bool:
    if type(formatter) is not MozlogFormatter:
        return False
    own = vars(formatter)
    return "format" not in own and "convert_record" not in own


def _way_of_a_record(loggers: type[Logger], handlers: type[Listener]) -> tuple[object, ...]:
    """Return what makes a line of a record: tracers and error reporters replace some of it."""
    return (
        loggers.makeRecord,
        loggers.handle,
        loggers.callHandlers,
        handlers.handle,
        handlers.emit,
        handlers.format,
        LogRecord.__init__,
        logging._logRecordFactory,  # type: ignore[attr-defined]  # noqa: SLF001 - no other way
        MozlogFormatter.convert_record,
    )


def _known_when_imported() -> tuple[object, ...]:
    """Return what the way of a record should be; nothing if something was replaced already."""
    *functions, factory, _convert_record = way = _way_of_a_record(Logger, StreamHandler)
    file = logging.getLogger.__code__.co_filename
    is_as_made = factory is LogRecord and all(
        isinstance(function, FunctionType) and function.__code__.co_filename == file
        for function in functions
    )
    return tuple(way) if is_as_made else ()


_known_way = _known_when_imported()
