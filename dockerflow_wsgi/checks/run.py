"""One run of one check: its thread, its deadline and its outcome."""

from __future__ import annotations

import contextvars
import copy
import inspect
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import NoThreadError, call_safely, format_traceback
from ..redaction import format_error, redact, safe_str, truncate
from .deadline import Deadline, current_deadline
from .messages import (
    ERROR_CHECK_RAISED,
    ERROR_CHECK_RETURNED_NO_MESSAGE,
    ERROR_CHECK_TIMED_OUT,
    CheckMessage,
    Error,
)
from .sessions import close_sessions

if TYPE_CHECKING:
    CheckContext: TypeAlias = Callable[[], AbstractContextManager[object]]

_MAX_MESSAGES = 1000
_MAX_SHOWN = 200  # characters of a returned value that is not a message


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """The messages of a run, without credentials, and the traceback of the check's exception.

    The exception itself would keep what the check's frames hold, such as a connection.
    """

    messages: tuple[CheckMessage, ...]
    traceback: str | None = None


class CheckRun:
    """One run of a check, which any number of heartbeats can wait for.

    Args:
        name: The check's name.
        function: The check.
        context: Returns the context manager that the check runs in.
        deadline_s: The deadline in seconds of the monotonic clock; ``None`` for none.
        on_done: Called once, when the run is over.

    Attributes:
        started_s: The start in seconds of the monotonic clock.
        outcome: The outcome; ``None`` while the check runs.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], object],
        context: CheckContext,
        deadline_s: float | None,
        on_done: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self.deadline = Deadline(deadline_s)
        self.started_s = time.monotonic()
        self.outcome: CheckOutcome | None = None
        self._ended_s: float | None = None
        self._thread_id: int | None = None
        self._call = (function, context)
        self._on_done = on_done
        self._start_claim = threading.Lock()
        self._log_claim = threading.Lock()
        self._done = threading.Event()

    def start(self) -> None:
        """Start the check on a daemon thread, unless it has been started.

        If no thread can be started, the check is not run, and the outcome says so.
        """
        if not self._start_claim.acquire(blocking=False):
            return
        run = contextvars.copy_context().run  # the check sees the prober's request ID
        name = f"dockerflow {self.name}"
        arguments = (self._execute, BaseException)
        try:
            threading.Thread(target=run, args=arguments, name=name, daemon=True).start()
        except RuntimeError as error:
            self._finish(_no_thread(error))
        except BaseException:
            self._start_claim.release()  # a signal: the next heartbeat starts the check
            raise

    def run_in_line(self) -> None:
        """Run the check on the caller's thread, unless it has been started."""
        if self._start_claim.acquire(blocking=False):
            contextvars.copy_context().run(self._execute, SystemExit)

    def wait(self, until_s: float | None) -> None:
        """Wait until the run is over, unless the caller is the check itself.

        Args:
            until_s: When to stop, in seconds of the monotonic clock; ``None`` for no limit.
        """
        if self._thread_id == threading.get_ident():
            return
        if until_s is None:
            self._done.wait()
            return
        while not self._done.wait(max(0.0, until_s - time.monotonic())):
            if time.monotonic() >= until_s:  # gevent's timers return early
                return

    @property
    def end_s(self) -> float:
        """The end, or now while the check runs, in seconds of the monotonic clock."""
        return time.monotonic() if self._ended_s is None else self._ended_s

    @property
    def duration_s(self) -> float:
        """The duration in seconds; while the check runs, until now."""
        return self.end_s - self.started_s

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline passed before the run was over."""
        return self.deadline.time_s is not None and self.end_s >= self.deadline.time_s

    def claim_log(self) -> bool:
        """Return ``True`` to the first caller, which logs the run."""
        return self._log_claim.acquire(blocking=False)

    def report(self, *, is_new: bool, is_earlier: bool) -> CheckOutcome:
        """Return what a heartbeat reports about the run at this moment.

        Args:
            is_new: Whether that heartbeat has started the run.
            is_earlier: Whether the run was over before.
        """
        outcome = self.outcome
        if outcome is None:
            messages = self._messages_when_overdue() if self.is_overdue else ()
            return CheckOutcome(messages or (self._timeout(is_new),))
        if is_earlier and self.is_overdue:
            text = f"Check took {self.duration_s:.1f} s the last time, longer than its deadline"
            timeout = Error(text, id=ERROR_CHECK_TIMED_OUT)
            return CheckOutcome((*outcome.messages, timeout), outcome.traceback)
        return outcome

    def _messages_when_overdue(self) -> tuple[CheckMessage, ...]:
        try:
            return tuple(map(_cleaned, self.deadline.reports[-1]()))
        except Exception:  # noqa: BLE001 - there is no function, or it raised
            return ()

    def _timeout(self, is_new: bool) -> Error:
        seconds = self.duration_s
        text = f"Check timed out after {seconds:.1f} s and is still running"
        if not is_new:
            start = datetime.now(timezone.utc) - timedelta(seconds=seconds)
            text = f"Check is still running since {start:%Y-%m-%d %H:%M:%S} UTC "
            text += f"({seconds:.1f} s); it is not started again"
        return Error(text, id=ERROR_CHECK_TIMED_OUT)

    def _execute(self, catch: type[BaseException]) -> None:
        self._thread_id = threading.get_ident()
        self.started_s = time.monotonic()
        current_deadline.set(self.deadline)
        outcome = CheckOutcome(())
        try:
            with close_sessions():
                outcome = _call_check(*self._call, catch)
        except BaseException as error:
            outcome = _failure([], error)
            raise
        finally:
            self._finish(outcome)

    def _finish(self, outcome: CheckOutcome) -> None:
        self._ended_s = time.monotonic()
        self.outcome = outcome
        self._on_done()
        self._done.set()


def _call_check(
    function: Callable[[], Any], context: CheckContext, catch: type[BaseException]
) -> CheckOutcome:
    messages: list[CheckMessage] = []
    stack = ExitStack()
    try:
        stack.enter_context(context())
        for item in _items(function()):
            if len(messages) == _MAX_MESSAGES:
                messages.append(_not_a_message(f"more than {_MAX_MESSAGES} messages"))
                break
            messages.append(_message(item))
    except NoThreadError as error:
        return _no_thread(error)
    except (Exception, catch) as error:  # noqa: BLE001 - it becomes a message
        return _failure(messages, error)
    finally:
        call_safely("Leaving the context of a check", stack.close, default=None)
    return CheckOutcome(tuple(messages))


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
        return [item async for item in returned]
    return await returned


def _failure(messages: Iterable[CheckMessage], error: BaseException) -> CheckOutcome:
    text = f"{type(error).__name__}: {format_error(error)}"
    message = Error(text, id=ERROR_CHECK_RAISED)
    return CheckOutcome((*messages, message), format_traceback(error))


def _no_thread(error: BaseException) -> CheckOutcome:
    text = f"Check was not run because no thread could be started: {format_error(error)}"
    return CheckOutcome((Error(text, id=ERROR_CHECK_TIMED_OUT),))


def _message(item: object) -> CheckMessage:
    if isinstance(item, CheckMessage):
        return _cleaned(item)
    return _not_a_message(f"{_shown(item)}, which is not a CheckMessage")


def _not_a_message(returned: str) -> Error:
    text = f"The check returned {returned}: return a list of Debug, Info, Warning, Error or "
    text += "Critical, empty if there is nothing to report"
    return Error(text, id=ERROR_CHECK_RETURNED_NO_MESSAGE)


def _cleaned(message: CheckMessage) -> CheckMessage:
    """Copy a message; its texts become strings without credentials."""
    clean = copy.copy(message)  # not replace(): a subclass may have another __init__
    level = message.default_level if message.level is None else int(message.level)
    object.__setattr__(clean, "level", level)
    for name in ("msg", "hint", "id"):
        value = getattr(message, name)
        if value is not None:
            object.__setattr__(clean, name, redact(truncate(safe_str(value))))
    return clean


def _shown(item: object) -> str:
    try:
        text = redact(truncate(repr(item)))
    except Exception:  # noqa: BLE001 - the object is the user's
        return f"a {type(item).__name__} whose repr() raises"
    short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return f"{short} ({type(item).__name__})"
