"""The built-in check for Alembic's migrations."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import require_extra
from ..redaction import format_error
from .database import format_db_error, missing_file, run_query, shares_connection, sqlite_file
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
from .runner import report_when_overdue

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection, Engine

_HINT = "Apply them: alembic upgrade head, or flask db upgrade with Flask-Migrate"
_TABLE_HINT = "if env.py uses another one, configure version_table and version_table_schema"


class _Scripts(NamedTuple):
    revisions: frozenset[str]
    heads: frozenset[str]  # which nothing follows


def check_migrations_applied(migrate: Any, db: Any = None) -> list[CheckMessage]:
    """Compare the database's revisions with those of the migration scripts.

    The scripts are read once per process; ``env.py`` is not executed.

    Args:
        migrate: An ``alembic.config.Config``, or a ``flask_migrate.Migrate``. If ``env.py`` sets
            ``version_table`` or ``version_table_schema``, the ``Config`` must have the same in
            its main section, and ``Migrate`` in its keyword arguments.
        db: The database to ask, as for `check_database_connected`; by default Flask-Migrate's
            own, or the ``sqlalchemy.url`` of the ``Config``.

    Returns:
        A warning ``dockerflow.health.W001`` if the database lacks migrations or the version
        table; an info ``I001`` if it cannot be asked now, or is in memory on a connection that
        the app may be using; an info ``I002`` if it is at a revision that the scripts do not
        have, as during a rolling deployment; an error ``E011`` if the scripts or the config are
        unusable, or the database's driver is for asyncio. An empty list if it is up to date.

    Raises:
        ImportError: Alembic is not installed.
    """
    with require_extra("alembic"):
        from sqlalchemy.exc import SQLAlchemyError
    try:
        scripts = _read_scripts(migrate)
        engine = _engine_for(migrate, db)
    except Exception as error:  # noqa: BLE001 - revision scripts are code and may raise anything
        return [_unusable(f"{type(error).__name__}: {format_error(error)}")]
    if engine.dialect.is_async:
        return [_unusable("the database's driver is for asyncio: pass a synchronous engine as db")]
    if path := missing_file(engine):
        return _compare(scripts, frozenset(), f"the SQLite file {path} does not exist")
    if sqlite_file(engine) is None and shares_connection(engine):
        return [_cannot_ask("the app may be using the connection of a database in memory")]
    try:
        with report_when_overdue(lambda: [_cannot_ask("it has not answered yet")]):
            applied = run_query(engine, partial(_read_applied, migrate), _cannot_ask)
    except SQLAlchemyError as error:
        return [_cannot_ask(format_db_error(error))]
    return _compare(scripts, *applied)


def _cannot_ask(reason: str) -> CheckMessage:
    text = f"The database cannot be asked for its migrations: {reason}"
    return Info(text, id=INFO_CANT_CHECK_MIGRATIONS)


def _unusable(reason: str) -> CheckMessage:
    return Error(f"The migrations are unusable: {reason}", id=ERROR_UNUSABLE_MIGRATIONS)


def _is_flask_migrate(migrate: Any) -> bool:
    return hasattr(migrate, "get_config")


@cache  # but not an exception
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
    if db is None and _is_flask_migrate(migrate):
        db = migrate.db
    engine: Engine | None = getattr(db, "engine", db)
    return engine or _make_engine(migrate)


@cache
def _make_engine(config: Config) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    url = config.get_main_option("sqlalchemy.url")
    if not url:
        raise ValueError("the Alembic config has no sqlalchemy.url: set it, or pass db")
    return create_engine(url, poolclass=NullPool)


def _read_applied(migrate: Any, connection: Connection) -> tuple[frozenset[str], str]:
    """Return the database's revisions, and a text if there is no version table."""
    # Alembic's MigrationContext would log two lines at INFO for each heartbeat.
    from sqlalchemy import column, inspect, select, table

    is_flask_migrate = _is_flask_migrate(migrate)
    option = migrate.alembic_ctx_kwargs.get if is_flask_migrate else migrate.get_main_option
    name, schema = option("version_table") or "alembic_version", option("version_table_schema")
    if not inspect(connection).has_table(name, schema=schema):
        full_name = f"{schema}.{name}" if schema else name
        return frozenset(), f"there is no table {full_name}; {_TABLE_HINT}"
    revisions = select(table(name, column("version_num"), schema=schema).c.version_num)
    return frozenset(connection.execute(revisions).scalars()), ""


def _compare(scripts: _Scripts, applied: frozenset[str], missing: str) -> list[CheckMessage]:
    if unknown := ", ".join(sorted(applied - scripts.revisions)):
        text = f"The database is at a revision that the code does not have: {unknown}"
        return [Info(text, id=INFO_UNKNOWN_REVISION)]
    if pending := ", ".join(sorted(scripts.heads - applied)):
        text = f"Unapplied migrations found: {pending}{missing and f' ({missing})'}"
        return [Warning(text, hint=_HINT, id=WARNING_UNAPPLIED_MIGRATION)]
    return []
