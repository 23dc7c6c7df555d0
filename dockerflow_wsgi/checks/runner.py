"""Runs the checks of a heartbeat, all at once and within a deadline."""

from __future__ import annotations

import logging
import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from ..errors import call_safely, log_redacted
from .ids import ERROR_CHECK_RAISED, ERROR_CHECK_TIMED_OUT
from .messages import Error
from .outcome import Outcome
from .report import CheckResult, HeartbeatReport
from .run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .outcome import CheckContext
    from .registry import CheckRegistry

_HOOK_GRACE_S = 0.05
_MAX_HANGING_HOOKS = 10

logger = logging.getLogger("dockerflow_wsgi.checks")


class _Cached(NamedTuple):
    report: HeartbeatReport
    process_id: int
    registry_version: int
    expires_s: float

    def is_valid(self, registry_version: int) -> bool:
        """Tell whether the report is young, of this process, and of all checks."""
        return (
            self.process_id == os.getpid()
            and self.registry_version == registry_version
            and time.monotonic() < self.expires_s
        )


class CheckRunner:
    """Runs a registry's checks for one middleware.

    Args:
        registry: The checks.
        timeout_s: Seconds after which a report is made whatever hangs; ``None`` runs the
            checks in line, one after the other, for as long as they take.
        ttl_s: Seconds for which a report is given again; 0 for never.
        failed_level: The level from which on a heartbeat has failed.
        silenced: IDs of messages that neither count nor are logged.
        on_report: Called with each new report; what it raises is logged.
        context: Makes the context manager that each check runs in.

    Attributes:
        on_report: Called with each new report, if set.
    """

    __slots__ = (
        "_cached",
        "_context",
        "_failed_level",
        "_registry",
        "_silenced",
        "_timeout_s",
        "_told",
        "_ttl_s",
        "on_report",
    )

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
        self._timeout_s = timeout_s
        self._ttl_s = ttl_s
        self._failed_level = failed_level
        self._silenced = frozenset(silenced)
        self.on_report = on_report
        self._cached: _Cached | None = None
        self._told: list[Run] = []

    def report(self) -> HeartbeatReport:
        """Run the checks, or give the last report again if it is young enough.

        Returns:
            The report.
        """
        version = self._registry.version
        cached = self._cached
        if cached is not None and cached.is_valid(version):
            return cached.report
        started_s = time.monotonic()
        results = tuple(self._results())
        report = HeartbeatReport(results, self._failed_level)
        if self._ttl_s > 0:
            expires_s = started_s + self._ttl_s
            self._cached = _Cached(report, os.getpid(), version, expires_s)
        for result in results:
            call_safely("Logging a check", self._log, result, default=None)
        if self.on_report is not None:
            self._tell(self.on_report, report, started_s)
        return report

    def _tell(
        self, hook: Callable[[HeartbeatReport], object], report: HeartbeatReport, started_s: float
    ) -> None:
        """Call the hook; like a check, it may hang without holding up the answer."""
        if self._timeout_s is None:
            call_safely("on_heartbeat", hook, report, default=None)
            return
        self._told = [run for run in self._told if run.outcome is None]
        late_s = time.monotonic() - self._timeout_s / 2  # many probers at once are no hang
        if sum(run.started_s < late_s for run in self._told) >= _MAX_HANGING_HOOKS:
            logger.error("on_heartbeat hangs: it is not called for this heartbeat")
            return

        def tell() -> None:
            call_safely("on_heartbeat", hook, report, default=None)

        run = Run("on_heartbeat", tell, nullcontext, None, on_done=bool)
        self._told.append(run)
        run.start()
        left_s = started_s + self._timeout_s - time.monotonic()
        run.wait(max(left_s, _HOOK_GRACE_S))

    def _results(self) -> Iterable[CheckResult]:
        if self._timeout_s is None:
            return [self._in_line(*check.run(self._context, None)) for check in self._registry]
        deadline_s = time.monotonic() + self._timeout_s
        runs = [check.run(self._context, deadline_s) for check in self._registry]
        for run, _ in runs:
            run.start()
        return [self._by_deadline(run, is_new, deadline_s) for run, is_new in runs]

    def _in_line(self, run: Run, is_new: bool) -> CheckResult:
        run.run_in_line()
        return self._result(run, run.wait(None), is_new)

    def _by_deadline(self, run: Run, is_new: bool, deadline_s: float) -> CheckResult:
        outcome = run.wait(max(0.0, deadline_s - time.monotonic()))
        return self._result(run, outcome, is_new)

    def _result(self, run: Run, outcome: Outcome | None, is_new: bool) -> CheckResult:
        is_slow = is_new and outcome is not None and self._is_slow(run)
        if outcome is None:
            outcome = Outcome((_timed_out(run, is_new),))
        counted = outcome.counted(run.name, self._silenced)
        duration_s = run.duration_s
        if duration_s is None:
            duration_s = time.monotonic() - run.started_s
        return CheckResult(run.name, counted, duration_s, outcome.traceback, is_slow)

    def _log(self, result: CheckResult) -> None:
        for message in result.messages:
            traceback = result.traceback if message.id == ERROR_CHECK_RAISED else None
            text = f"{message.id or result.name}: {message.msg}"
            log_redacted(logger, message.level, text, traceback, check=result.name)
        if result.is_slow:
            text = f"{result.name} is slow: it took {result.duration_s:.2f} s, more than half of "
            text += f"its deadline of {self._timeout_s:g} s"
            log_redacted(logger, logging.WARNING, text, check=result.name)

    def _is_slow(self, run: Run) -> bool:
        if self._timeout_s is None or run.duration_s is None:
            return False
        return run.duration_s > self._timeout_s / 2


def _timed_out(run: Run, is_new: bool) -> Error:
    seconds = time.monotonic() - run.started_s
    if is_new:
        text = f"The check was not done after {seconds:.1f} s; it goes on"
    else:
        text = f"The check is still running since {run.started_at:%Y-%m-%d %H:%M:%S} UTC, "
        text += f"{seconds:.1f} s ago; it is not started again"
    return Error(text, id=ERROR_CHECK_TIMED_OUT)
