"""Which backing services a check asks, and the way to them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..checks.database import check_database_connected, engines_of
from ..checks.migrations import check_migrations_applied
from ..checks.redis import check_redis_connected
from .database import climb_database
from .patience import OverdueError, Task
from .redis import climb_redis

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ..checks.registry import RegisteredCheck
    from .ladder import Ladder
    from .subject import Subject

    Climb: TypeAlias = Callable[[Any, float], Ladder | None]


def ladders_of(
    subject: Subject, check: RegisteredCheck, known: dict[int, Ladder | None]
) -> list[Ladder]:
    """Climb to the services that a built-in check asks.

    Args:
        subject: The app.
        check: The check.
        known: The ladders so far, by the identity of engine or client: two checks may ask the
            same service. It gets the new ones.

    Returns:
        A ladder for each service; none for other checks, and where a client tells no address.
    """
    function = check.function
    if not isinstance(function, partial) or function.func not in _SERVICES:
        return []
    find, climb = _SERVICES[function.func]

    def climb_all() -> list[Ladder]:
        with subject.check_context():
            services = find(function)
        for service in services:
            if id(service) not in known:
                known[id(service)] = climb(service, subject.timeout_s)
        return [ladder for ladder in map(known.get, map(id, services)) if ladder is not None]

    try:
        # The ladder bounds each of its steps; this bounds what the objects do on the way.
        return Task(climb_all).result(subject.timeout_s * 8)
    except (Exception, OverdueError):  # noqa: BLE001 - then the check's own message is the reason
        return []


def _client(check: partial[Any]) -> list[Any]:
    return [check.args[0]]


def _engines(check: partial[Any]) -> list[Any]:
    return [engine for _, engine in engines_of(check.args[0])]


def _engines_of_migrations(check: partial[Any]) -> list[Any]:
    database = check.keywords.get("db")
    return [] if database is None else [engine for _, engine in engines_of(database)]


_SERVICES: dict[Any, tuple[Callable[[partial[Any]], list[Any]], Climb]] = {
    check_redis_connected: (_client, climb_redis),
    check_database_connected: (_engines, climb_database),
    check_migrations_applied: (_engines_of_migrations, climb_database),
}


def ladder_to_dict(ladder: Ladder) -> dict[str, Any]:
    """Return a ladder as ``--json`` shows it."""
    steps = [{"name": rung, "ok": True, "message": text} for rung, text in ladder.rungs]
    if ladder.fall is not None:
        steps.append({"name": ladder.fall.rung, "ok": False, "message": ladder.fall.reason})
    return {"service": ladder.service, "address": str(ladder.address), "steps": steps}
