"""Whether a connection pool has a connection to give."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .deadline import seconds_left

if TYPE_CHECKING:
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
        if time.monotonic() >= give_up_s:
            return False
        time.sleep(_POLL_S)
    return True


def _is_full(pool: Pool) -> bool:
    from sqlalchemy.pool import QueuePool

    if not isinstance(pool, QueuePool):
        return False  # the others never wait
    limit = getattr(pool, "_max_overflow", -1)  # SQLAlchemy has no public name for it
    return bool(-1 < limit <= pool.overflow() and not pool.checkedin())
