"""`CheckRunner`: runs all checks at the same time and reports within a deadline."""

from __future__ import annotations

import contextvars
import copy
import inspect
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import NoThreadError, call_safely, format_traceback, log_redacted
from ..redaction import format_error, redact, safe_str, truncate
from .messages import (
    ERROR_CHECK_RAISED,
    ERROR_CHECK_RETURNED_NO_MESSAGE,
    ERROR_CHECK_TIMED_OUT,
    CheckMessage,
    Error,
)
from .report import CheckResult, HeartbeatReport

if TYPE_CHECKING:
    from .registry import CheckFunction, CheckRegistry, Functions

CheckContext: TypeAlias = Callable[[], AbstractContextManager[object]]
MakeMessages: TypeAlias = Callable[[], list[CheckMessage]]

_MAX_WAIT_WHILE_OVERDUE_S = 0.1
_MAX_WAIT_S = 3600.0  # at a time
_MAX_MESSAGES = 1000  # of a check; an endless generator would fill the memory
_HOOK_WAIT_S = 0.05  # after the deadline of the heartbeat
_MAX_HOOK_CALLS = 4  # at the same time

logger = logging.getLogger("dockerflow_wsgi.checks")

_current_run: contextvars.ContextVar[CheckRun | None] = contextvars.ContextVar(
    "dockerflow_wsgi.check_run", default=None
)


class CheckRunner:
    """Runs a registry's checks for one middleware.

    Probers that ask at the same time share one heartbeat, which ends at its own deadline. While a
    check is known to be overdue, heartbeats hardly wait, so they cannot use up the server's
    threads.

    Args:
        registry: The checks.
        timeout_s: Seconds until the deadline of a heartbeat; ``None`` runs the checks in the
            caller's thread, one after the other, without a deadline.
        ttl_s: Seconds for which a report is served again; 0 for never.
        failed_level: The level from which on a heartbeat fails.
        silenced: IDs of messages that are neither reported nor logged.
        on_report: Called with the report of each heartbeat.
        context: Returns the context manager that each check runs in; it sees the exception that
            the check raises.
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
        self._on_report = on_report
        self._processes: dict[int, _Process] = {}

    def report(self) -> HeartbeatReport:
        """Run the checks, or wait for a heartbeat that runs them already, and return its report.

        With a time to live, return an earlier report if it is young enough.
        """
        process = self._processes.setdefault(os.getpid(), _Process())
        heartbeat = self._join(process)
        with heartbeat.lock:  # the first prober runs the checks, and the others wait for it
            is_first = heartbeat.report is None
            report = heartbeat.report = heartbeat.report or self._run_checks(process, heartbeat)
        if is_first:
            for run, result in zip(heartbeat.shown, report.results, strict=True):
                if run.log_claim.acquire(blocking=False):
                    call_safely("Logging a check", _log, result, default=None)
            self._call_hook(process, heartbeat, report)
        return report

    def _join(self, process: _Process) -> _Heartbeat:
        functions, now_s = self._registry.functions, time.monotonic()
        with process.lock:
            last = process.heartbeat
            if last is not None and last.functions == functions:
                end_s = last.started_s + self._ttl_s if last.report else last.deadline_s
                if now_s < end_s:
                    return last
            process.heartbeat = _Heartbeat(functions, now_s, self._timeout_s)
            return process.heartbeat

    def _run_checks(self, process: _Process, heartbeat: _Heartbeat) -> HeartbeatReport:
        runs = heartbeat.runs or [
            self._run(*item, heartbeat.deadline_s) for item in heartbeat.functions.items()
        ]
        heartbeat.runs = runs  # for another prober, if this one is killed
        earlier = {run.name: run for run in process.runs if run.is_done}
        process.runs = [*earlier.values(), *runs]
        if any(run.is_overdue for run in process.runs):
            end_s = time.monotonic() + _MAX_WAIT_WHILE_OVERDUE_S
            heartbeat.deadline_s = min(heartbeat.deadline_s, end_s)
        for run in runs:
            run.wait(min(heartbeat.deadline_s, run.deadline_s))
        # A run that may still be in time is not shown, if there is an earlier one.
        heartbeat.shown = [
            run if run.is_done or run.is_overdue else earlier.get(run.name, run) for run in runs
        ]
        results = [self._without_silenced(run.result()) for run in heartbeat.shown]
        return HeartbeatReport(tuple(results), self._failed_level)

    def _run(self, name: str, function: CheckFunction, deadline_s: float) -> CheckRun:
        """Return the run of a check that is not over, of any middleware, or start a new one."""
        # By process, because a fork copies a run, but not its thread; and by context, because
        # each app has its own.
        owner = getattr(self._context, "__self__", self._context)  # methods have varying IDs
        runs, key = self._registry.runs, (name, os.getpid(), id(owner))
        new = CheckRun(name, function, self._context, deadline_s, partial(runs.pop, key, None))
        run: CheckRun = runs.setdefault(key, new)  # atomic: a lock could stay locked after a fork
        if run is new:
            run.start(in_line=self._in_line)
        return run

    def _without_silenced(self, result: CheckResult) -> CheckResult:
        messages = (m for m in result.messages if (m.id or result.name) not in self._silenced)
        return replace(result, messages=tuple(messages))

    def _call_hook(self, process: _Process, heartbeat: _Heartbeat, report: HeartbeatReport) -> None:
        """Call ``on_report``, which may hang, on one of a few threads."""
        hook = self._on_report
        if hook is None:
            return

        def call() -> None:
            call_safely("on_heartbeat", hook, report, default=None)

        running = [run for run in process.hook_runs if not run.is_done]
        if len(running) >= _MAX_HOOK_CALLS:
            logger.error("on_heartbeat is not called: %d calls are running", len(running))
            return
        run = CheckRun("on_heartbeat", call, nullcontext, math.inf)
        process.hook_runs = [*running, run]
        run.start(in_line=self._in_line)
        if not running:  # else calls seem to hang
            run.wait(heartbeat.deadline_s + _HOOK_WAIT_S)
        for message in run.result().messages if run.is_done else ():
            logger.error("on_heartbeat: %s", message.msg)


def _log(result: CheckResult) -> None:
    for message in result.messages:
        traceback = result.traceback if message.id == ERROR_CHECK_RAISED else None
        text = f"{message.id or result.name}: {message.msg}"
        log_redacted(logger, message.level, text, traceback, check=result.name)


# Locks are made when they are needed, because gevent may patch threading after the import.
class _Heartbeat:
    """One run of all checks, which any number of probers share."""

    def __init__(self, functions: Functions, started_s: float, timeout_s: float) -> None:
        self.functions = functions
        self.started_s = started_s  # seconds of the monotonic clock
        self.deadline_s = started_s + timeout_s
        self.lock = threading.RLock()
        self.runs: list[CheckRun] = []
        self.shown: list[CheckRun] = []  # the run of each check that the report shows
        self.report: HeartbeatReport | None = None


class _Process:
    """The state in one process: a child has no thread of its parent's, and needs its own locks."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.heartbeat: _Heartbeat | None = None  # the last one
        self.runs: list[CheckRun] = []  # of the last heartbeats
        self.hook_runs: list[CheckRun] = []  # calls of the hook


