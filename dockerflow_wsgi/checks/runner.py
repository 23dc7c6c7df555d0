"""`CheckRunner`: runs all checks at the same time and reports within a deadline."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import call_safely, log_redacted
from .messages import ERROR_CHECK_RAISED
from .report import CheckResult, HeartbeatReport
from .run import CheckRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .registry import CheckRegistry, Functions
    from .run import CheckContext

_MAX_WAIT_WHILE_OVERDUE_S = 0.1
_MIN_HOOK_WAIT_S = 0.05
_MAX_HOOK_CALLS = 4  # at the same time

logger = logging.getLogger("dockerflow_wsgi.checks")


class CheckRunner:
    """Runs a registry's checks for one middleware.

    Probers that ask at the same time share one run of the checks, which ends at its own deadline.
    While a check is known to be overdue, probers hardly wait, so they cannot use up the server's
    threads.

    Args:
        registry: The checks.
        timeout_s: Seconds until the deadline of a run; ``None`` runs the checks in the caller's
            thread, one after the other, without a deadline.
        ttl_s: Seconds for which a report is served again; 0 for never.
        failed_level: The level from which on a heartbeat fails.
        silenced: IDs of messages that are neither reported nor logged.
        on_report: Called with the report of each run of the checks.
        context: Returns the context manager that each check runs in.
    """

    def __init__(
        self,
        registry: CheckRegistry,
        *,
        timeout_s: float | None,
        ttl_s: float,
        failed_level: int,
        silenced: Iterable[str],
        on_report: Callable[[HeartbeatReport], object] | None,
        context: CheckContext = nullcontext,
    ) -> None:
        self._registry = registry
        self._context = context
        self._in_line = timeout_s is None
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._ttl_s = ttl_s
        self._failed_level = failed_level
        self._silenced = frozenset(silenced)
        self.on_report = on_report
        self._processes: dict[int, _Process] = {}

    def report(self) -> HeartbeatReport:
        """Run the checks, or join a run that is not over, and return the report.

        With a time to live, return an earlier report if it is young enough.
        """
        process = self._processes.setdefault(os.getpid(), _Process())
        heartbeat = self._join(process)
        if heartbeat.report is None:
            heartbeat.wait(in_line=self._in_line)
        return heartbeat.report or self._make_report(process, heartbeat)

    def _join(self, process: _Process) -> _Heartbeat:
        functions = self._registry.functions
        with process.lock:
            last = process.heartbeat
            if last is not None and last.functions == functions:
                is_young = time.monotonic() < last.started_s + self._ttl_s
                if is_young if last.report else not last.is_over:
                    return last
            finished = {} if last is None else last.finished_runs()
            process.heartbeat = self._new_heartbeat(functions, finished)
            return process.heartbeat

    def _new_heartbeat(self, functions: Functions, finished: dict[str, CheckRun]) -> _Heartbeat:
        started_s = time.monotonic()
        deadline_s = started_s + self._timeout_s
        runs = [
            self._registry.run(name, function, self._context, deadline_s)
            for name, function in functions.items()
        ]
        if any(run.is_overdue for run in (*runs, *finished.values())):
            deadline_s = min(deadline_s, started_s + _MAX_WAIT_WHILE_OVERDUE_S)
        return _Heartbeat(functions, started_s, deadline_s, runs, finished)

    def _make_report(self, process: _Process, heartbeat: _Heartbeat) -> HeartbeatReport:
        runs = [heartbeat.shown_run(run) for run in heartbeat.runs]
        results = tuple(self._without_silenced(run.result()) for run in runs)
        report = HeartbeatReport(results, self._failed_level)
        if heartbeat.is_over and heartbeat.claim.acquire(blocking=False):
            heartbeat.report = report
            for run, result in zip(runs, results, strict=True):
                if run.log_claim.acquire(blocking=False):
                    call_safely("Logging a check", _log, result, default=None)
            self._call_hook(process, heartbeat, report)
        return report

    def _without_silenced(self, result: CheckResult) -> CheckResult:
        messages = (m for m in result.messages if (m.id or result.name) not in self._silenced)
        return replace(result, messages=tuple(messages))

    def _call_hook(self, process: _Process, heartbeat: _Heartbeat, report: HeartbeatReport) -> None:
        """Call ``on_report``, which may hang, on one of a few threads."""
        hook = self.on_report
        if hook is None:
            return

        def call() -> None:
            call_safely("on_heartbeat", hook, report, default=None)

        if self._in_line:
            call()
            return
        running = [run for run in process.hook_runs if not run.is_done]
        if len(running) >= _MAX_HOOK_CALLS:
            logger.error("on_heartbeat is not called: %d calls are running", len(running))
            return
        run = CheckRun("on_heartbeat", call, nullcontext, math.inf)
        process.hook_runs = [*running, run]
        run.start(in_line=False)
        if not running:  # else calls seem to hang
            run.wait(max(heartbeat.deadline_s, time.monotonic() + _MIN_HOOK_WAIT_S))
        for message in run.result().messages if run.is_done else ():
            logger.error("on_heartbeat: %s", message.msg)


def _log(result: CheckResult) -> None:
    for message in result.messages:
        traceback = result.traceback if message.id == ERROR_CHECK_RAISED else None
        text = f"{message.id or result.name}: {message.msg}"
        log_redacted(logger, message.level, text, traceback, check=result.name)


@dataclass(eq=False)
class _Process:
    """The state in one process: a child has no thread of its parent's, and needs its own locks."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    heartbeat: _Heartbeat | None = None  # the last one
    hook_runs: list[CheckRun] = field(default_factory=list)  # calls of the hook


@dataclass(eq=False)
class _Heartbeat:
    """One run of all checks, which any number of probers share."""

    functions: Functions
    started_s: float  # seconds of the monotonic clock
    deadline_s: float  # when probers stop waiting; infinite for when the checks are done
    runs: list[CheckRun]
    finished: dict[str, CheckRun]  # the last finished run of each check, by name
    claim: threading.Lock = field(default_factory=threading.Lock)  # to log and to call the hook
    report: HeartbeatReport | None = None

    def wait(self, *, in_line: bool) -> None:
        """Start the checks, and wait until they are done or the deadline has passed."""
        for run in self.runs:
            run.start(in_line=in_line)
        for run in self.runs:
            run.wait(min(self.deadline_s, run.deadline_s))

    @property
    def is_over(self) -> bool:
        """Whether all checks are done, or the deadline has passed."""
        is_late = time.monotonic() >= self.deadline_s
        return is_late or all(run.is_done or run.is_overdue for run in self.runs)

    def shown_run(self, run: CheckRun) -> CheckRun:
        """Return the run to report: the last finished one, if this one may still be in time."""
        return run if run.is_done or run.is_overdue else self.finished.get(run.name, run)

    def finished_runs(self) -> dict[str, CheckRun]:
        """Return the last finished run of each check, by name."""
        shown = map(self.shown_run, self.runs)
        return {run.name: run for run in shown if run.is_done}
