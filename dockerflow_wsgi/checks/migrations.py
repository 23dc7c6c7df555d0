"""Whether the database has all of Alembic's migrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from ..errors import require_extra
from ..redaction import format_error
from .database import engine_of
from .messages import (
    ERROR_UNUSABLE_MIGRATIONS,
    INFO_CANT_CHECK_MIGRATIONS,
    INFO_UNKNOWN_REVISION,
    WARNING_UNAPPLIED_MIGRATION,
    CheckMessage,
    Error,
    Info,
    Warning,
)
from .pool import has_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alembic.config import Config
    from sqlalchemy.engine import Engine

T = TypeVar("T")


def check_migrations_applied(migrate: Any, db: Any = None) -> list[CheckMessage]:
    """Compare the database's revisions with those of the migration scripts.

    The scripts are read once per process.

    Args:
        migrate: An ``alembic.config.Config``, or a ``flask_migrate.Migrate``. A ``Config``
            whose main section sets ``version_table`` or ``version_table_schema`` is heeded.
        db: The database to ask, as for `check_database_connected`; by default Flask-Migrate's
            own, or the ``sqlalchemy.url`` of the ``Config``.

    Returns:
        An info ``dockerflow.health.I001`` if the database cannot be asked, a warning
        ``W001`` if it lacks migrations, ``I002`` if it is at a revision that the
        scripts do not have, an error ``E011`` if the scripts or the config are unusable;
        nothing if the database is up to date.

    Raises:
        ImportError: Alembic is not installed.
    """
    with require_extra("alembic"):
        from sqlalchemy.exc import SQLAlchemyError
    try:
        scripts = _once_for(migrate, _scripts, _read_scripts)
        engine = _engine_for(migrate, db)
    except Exception as error:  # noqa: BLE001 - revision scripts are code and may raise anything
        text = f"The migrations are unusable: {type(error).__name__}: {format_error(error)}"
        return [Error(text, id=ERROR_UNUSABLE_MIGRATIONS)]
    pool = getattr(engine, "pool", None)
    if pool is not None and not has_room(pool):
        text = f"The database cannot be asked for its migrations: {pool.status()}"
        return [Info(text, id=INFO_CANT_CHECK_MIGRATIONS)]
    try:
        applied = _applied(engine, *_version_table(migrate))
    except SQLAlchemyError as error:
        text = f"The database cannot be asked for its migrations: {format_error(error)}"
        return [Info(text, id=INFO_CANT_CHECK_MIGRATIONS)]
    return _compare(scripts, applied)


@dataclass(frozen=True, slots=True)
class _Scripts:
    """The revisions that a directory of scripts has, and those that nothing follows."""

    revisions: frozenset[str]
    heads: frozenset[str]


_scripts: WeakKeyDictionary[Any, _Scripts] = WeakKeyDictionary()
_engines: WeakKeyDictionary[Any, Engine] = WeakKeyDictionary()


def _once_for(migrate: Any, known: WeakKeyDictionary[Any, T], make: Callable[[Any], T]) -> T:
    found = known.get(migrate)
    if found is None:
        found = known[migrate] = make(migrate)
    return found


def _is_flask_migrate(migrate: Any) -> bool:
    return hasattr(migrate, "get_config")


def _read_scripts(migrate: Any) -> _Scripts:
    with require_extra("alembic"):
        from alembic.script import ScriptDirectory
    config = migrate.get_config(migrate.directory) if _is_flask_migrate(migrate) else migrate
    directory = ScriptDirectory.from_config(config)
    scripts = list(directory.walk_revisions())
    # A revision that another one depends on is not kept in the database beside that one.
    implied = {
        other.revision
        for script in scripts
        for other in directory.get_revisions(script.dependencies or ())
        if other is not None
    }
    revisions = frozenset(script.revision for script in scripts)
    return _Scripts(revisions, frozenset(directory.get_heads()) - implied)


def _engine_for(migrate: Any, db: Any) -> Engine:
    if db is not None:
        return engine_of(db)
    if _is_flask_migrate(migrate):
        return engine_of(migrate.db)
    return _once_for(migrate, _engines, _engine_from_url)


def _engine_from_url(config: Config) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    url = config.get_main_option("sqlalchemy.url")
    if not url:
        raise ValueError("the Alembic config has no sqlalchemy.url: set it, or pass db")
    return create_engine(url, poolclass=NullPool)


def _version_table(migrate: Any) -> tuple[str, str | None]:
    """Return the name and the schema of the table of applied revisions.

    They may have been changed: Flask-Migrate was told so by keyword arguments; a Config can
    say it in its main section.
    """
    option = (
        migrate.alembic_ctx_kwargs.get if _is_flask_migrate(migrate) else migrate.get_main_option
    )
    return option("version_table") or "alembic_version", option("version_table_schema")


def _applied(engine: Engine, version_table: str, schema: str | None) -> frozenset[str]:
    # Not Alembic's MigrationContext, which logs two lines at INFO for each heartbeat.
    from sqlalchemy import column, inspect, select, table

    revisions = table(version_table, column("version_num"), schema=schema)
    with engine.connect() as connection:
        if not inspect(connection).has_table(version_table, schema=schema):
            return frozenset()
        return frozenset(connection.execute(select(revisions.c.version_num)).scalars())


def _compare(scripts: _Scripts, applied: frozenset[str]) -> list[CheckMessage]:
    unknown = applied - scripts.revisions
    if unknown:
        text = f"The database is at a revision that the code does not have: {_listed(unknown)}"
        return [Info(text, id=INFO_UNKNOWN_REVISION)]
    pending = scripts.heads - applied
    if pending:
        text = f"Unapplied migrations found: {_listed(pending)}"
        return [Warning(text, id=WARNING_UNAPPLIED_MIGRATION)]
    return []


def _listed(revisions: Iterable[str]) -> str:
    return ", ".join(sorted(revisions))