class CheckRun:
    """One run of a check, which any number of heartbeats can wait for.

    Args:
        name: The check's name.
        function: The check.
        context: Returns the context manager that the check runs in.
        deadline_s: The deadline in seconds of the monotonic clock; infinite for none.
        on_done: Called once, when the run is over.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], object],
        context: CheckContext,
        deadline_s: float,
        on_done: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self.deadline_s = deadline_s
        self.waits: list[MakeMessages] = []  # see report_when_overdue(); the innermost is last
        self.sessions: list[Any] = []  # those of SQLAlchemy, to be closed
        self.log_claim = threading.Lock()  # for the heartbeat that logs the run
        self.thread_id: int | None = None
        self._function, self._context, self._on_done = function, context, on_done
        self._messages: list[CheckMessage] = []
        self._traceback: str | None = None
        self._started_s = time.monotonic()
        self._ended_s: float | None = None
        self._done = threading.Event()

    def start(self, *, in_line: bool) -> None:
        """Start the check on a daemon thread, or run it in line.

        If no thread can be started, the check is not run, and the result reports it.
        """
        run = contextvars.copy_context().run  # the check sees the prober's request ID
        if in_line:
            run(self._execute, in_line=True)
            return
        name = f"dockerflow {self.name}"
        try:
            threading.Thread(target=run, args=(self._execute,), name=name, daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            self._add_error(NoThreadError(f"the check was not run: {error}"))
            self._finish()

    def wait(self, until_s: float) -> None:
        """Wait until the run is over or a time has come.

        Raises:
            RuntimeError: The caller is the check itself.
        """
        while not self.is_done and (left_s := until_s - time.monotonic()) > 0:
            if self.thread_id == threading.get_ident():
                raise RuntimeError("a check cannot wait for its own heartbeat")
            self._done.wait(min(left_s, _MAX_WAIT_S))  # gevent's timers return early

    @property
    def is_done(self) -> bool:
        """Whether the run is over."""
        return self._ended_s is not None

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline passed before the run was over."""
        return self._started_s + self.duration_s >= self.deadline_s

    @property
    def duration_s(self) -> float:
        """The duration in seconds; while the check runs, until now."""
        ended_s = self._ended_s
        return (time.monotonic() if ended_s is None else ended_s) - self._started_s

    def result(self) -> CheckResult:
        """Return what a heartbeat reports about the run at this moment."""
        messages = self._messages
        if not self.is_done:
            messages = self._messages_of_wait() or [self._timeout()]
        elif self.is_overdue:
            text = f"Check took {self.duration_s:.1f} s, longer than its deadline"
            messages = [*messages, Error(text, id=ERROR_CHECK_TIMED_OUT)]
        return CheckResult(self.name, tuple(messages), self.duration_s, self._traceback)

    def _messages_of_wait(self) -> list[CheckMessage]:
        try:
            return list(map(_clean, self.waits[-1]()))
        except Exception:  # noqa: BLE001 - there is no function, or it raised
            return []

    def _timeout(self) -> Error:
        seconds = self.duration_s
        start = datetime.now(timezone.utc) - timedelta(seconds=seconds)
        text = f"Check timed out: it is still running after {seconds:.1f} s, "
        text += f"since {start:%Y-%m-%d %H:%M:%S} UTC"
        return Error(text, id=ERROR_CHECK_TIMED_OUT)

    def _execute(self, *, in_line: bool = False) -> None:
        self.thread_id = threading.get_ident()
        _current_run.set(self)
        leaving = "Leaving the context of a check"
        stack = ExitStack()
        try:
            try:
                _listen_to_sessions()
                stack.enter_context(self._context())
                for item in islice(_items(self._function()), _MAX_MESSAGES):
                    self._messages.append(_clean(item))
            except BaseException:
                call_safely(leaving, stack.__exit__, *sys.exc_info(), default=None)
                raise
            else:
                call_safely(leaving, stack.close, default=None)
        except BaseException as error:
            self._add_error(error)
            if in_line and not isinstance(error, (Exception, SystemExit)):
                raise  # the server's own, such as KeyboardInterrupt
        finally:
            for session in self.sessions:
                call_safely("Closing a check's session", session.close, default=None)
            self._finish()

    def _add_error(self, error: BaseException) -> None:
        is_not_run = isinstance(error, NoThreadError)
        message_id = ERROR_CHECK_TIMED_OUT if is_not_run else ERROR_CHECK_RAISED
        text = f"{type(error).__name__}: {format_error(error)}"
        self._messages.append(Error(text, id=message_id))
        self._traceback = format_traceback(error)

    def _finish(self) -> None:
        self._on_done()
        self._ended_s = time.monotonic()
        self._done.set()


