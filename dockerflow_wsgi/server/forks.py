"""Keeps the sockets of this process from the children that it forks.

RQ forks for each job, Celery for its pool: a child that held the socket would keep the port
when the parent is gone, and nobody would answer there.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol


class Forkable(Protocol):
    """What listens, as a fork sees it.

    Attributes:
        server_port: Where it listens.
    """

    server_port: int

    def abandon(self) -> None:
        """Close, in a child, what the fork has copied."""


opening = threading.RLock()
"""A fork waits for it. Reentrant, as a signal handler may fork."""

listeners: set[Forkable] = set()
"""Those that are open in this process."""

_inherited: dict[int, int] = {}


def holder_of(port: int) -> int | None:
    """Tell which process of this program listens on a port.

    Args:
        port: The port.

    Returns:
        The ID of this process, or of the one that it was forked from, if it does.
    """
    if any(listener.server_port == port for listener in list(listeners)):
        return os.getpid()
    return _inherited.get(port)


def _abandon_in_child() -> None:
    opening.release()
    for listener in list(listeners):
        listener.abandon()
        _inherited[listener.server_port] = os.getppid()
    listeners.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=opening.acquire,
        after_in_parent=opening.release,
        after_in_child=_abandon_in_child,
    )
