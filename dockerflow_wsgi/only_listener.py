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

# How many attributes they have when none was put in the place of a method.
_OF_LOGGER = len(vars(logging.getLogger("dockerflow_wsgi")))
_OF_HANDLER = len(vars(StreamHandler()))
_OF_FORMATTER = len(vars(MozlogFormatter()))
_OF_FILTER = len(vars(RequestIdLogFilter()))


def find_only_listener(logger: Logger, level: int) -> Listener | None:
    """Find the handler that alone would get a record.

    Args:
        logger: The record's logger.
        level: The record's level, for which the logger is enabled.

    Returns:
        A stream handler with a `MozlogFormatter`, and without a filter but, perhaps, one
        `RequestIdLogFilter`; ``None`` if something else would see the record too, or nothing.
    """
    found: Any = None
    source: Logger | None = logger
    while source is not None:
        for handler in source.handlers:
            if found is not None:
                return None
            found = handler
        source = source.parent if source.propagate else None
    kind = type(found)
    is_usual = (
        (kind is StreamHandler or kind is MozlogHandler)
        and found.level <= level
        and found.lock is not None
        and type(found.formatter) is MozlogFormatter
        and type(logger) is Logger
        and not logger.filters
        and (not found.filters or _add_nothing(found.filters))
        and len(found.__dict__) == _OF_HANDLER
        and len(found.formatter.__dict__) == _OF_FORMATTER
        and len(logger.__dict__) == _OF_LOGGER
    )
    if not is_usual:
        return None
    # One by one: a loop over them takes 0.8 us more.
    is_as_imported = (
        logging._logRecordFactory is _FACTORY  # type: ignore[attr-defined]  # noqa: SLF001
        and MozlogFormatter.format is _FORMAT
        and MozlogFormatter.convert_record is _CONVERT
        and LogRecord.__init__ is _INIT
        and LogRecord.getMessage is _GET_MESSAGE
        and Logger.makeRecord is _MAKE
        and Logger.handle is _LOGGER_HANDLE
        and Logger.filter is _LOGGER_FILTER
        and Logger.callHandlers is _PASS_ON
        and kind.handle is _HANDLE
        and kind.filter is _FILTER
        and kind.emit is _EMIT
        and kind.format is _FORMAT_BY
        and kind.flush is _FLUSH
    )
    return found if is_as_imported else None


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
    line = formatter.format_fields(name, level, fields, listener.terminator)
    lock: Any = listener.lock
    with lock:  # acquire() and release() are 0.15 us faster, but a signal may come in between
        stream = listener.stream
        stream.write(line)
        try:
            stream.flush()
        except AttributeError:
            if hasattr(stream, "flush"):
                raise


def _add_nothing(filters: list[Any]) -> bool:
    [only, *more] = filters
    return (
        not more
        and type(only) is RequestIdLogFilter
        and len(vars(only)) == _OF_FILTER
        and RequestIdLogFilter.filter is _ADD_RID
    )


# What makes a line of a record, as it is when nobody has put something else there. Tracers and
# error reporters do, some of them a proxy (wrapt) that is equal to what it wraps: hence "is".
_ADD_RID = RequestIdLogFilter.filter
_FORMAT, _CONVERT = MozlogFormatter.format, MozlogFormatter.convert_record
_INIT, _GET_MESSAGE = LogRecord.__init__, LogRecord.getMessage
_MAKE, _PASS_ON = Logger.makeRecord, Logger.callHandlers
_LOGGER_HANDLE, _LOGGER_FILTER = Logger.handle, Logger.filter
_HANDLE, _FILTER = StreamHandler.handle, StreamHandler.filter
_EMIT, _FLUSH, _FORMAT_BY = StreamHandler.emit, StreamHandler.flush, StreamHandler.format

_OF_LOGGING: tuple[object, ...] = (
    *(_INIT, _GET_MESSAGE, _MAKE, _PASS_ON, _LOGGER_HANDLE, _LOGGER_FILTER),
    *(_HANDLE, _FILTER, _EMIT, _FLUSH, _FORMAT_BY),
)
_FILE = logging.getLogger.__code__.co_filename
_was_as_made = logging.getLogRecordFactory() is LogRecord and all(
    type(function) is FunctionType and function.__code__.co_filename == _FILE
    for function in _OF_LOGGING
)
_FACTORY = LogRecord if _was_as_made else None  # no factory is None: none is as made then