@contextmanager
def report_when_overdue(make_messages: MakeMessages) -> Iterator[None]:
    """Report messages instead of a timeout if the check's deadline passes in this context.

    The function is called on the prober's thread. If it raises, the timeout is reported.
    """
    run = _current_run.get()
    waits = [] if run is None else run.waits  # a check may be called outside a run
    waits.append(make_messages)
    try:
        yield
    finally:
        waits.pop()


def _listen_to_sessions() -> None:
    """Note the SQLAlchemy sessions that checks begin.

    A session outlives its thread, because it is part of a reference cycle, and would keep its
    connection until the garbage collector runs.
    """
    session_class = getattr(sys.modules.get("sqlalchemy.orm"), "Session", None)
    if session_class is not None:
        from sqlalchemy import event

        if not event.contains(session_class, "after_begin", _note_session):
            event.listen(session_class, "after_begin", _note_session)


def _note_session(session: Any, transaction: Any, _connection: Any) -> None:
    run = _current_run.get()
    # An async check runs on another thread, and closes its own sessions.
    if run and run.thread_id == threading.get_ident() and not transaction.nested:
        run.sessions.append(session)


def _items(returned: Any) -> Iterable[object]:
    if inspect.isawaitable(returned) or inspect.isasyncgen(returned):
        from .event_loop import run_coroutine

        returned = run_coroutine(_awaited(returned))
    if returned is None:
        return ()
    if isinstance(returned, Iterable) and not isinstance(returned, (str, bytes, dict)):
        return returned
    return (returned,)


async def _awaited(returned: Any) -> Any:
    if inspect.isasyncgen(returned):
        items = []
        async for item in returned:
            items.append(item)
            if len(items) == _MAX_MESSAGES:
                break
        return items
    return await returned


def _clean(item: object) -> CheckMessage:
    """Return a copy of a message, whose texts are strings without credentials."""
    if not isinstance(item, CheckMessage):
        text = "The check returned an object that is not a CheckMessage; return a list of Debug, "
        text += "Info, Warning, Error or Critical, empty if all is well. It returned "
        text += f"{type(item).__name__} {safe_str(item)!r}"
        item = Error(text, id=ERROR_CHECK_RETURNED_NO_MESSAGE)
    message = copy.copy(item)  # not replace(): a subclass may have another __init__
    object.__setattr__(message, "level", int(item.level))
    for name in ("msg", "hint", "id"):
        value = getattr(item, name)
        if value is not None:
            object.__setattr__(message, name, redact(truncate(safe_str(value))))
    return message
