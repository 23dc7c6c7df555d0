"""Checks for Django, to be registered with `dockerflow_wsgi.DockerflowMiddleware.check`.

A check runs in a thread of its own, where Django opens connections of its own. Pass
`connections_closed` as ``check_context`` to close them at the end of each check::

    application = dockerflow = DockerflowMiddleware(
        get_wsgi_application(), check_context=connections_closed
    )
    dockerflow.check(check_databases)

An ``async`` check runs in another thread, whose connections are not closed: use Django's ORM in
plain checks only.
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .checks import (
    ERROR_DB_API_EXCEPTION,
    INFO_CANT_CHECK_MIGRATIONS,
    WARNING_UNAPPLIED_MIGRATION,
    CheckMessage,
    Error,
    Info,
    Warning,  # noqa: A004 - the published name
)
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

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUERIES = {"oracle": "SELECT 1 FROM DUAL", "sqlite": "SELECT 1 FROM sqlite_master"}
"""Queries by ``connection.vendor``. SQLite does not read its file for ``SELECT 1`` alone."""

_KEY_TIMEOUT_S = 60
_READ_PAUSES_S = (0, 0.05, 0.2)


@contextmanager
def connections_closed() -> Iterator[None]:
    """Close this thread's connections to databases and caches at the end of the context."""
    try:
        yield
    finally:
        connections.close_all()
        caches.close_all()


def check_databases() -> list[CheckMessage]:
    """Send a query to each database in ``DATABASES``.

    Returns:
        An error ``dockerflow.health.E008`` for each database that cannot be queried.
    """
    return [message for alias in connections for message in _query(alias)]


def check_migrations(*, database: str = DEFAULT_DB_ALIAS) -> list[CheckMessage]:
    """Compare the migrations of the installed apps with those applied to a database.

    Args:
        database: The alias of the database, as for ``manage.py migrate --database``.

    Returns:
        A warning ``dockerflow.health.W001`` with the app and the name of each unapplied migration,
        or an info ``I001`` if the database cannot be queried.
    """
    try:
        executor = MigrationExecutor(_connection(database))
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, ImproperlyConfigured) as error:
        text = f"Cannot query the migrations of database {database!r}: {format_error(error)}"
        return [Info(text, id=INFO_CANT_CHECK_MIGRATIONS)]
    if not plan:
        return []
    names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
    text = f"Unapplied migrations in database {database!r}: {names}"
    return [Warning(text, hint="Run manage.py migrate", id=WARNING_UNAPPLIED_MIGRATION)]


def check_caches() -> list[CheckMessage]:
    """Set, get and delete a key in each cache in ``CACHES``, except dummy caches.

    The key is random and expires after 60 seconds. The check keeps one connection to a Redis for
    each process.

    Returns:
        An error for each cache that raises an exception or does not return the value. It has no
        ID, and so it is reported under the check's name.
    """
    return [message for alias in settings.CACHES for message in _use(alias)]


def check_system(*, deploy: bool = False) -> list[CheckMessage]:
    """Run Django's system checks, as ``manage.py check`` does.

    Args:
        deploy: Whether to run the deployment checks too, as with ``--deploy``.

    Returns:
        Django's messages, with their IDs and levels, except those in ``SILENCED_SYSTEM_CHECKS``.
    """
    return [
        CheckMessage(str(m.msg), level=m.level, hint=m.hint, obj=m.obj, id=m.id)
        for m in run_checks(include_deployment_checks=deploy)
        if not m.is_silenced()
    ]


def _query(alias: str) -> list[CheckMessage]:
    try:
        connection = _connection(alias)
        with connection.cursor() as cursor:
            cursor.execute(_QUERIES.get(connection.vendor, "SELECT 1"))
    except (DatabaseError, ImproperlyConfigured) as error:
        return [Error(f"Database {alias!r}: {format_error(error)}", id=ERROR_DB_API_EXCEPTION)]
    return []


def _connection(alias: str) -> Any:
    """Return this thread's connection; raise if it would create an SQLite file."""
    connection = connections[alias]
    if connection.vendor == "sqlite":
        path = str(connection.settings_dict["NAME"])
        is_uri = path.startswith("file:") or path == ":memory:"
        if not is_uri and not os.path.exists(path):
            raise OperationalError(f"there is no SQLite file {os.path.basename(path)!r}")
    return connection


def _use(alias: str) -> list[CheckMessage]:
    try:
        cache = _own_cache(alias, repr(settings.CACHES[alias]), os.getpid())
        if isinstance(cache, DummyCache) or _can_store(cache):
            return []
    except Exception as error:  # noqa: BLE001 - each backend has exceptions of its own
        return [Error(f"Cache {alias!r}: {type(error).__name__}: {format_error(error)}")]
    return [Error(f"Cache {alias!r} does not return the value that was set")]


@lru_cache
def _own_cache(alias: str, _setting: str, _process_id: int) -> Any:
    """Make the client of the checks in this process.

    Not ``caches[alias]``, which is a new client in each thread: Django does not close the
    connections of its Redis clients, so each check would leave one to the garbage collector.
    """
    return caches.create_connection(alias)


def _can_store(cache: Any) -> bool:
    """Return whether a cache stores a value; Django may read it from a replica that is late."""
    key = f"dockerflow_wsgi.{uuid.uuid4()}"
    try:
        cache.set(key, key, timeout=_KEY_TIMEOUT_S)
        for pause_s in _READ_PAUSES_S:
            time.sleep(pause_s)
            if cache.get(key) == key:
                cache.delete(key)
                return True
    finally:
        cache.close()
    return False
