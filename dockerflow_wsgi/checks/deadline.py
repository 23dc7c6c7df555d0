"""The deadline of a running check: the time left, and what to report when it has passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .messages import CheckMessage


@dataclass(slots=True)
class Deadline:
    """The deadline of one run of a check.

    Attributes:
        time_s: Seconds of the monotonic clock; ``None`` for no deadline.
        reports: Functions that make the messages of an overdue check, the innermost last.
    """

    time_s: float | None
    reports: list[Callable[[], list[CheckMessage]]] = field(default_factory=list)


current_deadline: ContextVar[Deadline | None] = ContextVar("dockerflow_wsgi.deadline", default=None)


def seconds_left() -> float | None:
    """Return how long the heartbeat still waits for the check that calls this.

    Returns:
        Seconds, 0 or more; ``None`` without a deadline and outside a check.
    """
    deadline = current_deadline.get()
    if deadline is None or deadline.time_s is None:
        return None
    return max(0.0, deadline.time_s - time.monotonic())


@contextmanager
def report_when_overdue(make_messages: Callable[[], list[CheckMessage]]) -> Iterator[None]:
    """Report messages instead of a timeout if the deadline passes in this context.

    Outside a check, this does nothing.

    Args:
        make_messages: Returns the messages. It is called on the prober's thread while the check
            is still running. If it raises, the timeout is reported.
    """
    deadline = current_deadline.get() or Deadline(None)
    deadline.reports.append(make_messages)
    try:
        yield
    finally:
        deadline.reports.pop()
