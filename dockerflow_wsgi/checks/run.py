"""One execution of one check, which any number of heartbeats may wait for."""

from __future__ import annotations

import contextvars
import threading
import time
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from .deadline import set_deadline
from .outcome import Outcome, call_check

if TYPE_CHECKING:
    from collections.abc import Callable

    from .outcome import CheckContext

THREAD_PREFIX = "dockerflow "  # of a check's thread, before the check's name


class Run:
    """One execution of a check.

    Args:
        name: The check's name.
        function: The check.
        context: Makes the context manager that the check runs in.
        deadline_s: How long the heartbeat that starts it waits, in seconds of the monotonic
            clock; ``None`` for as long as it takes.
        on_done: Called once when the check has returned or raised.

    Attributes:
        name: The check's name.
        started_s: When it was started, in seconds of the monotonic clock.
        started_at: The same by the wall clock, for people; UTC.
        duration_s: How long it took; ``None`` while it runs.
        outcome: What came of it; ``None`` while it runs.
        thread_id: The thread that runs it; ``None`` before.
    """

    __slots__ = (
        "_call",
        "_claim",
        "_deadline_s",
        "_done",
        "_on_done",
        "_variables",
        "duration_s",
        "name",
        "outcome",
        "started_at",
        "started_s",
        "thread_id",
    )

    def __init__(
        self,
        name: str,
        function: Callable[[], object],
        context: CheckContext,
        deadline_s: float | None,
        on_done: Callable[[], object],
    ) -> None:
        self.name = name
        self.started_s = time.monotonic()
        self.started_at = datetime.now(timezone.utc)
        self.duration_s: float | None = None
        self.outcome: Outcome | None = None
        self._call = partial(call_check, function, context)
        self._deadline_s = deadline_s
        self._on_done = on_done
        self._variables = contextvars.copy_context()  # the check sees the prober's request ID
        self._claim = threading.Lock()
        self._done = threading.Event()
        self.thread_id: int | None = None

    def start(self) -> None:
        """Start the check, once, on a thread of its own, which never keeps the process alive.

        Where no thread can be had, the check has run in line when this returns.
        """
        if self._claim.acquire(blocking=False):
            try:
                self._start_thread()
            except BaseException:
                self._claim.release()  # a signal came: the next heartbeat starts it
                raise

    def run_in_line(self) -> None:
        """Run the check, once, on the caller's thread; `SystemExit` counts as any exception."""
        if self._claim.acquire(blocking=False):
            self._variables.run(self._execute, SystemExit)

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=self._variables.run,
            args=(self._execute, BaseException),
            name=f"{THREAD_PREFIX}{self.name}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            self._variables.run(self._execute, SystemExit)

    def wait(self, timeout_s: float | None) -> Outcome | None:
        """Wait until the check is done.

        Args:
            timeout_s: How long at most, in seconds; ``None`` for as long as it takes. A check
                that waits for itself, by asking for the heartbeat, does not wait at all.

        Returns:
            What came of the check, or ``None`` if it still runs.
        """
        if self.thread_id != threading.get_ident():
            self._done.wait(timeout_s)
        return self.outcome

    def _execute(self, survives: type[BaseException]) -> None:
        self.thread_id = threading.get_ident()
        self.started_s = time.monotonic()
        set_deadline(self._deadline_s)
        try:
            self.outcome = self._call(survives)
        finally:
            self.duration_s = time.monotonic() - self.started_s
            self._on_done()
            self._done.set()
