"""Tells of ``os._exit()`` in the app's code, after which nothing could be told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..stack import stack_of_thread
from .patience import current_thread_id

REMEDY = "Let it raise an exception that says why, or not exit"

leave = os._exit  # within `told_exit` the name is another function's


@contextmanager
def told_exit(tell: Callable[[list[str]], object]) -> Iterator[None]:
    """Call a function before this process ends by ``os._exit()``.

    Args:
        tell: Called with where that is called, on that thread. A child that was forked may end
            as it likes.
    """
    process, watching = os.getpid(), [True]

    def told(status: int) -> None:
        if watching and os.getpid() == process:
            tell(stack_of_thread(current_thread_id()))
        leave(status)

    before = os._exit
    os._exit = told  # type: ignore[assignment]
    try:
        yield
    finally:
        watching.clear()  # the app may have kept it
        os._exit = before
