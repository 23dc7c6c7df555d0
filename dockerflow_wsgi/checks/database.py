"""The built-in check for databases, and queries on the app's own connections."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from ..errors import require_extra
from ..redaction import format_error
from .messages import ERROR_DB_API_EXCEPTION, ERROR_SQLALCHEMY_EXCEPTION, CheckMessage, Error
from .runner import report_when_overdue

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")

_EXHAUSTED = "The connection pool is exhausted"
_HINT = "Look for connections that are not given back, or enlarge the pool."


def check_database_connected(db: Any) -> list[CheckMessage]:
    """Check that the database answers a query on one of the app's own connections.

    The query is ``SELECT 1`` in the dialect's own form. An SQLite file is read, and never
    created. The check queues for a connection as the app does.

    Args:
        db: A synchronous SQLAlchemy ``Engine`` (1.4 or 2.x), an object with an ``engine``, or an
            object with ``engines`` by bind key, such as Flask-SQLAlchemy's, which are all checked.

    Returns:
        For each engine that fails, an error ``dockerflow.health.E008`` (a DB-API error, or an
        SQLite file that is missing) or ``E009`` (any other SQLAlchemy error, an exhausted pool,
        or an asyncio engine); an empty list if all answer.

    Raises:
        ImportError: SQLAlchemy is not installed.
    """
    engines = getattr(db, "engines", None)
    if not isinstance(engines, Mapping):
        return _check_engine(getattr(db, "engine", db), "")
    return [
        message
        for key, engine in engines.items()
        for message in _check_engine(engine, f"Bind {key!r}: " if key is not None else "")
    ]


def format_db_error(error: Exception) -> str:
    """Format an error of SQLAlchemy without the statement and parameters that it adds."""
    original = getattr(error, "orig", None) or error
    return f"{type(original).__name__}: {' '.join(format_error(original).split())}"  # in one line


def missing_file(engine: Engine) -> str | None:
    """Return the path of an SQLite file that does not exist; connecting would create it."""
    path = sqlite_file(engine)
    return path if path is not None and not os.path.exists(path) else None


def sqlite_file(engine: Engine) -> str | None:
    """Return the path of an engine's SQLite file, as far as the engine's URL has it."""
    if engine.dialect.name != "sqlite" or engine.url.host:
        return None  # another database, or SQLite on another host
    arguments, _ = engine.dialect.create_connect_args(engine.url)
    path = str(arguments[0]) if arguments else ""
    if path.startswith("file:"):
        parts = urlsplit(path)
        path = "" if "mode=memory" in parts.query else unquote(parts.path)
    return None if path in {"", ":memory:"} else path


def shares_connection(engine: Engine) -> bool:
    """Return whether the pool gives out connections in use, as for SQLite in memory.

    To give such a connection back would end the app's transaction.
    """
    from sqlalchemy.pool import SingletonThreadPool, StaticPool

    return isinstance(engine.pool, (SingletonThreadPool, StaticPool))


def run_query(
    engine: Engine, query: Callable[[Connection], T], make_message: Callable[[str], CheckMessage]
) -> T:
    """Run a query on a connection of the app's pool, or on a new one if the pool shares its own.

    The query is repeated once if the server had closed the pooled connection. ``make_message``
    makes the message to report if the deadline passes during the wait for a connection.
    """
    from sqlalchemy.engine import Engine
    from sqlalchemy.exc import DBAPIError

    asked = engine
    if shares_connection(engine):
        asked = Engine(engine.pool.recreate(), engine.dialect, engine.url)
    try:
        try:
            return _run_once(asked, query, make_message)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return _run_once(asked, query, make_message)  # the pool has dropped the closed ones
    finally:
        if asked is not engine:
            asked.dispose()


def _run_once(
    engine: Engine, query: Callable[[Connection], T], make_message: Callable[[str], CheckMessage]
) -> T:
    from sqlalchemy.pool import QueuePool

    pool = engine.pool

    def count_in_use() -> int:
        return pool.checkedout() if isinstance(pool, QueuePool) and not pool.checkedin() else 0

    in_use = count_in_use()

    def make_messages() -> list[CheckMessage]:
        # A connection that is being opened counts as in use, one that is queued for does not.
        is_exhausted = 0 < in_use == count_in_use()
        text = f"{_EXHAUSTED}: {pool.status()}" if is_exhausted else "No connection in time"
        return [make_message(text)]

    with report_when_overdue(make_messages):
        connection = engine.connect()
    with connection:
        return query(connection)


def _check_engine(engine: Engine, bind: str) -> list[CheckMessage]:
    with require_extra("sqlalchemy"):
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError
        from sqlalchemy.exc import TimeoutError as PoolTimeoutError

    def e008(text: str) -> CheckMessage:
        return Error(bind + text, id=ERROR_DB_API_EXCEPTION)

    def e009(text: str) -> CheckMessage:
        hint = _HINT if text.startswith(_EXHAUSTED) else None
        return Error(bind + text, hint=hint, id=ERROR_SQLALCHEMY_EXCEPTION)

    if engine.dialect.is_async:
        return [e009("The engine's driver is for asyncio: pass a synchronous engine")]
    if path := missing_file(engine):
        return [e008(f"The SQLite file {path} does not exist")]
    reason = "The SQLite file is locked" if engine.dialect.name == "sqlite" else "No answer in time"
    try:
        with report_when_overdue(lambda: [e008(reason)]):
            run_query(engine, _select, e009)
    except DBAPIError as error:
        return [e008(f"DB-API error: {format_db_error(error)}")]
    except PoolTimeoutError as error:
        return [e009(f"{_EXHAUSTED}: {format_error(error)}")]
    except SQLAlchemyError as error:
        return [e009(f"SQLAlchemy error: {format_db_error(error)}")]
    return []


def _select(connection: Connection) -> None:
    from sqlalchemy import select, text

    # SQLite answers SELECT 1 without reading its file.
    is_sqlite = connection.dialect.name == "sqlite"
    connection.scalar(text("SELECT count(*) FROM sqlite_master") if is_sqlite else select(1))
