"""Borrowing a connection from an engine's pool without harm to the app."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .deadline import seconds_left

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

_POLL_S = 0.02


def has_room(pool: Pool) -> bool:
    """Wait until a pool has a connection to give, for half of the time that is left.

    A pool waits 30 seconds by default before it says that it is exhausted; a heartbeat is over
    by then, and could only tell that the check was not done.

    Args:
        pool: An engine's pool.

    Returns:
        Whether it has one. True without a deadline, for then the pool can wait as it likes.
    """
    left_s = seconds_left()
    if left_s is None:
        return True
    give_up_s = time.monotonic() + left_s / 2
    while _is_full(pool):
        wait_s = min(_POLL_S, give_up_s - time.monotonic())
        if wait_s <= 0:
            return False
        time.sleep(wait_s)
    return True


@contextmanager
def own_connections(engine: Engine) -> Iterator[Engine]:
    """Make an engine whose connections are not the app's.

    SQLite's in-memory databases live in pools that give every thread the same connection, or
    drop the connections of old threads for that of a new one: to borrow one would end the
    app's transaction, or lose its database.

    Args:
        engine: The app's engine.

    Yields:
        An engine with a pool of its own in these cases; else the app's.
    """
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import SingletonThreadPool, StaticPool

    if not isinstance(getattr(engine, "pool", None), (SingletonThreadPool, StaticPool)):
        yield engine
        return
    own = Engine(engine.pool.recreate(), engine.dialect, engine.url)
    try:
        yield own
    finally:
        own.dispose()


def _is_full(pool: Pool) -> bool:
    from sqlalchemy.pool import QueuePool

    if not isinstance(pool, QueuePool):
        return False  # the others never wait
    limit = getattr(pool, "_max_overflow", -1)  # SQLAlchemy has no public name for it
    return bool(-1 < limit <= pool.overflow() and not pool.checkedin())
