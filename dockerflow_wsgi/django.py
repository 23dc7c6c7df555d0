"""Checks for Django; register them with `dockerflow_wsgi.DockerflowMiddleware.check`.

Each check runs in a separate thread, in which Django opens separate connections. Pass
`connections_closed` as ``check_context`` to close them at the end of each check. ``async`` checks
share another thread, where connections stay open: use the ORM in plain checks only.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from . import checks
from .errors import require_extra
from .redaction import format_error

with require_extra("django"):
    from django.conf import settings
    from django.core.cache import caches
    from django.core.cache.backends.dummy import DummyCache
    from django.core.checks import run_checks
    from django.core.exceptions import ImproperlyConfigured
    from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
    from django.db import Error as DatabaseError
    from django.db.migrations.executor import MigrationExecutor

# By vendor. SQLite does not read its file for SELECT 1 alone.
_QUERIES = {"oracle": "SELECT 1 FROM DUAL", "sqlite": "SELECT 1 FROM sqlite_master"}
_READ_PAUSES_S = (0, 0.05, 0.2)  # Django may read from a replica that is late


@contextmanager
def connections_closed() -> Iterator[None]:
    """Close this thread's connections to databases and caches at the end of the context."""
    try:
        yield
    finally:
        connections.close_all()
        caches.close_all()


def check_databases() -> list[checks.CheckMessage]:
    """Send a query to each database in ``DATABASES``.

    Returns:
        An error E008 for each database that fails.
    """
    return [message for alias in connections for message in _query(alias)]


def check_migrations(*, database: str = DEFAULT_DB_ALIAS) -> list[checks.CheckMessage]:
    """Compare the migrations of the installed apps with those applied to a database.

    Args:
        database: The alias of the database.

    Returns:
        A warning W001 with the names of unapplied migrations, or an info I001 if the database
        cannot be queried.
    """
    try:
        executor = MigrationExecutor(_connection(database))
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, ImproperlyConfigured) as error:
        text = f"Cannot query the migrations of database {database!r}: {format_error(error)}"
        return [checks.Info(text, id=checks.INFO_CANT_CHECK_MIGRATIONS)]
    if not plan:
        return []
    names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
    text = f"Unapplied migrations in database {database!r}: {names}"
    return [
        checks.Warning(text, hint="Run manage.py migrate", id=checks.WARNING_UNAPPLIED_MIGRATION)
    ]


def check_caches() -> list[checks.CheckMessage]:
    """Set, get and delete a random key in each cache in ``CACHES``, except dummy caches.

    Returns:
        An error without an ID for each cache that raises or does not return the value.
    """
    return [message for alias in settings.CACHES for message in _use(alias)]


def check_system(*, deploy: bool = False) -> list[checks.CheckMessage]:
    """Run Django's system checks, as ``manage.py check`` does, and report their messages.

    Args:
        deploy: Whether to run the deployment checks too, as with ``--deploy``.
    """
    return [
        checks.CheckMessage(str(m.msg), level=m.level, hint=m.hint, obj=m.obj, id=m.id)
        for m in run_checks(include_deployment_checks=deploy)
        if not m.is_silenced()
    ]


def _query(alias: str) -> list[checks.CheckMessage]:
    try:
        connection = _connection(alias)
        with connection.cursor() as cursor:
            cursor.execute(_QUERIES.get(connection.vendor, "SELECT 1"))
    except (DatabaseError, ImproperlyConfigured) as error:
        text = f"Database {alias!r}: {format_error(error)}"
        return [checks.Error(text, id=checks.ERROR_DB_API_EXCEPTION)]
    return []


def _connection(alias: str) -> Any:
    """Return this thread's connection; raise if it would create an SQLite file."""
    connection = connections[alias]
    path = str(connection.settings_dict["NAME"])
    is_file = connection.vendor == "sqlite" and not path.startswith((":memory:", "file:"))
    if is_file and not os.path.exists(path):
        raise OperationalError(f"there is no SQLite file {os.path.basename(path)!r}")
    return connection


def _use(alias: str) -> list[checks.CheckMessage]:
    try:
        cache = _own_cache(alias, repr(settings.CACHES[alias]), os.getpid())
        if isinstance(cache, DummyCache) or _can_store(cache):
            return []
    except Exception as error:  # noqa: BLE001 - the exceptions depend on the backend
        return [checks.Error(f"Cache {alias!r}: {type(error).__name__}: {format_error(error)}")]
    return [checks.Error(f"Cache {alias!r} does not return the value that was set")]


@lru_cache
def _own_cache(alias: str, _setting: str, _process_id: int) -> Any:
    """Make a client for the checks, once per process.

    ``caches[alias]`` makes a client per thread, and Django never closes its connections to Redis.
    """
    return caches.create_connection(alias)


def _can_store(cache: Any) -> bool:
    key = f"dockerflow_wsgi.{uuid.uuid4()}"
    try:
        cache.set(key, key, timeout=60)
        for pause_s in _READ_PAUSES_S:
            time.sleep(pause_s)
            if cache.get(key) == key:
                cache.delete(key)
                return True
    finally:
        cache.close()
    return False
