"""One run of one check: its thread, its deadline and its messages."""

from __future__ import annotations

import contextvars
import copy
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias

from ..errors import NoThreadError, call_safely, format_traceback
from ..redaction import format_error, redact, safe_str, truncate
from .messages import (
    ERROR_CHECK_RAISED,
    ERROR_CHECK_RETURNED_NO_MESSAGE,
    ERROR_CHECK_TIMED_OUT,
    CheckMessage,
    Error,
)
from .report import CheckResult

CheckContext: TypeAlias = Callable[[], AbstractContextManager[object]]
MakeMessages: TypeAlias = Callable[[], list[CheckMessage]]

_MAX_MESSAGES = 1000
_MAX_WAIT_S = 3600.0  # at a time
_MAX_SHOWN = 200  # characters of a returned value that is not a message

_current_run: contextvars.ContextVar[CheckRun | None] = contextvars.ContextVar(
    "dockerflow_wsgi.check_run", default=None
)


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
        self.started_s = time.monotonic()
        self.waits: list[MakeMessages] = []  # see report_when_overdue(); the innermost is last
        self.sessions: list[Any] = []  # those of SQLAlchemy, to be closed
        self.log_claim = threading.Lock()  # for the heartbeat that logs the run
        self.thread_id: int | None = None
        self._function, self._context, self._on_done = function, context, on_done
        self._start_claim = threading.Lock()
        self._messages: list[CheckMessage] = []
        self._traceback: str | None = None
        self._ended_s: float | None = None
        self._done = threading.Event()

    def start(self, *, in_line: bool) -> None:
        """Start the check on a daemon thread, or run it in line, unless it has been started.

        If no thread can be started, the check is not run, and the result says so.
        """
        if not self._start_claim.acquire(blocking=False):
            return
        run = contextvars.copy_context().run  # the check sees the prober's request ID
        if in_line:
            run(self._execute, in_line=True)
            return
        name = f"dockerflow {self.name}"
        try:
            threading.Thread(target=run, args=(self._execute,), name=name, daemon=True).start()
        except RuntimeError as error:
            self._add_error(NoThreadError(str(error)))
            self._finish()
        except BaseException:
            self._start_claim.release()  # a signal: the next heartbeat starts the check
            raise

    def wait(self, until_s: float) -> None:
        """Wait until the run is over or a time has come, unless the caller is the check itself."""
        if self.thread_id == threading.get_ident():
            return
        while not self.is_done and (left_s := until_s - time.monotonic()) > 0:
            self._done.wait(min(left_s, _MAX_WAIT_S))  # gevent's timers return early

    @property
    def is_done(self) -> bool:
        """Whether the run is over."""
        return self._ended_s is not None

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline passed before the run was over."""
        return self.started_s + self.duration_s >= self.deadline_s

    @property
    def duration_s(self) -> float:
        """The duration in seconds; while the check runs, until now."""
        ended_s = self._ended_s
        return (time.monotonic() if ended_s is None else ended_s) - self.started_s

    def result(self) -> CheckResult:
        """Return what a heartbeat reports about the run at this moment."""
        messages = self._messages
        if not self.is_done:
            messages = self._messages_of_wait() or [self._timeout()]
        elif self.is_overdue and not any(message.is_serious() for message in messages):
            text = f"Check took {self.duration_s:.1f} s, longer than its deadline"
            messages = [*messages, Error(text, id=ERROR_CHECK_TIMED_OUT)]
        return CheckResult(self.name, tuple(messages), self.duration_s, self._traceback)

    def _messages_of_wait(self) -> list[CheckMessage]:
        try:
            return [_cleaned(message) for message in self.waits[-1]()]
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
        self.started_s = time.monotonic()
        _current_run.set(self)
        try:
            self._call()
        except BaseException as error:
            self._add_error(error)
            if in_line and not isinstance(error, (Exception, SystemExit)):
                raise  # the server's own, such as KeyboardInterrupt
        finally:
            self._finish()

    def _call(self) -> None:
        stack = ExitStack()
        _listen_to_sessions()
        try:
            stack.enter_context(self._context())
            for item in _items(self._function()):
                if len(self._messages) == _MAX_MESSAGES:
                    raise ValueError(f"the check returned more than {_MAX_MESSAGES} messages")
                self._messages.append(_message(item))
        finally:
            call_safely("Leaving the context of a check", stack.close, default=None)
            for session in self.sessions:
                call_safely("Closing a check's session", session.close, default=None)

    def _add_error(self, error: BaseException) -> None:
        text, message_id = f"{type(error).__name__}: {format_error(error)}", ERROR_CHECK_RAISED
        if isinstance(error, NoThreadError):
            text = f"Check was not run because no thread could be started: {format_error(error)}"
            message_id = ERROR_CHECK_TIMED_OUT
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
        return [item async for item in returned]
    return await returned


def _message(item: object) -> CheckMessage:
    if isinstance(item, CheckMessage):
        return _cleaned(item)
    try:
        shown = redact(truncate(repr(item)))[:_MAX_SHOWN]
    except Exception:  # noqa: BLE001 - the object is the user's
        shown = "an object whose repr() raises"
    text = f"The check returned {shown} ({type(item).__name__}), which is not a CheckMessage: "
    text += "return a list of Debug, Info, Warning, Error or Critical, empty if all is well"
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
