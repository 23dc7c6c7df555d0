"""How long the heartbeat still waits for the check that is running."""

from __future__ import annotations

import time
from contextvars import ContextVar

_deadline_s: ContextVar[float | None] = ContextVar("dockerflow_wsgi.deadline", default=None)


def set_deadline(deadline_s: float | None) -> None:
    """Set the deadline of the check that runs in this context.

    Args:
        deadline_s: In seconds of the monotonic clock; ``None`` for as long as it takes.
    """
    _deadline_s.set(deadline_s)


def seconds_left() -> float | None:
    """Tell a check how long the heartbeat still waits for it.

    Returns:
        Seconds, 0 or more; ``None`` if the heartbeat waits for as long as it takes, or if this
        is called outside a heartbeat.
    """
    deadline_s = _deadline_s.get()
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
