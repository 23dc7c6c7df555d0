"""Whether the database answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import require_extra
from ..redaction import format_error
from .messages import ERROR_DB_API_EXCEPTION, ERROR_SQLALCHEMY_EXCEPTION, CheckMessage, Error
from .pool import has_room, own_connections

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def check_database_connected(db: Any) -> list[CheckMessage]:
    """Ask the database for ``SELECT 1``, in its dialect's own form.

    Args:
        db: A synchronous SQLAlchemy ``Engine`` (1.4 or 2.x), or an object with an ``engine``
            or, as Flask-SQLAlchemy has it, with ``engines`` by bind key: then all are asked.

    Returns:
        An error ``dockerflow.health.E008`` for each engine that fails with a DB-API error,
        ``E009`` for each that fails with any other SQLAlchemy error, such as an exhausted
        pool; nothing if all answer. The connection is back in its pool in any case.

    Raises:
        ImportError: SQLAlchemy is not installed.
    """
    return [message for bind, engine in engines_of(db) for message in _ask(engine, bind)]


def engine_of(db: Any) -> Engine:
    """Return the (default) engine of a database.

    Args:
        db: An engine, or an object with an ``engine``.

    Returns:
        The engine.
    """
    engine: Engine = getattr(db, "engine", db)
    return engine


def engines_of(db: Any) -> Iterator[tuple[str, Engine]]:
    """Find all engines of a database.

    Args:
        db: As for `check_database_connected`.

    Yields:
        Each engine, after a text that names its bind.
    """
    engines = getattr(db, "engines", None)
    if isinstance(engines, Mapping):
        for key, engine in engines.items():
            yield (f"Bind {key!r}: " if key is not None else ""), engine
    else:
        yield "", engine_of(db)


def _ask(engine: Engine, bind: str) -> list[CheckMessage]:
    with require_extra("sqlalchemy"):
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError
        from sqlalchemy.exc import TimeoutError as PoolTimeoutError
    try:
        if hasattr(engine, "sync_engine"):
            text = f"{bind}The database is an asyncio engine: pass a synchronous one"
            return [Error(text, id=ERROR_SQLALCHEMY_EXCEPTION)]
        pool = getattr(engine, "pool", None)
        if pool is not None and not has_room(pool):
            return [_exhausted(bind, pool.status())]
        with own_connections(engine) as asked:
            _select_1(asked)
    except DBAPIError as error:
        return [Error(f"{bind}DB-API error: {format_error(error)}", id=ERROR_DB_API_EXCEPTION)]
    except PoolTimeoutError as error:
        return [_exhausted(bind, format_error(error))]
    except SQLAlchemyError as error:
        text = f"{bind}SQLAlchemy error: {type(error).__name__}: {format_error(error)}"
        return [Error(text, id=ERROR_SQLALCHEMY_EXCEPTION)]
    return []


def _select_1(engine: Engine) -> None:
    from sqlalchemy import select
    from sqlalchemy.exc import DBAPIError

    try:
        with engine.connect() as connection:
            connection.scalar(select(1))
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        # The server had closed a pooled connection; SQLAlchemy has emptied the pool of them.
        with engine.connect() as connection:
            connection.scalar(select(1))


def _exhausted(bind: str, status: str) -> Error:
    return Error(
        f"{bind}The connection pool is exhausted: {status}",
        hint="Look for connections that are not given back, or enlarge the pool.",
        id=ERROR_SQLALCHEMY_EXCEPTION,
    )
