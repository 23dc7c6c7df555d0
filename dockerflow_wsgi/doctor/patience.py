"""Bounds for whatever may hang."""

from __future__ import annotations

import threading
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Generic, TypeVar

from ..stack import stack_of_thread

T = TypeVar("T")


class OverdueError(Exception):
    """Something was not done in time.

    Args:
        timeout_s: How long it was waited for, in seconds.
        stack: Where it was then.

    Attributes:
        stack: Where it was then.
    """

    def __init__(self, timeout_s: float, stack: list[str]) -> None:
        super().__init__(f"not done after {timeout_s:g} s")
        self.stack = stack


class Task(Generic[T]):
    """A function on a thread of its own, which never keeps the process alive.

    Args:
        function: The function; called at once.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._call,), name="doctor", daemon=True
        )
        self._thread.start()

    def result(self, timeout_s: float | None) -> T:
        """Wait for the function.

        Args:
            timeout_s: How long at most, in seconds; ``None`` for one that bounds itself.

        Returns:
            What it returned.

        Raises:
            OverdueError: It is not done.
            BaseException: What it raised.
        """
        self._thread.join(timeout_s)
        if self._error is not None:
            raise self._error
        if not self._results:
            raise OverdueError(timeout_s or 0.0, stack_of_thread(self._thread.ident))
        return self._results[0]

    def _call(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error


current_thread_id = get_ident  # the one that gevent does not replace


def call_later(delay_s: float, function: Callable[[], object]) -> Callable[[], None]:
    """Call a function on a thread that neither keeps the process alive nor can be patched.

    gevent's monkey-patching, as an app does it while it is imported, breaks the threads of
    `threading` that run already; these are the operating system's own.

    Args:
        delay_s: When to call it, in seconds from now.
        function: The function.

    Returns:
        What to call so that it is not called.
    """
    wanted = allocate_lock()
    wanted.acquire()

    def wait() -> None:
        if not wanted.acquire(timeout=delay_s):
            function()

    start_new_thread(wait, ())
    return wanted.release


@contextmanager
def watched(timeout_s: float, on_overdue: Callable[[list[str]], object]) -> Iterator[None]:
    """Watch this thread, which must do something itself, such as import the app.

    Args:
        timeout_s: How long it may take, in seconds.
        on_overdue: Called on another thread when it takes longer, with where this one is.
    """
    watched_id = get_ident()
    cancel = call_later(timeout_s, lambda: on_overdue(stack_of_thread(watched_id)))
    try:
        yield
    finally:
        cancel()
