"""The result of a step, the time limit of a step, and the line where user code is or raised."""

from __future__ import annotations

import faulthandler
import linecache
import os
import re
import tempfile
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, TypeVar

from ..redaction import format_error, redact
from ..serialization import to_jsonable

T = TypeVar("T")
Send = Callable[[Mapping[str, Any]], None]
"""Sends a message, such as the result of a step, to the process that writes the report."""

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"

_MAX_LINES = 5
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)", re.MULTILINE)
_FRAME = re.compile(r'^\s+File "(.+)", line (\d+)(?:,)? in (.+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a step."""

    status: str  # OK, WARNING, ERROR or SKIPPED
    message: str  # the one reason for the status
    remedy: str = ""  # the one thing to do; empty if there is nothing to do
    details: Mapping[str, Any] = field(default_factory=dict)  # further facts, for --json
    name: str = ""  # of the step, which is stable
    duration_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the result as ``--json`` shows it, without credentials."""
        shown = {"name": self.name, "ok": self.status != ERROR, "status": self.status}
        shown |= {"message": self.message, "remedy": self.remedy}
        shown |= {"duration_s": round(self.duration_s, 3), "details": dict(self.details)}
        return {name: masked(value) for name, value in shown.items()}


def passed(message: str, **details: object) -> StepResult:
    """Return the result that everything is well."""
    return StepResult(OK, message, "", details)


def warned(message: str, remedy: str, **details: object) -> StepResult:
    """Return the result that something should be different, but is not a failure."""
    return StepResult(WARNING, message, remedy, details)


def failed(message: str, remedy: str, **details: object) -> StepResult:
    """Return the result that something is broken."""
    return StepResult(ERROR, message, remedy, details)


def skipped(message: str = "left out by --skip") -> StepResult:
    """Return the result that nothing was looked at."""
    return StepResult(SKIPPED, message)


class MisuseError(Exception):
    """The command was called wrongly; the text has the reason."""


def check_names(skip: Iterable[str], known: Sequence[str]) -> None:
    """Raise a `MisuseError` if ``--skip`` has a name that is not a step's."""
    if unknown := [name for name in skip if name not in known]:
        steps = ", ".join(known)
        raise MisuseError(f"--skip {', '.join(unknown)}: unknown step; the steps are: {steps}")


class StepError(Exception):
    """A step failed: its name, the reason and the remedy."""

    def __init__(self, step: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.step, self.reason, self.remedy = step, reason, remedy


class OverdueError(Exception):
    """A function did not return in time; ``lines`` has the place where it was."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("not done in time")
        self.lines = lines


def call_within(function: Callable[[], T], timeout_s: float) -> T:
    """Call a function on a daemon thread, and wait for it; may raise `OverdueError`."""
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=call, name="doctor", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise OverdueError(lines_of_thread(thread.ident))
    return results[0]


def run_step(
    name: str, step: Callable[[], StepResult], timeout_s: float, skip: Collection[str] = ()
) -> StepResult:
    """Run a step; an exception or a hang of user code becomes a failure."""
    if name in skip:
        return replace(skipped(), name=name)
    started_s = monotonic()
    try:
        result = call_within(step, timeout_s)
    except OverdueError as error:
        result = overdue(f"not done after {timeout_s:g} s", error.lines)
    except StepError as error:
        result = failed(error.reason, error.remedy)
    except BaseException as error:  # user code may raise anything
        place = place_of(lines_of_error(error))
        where = f"{place}: " if place else "this step failed: "
        remedy = "Fix this line of the app" if place else f"Continue with --skip {name}"
        result = failed(f"{where}{type(error).__name__}: {format_error(error)}", remedy)
    return replace(result, name=name, duration_s=monotonic() - started_s)


def overdue(reason: str, lines: list[str]) -> StepResult:
    """Return the result that something hangs, with the line where it was."""
    where = f"; it was at {lines[-1]}" if lines else ""
    remedy = "Look at this line, or allow more time with --timeout S"
    return failed(f"{reason}{where}", remedy, stack=lines)


def masked(value: Any) -> Any:
    """Copy a value as JSON can hold it, without credentials."""

    def mask(item: Any) -> Any:
        if isinstance(item, dict):
            return {redact(name): mask(inner) for name, inner in item.items()}
        if isinstance(item, list):
            return [mask(inner) for inner in item]
        return redact(item) if isinstance(item, str) else item

    return mask(to_jsonable(value))


def lines_of_thread(thread_id: int | None) -> list[str]:
    """Return the lines where a thread is, such as ``app.py:7 in check: time.sleep(60)``."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
        file.seek(0)
        return lines_of_dump(file.read().decode("utf-8", "replace"), thread_id)


def lines_of_dump(text: str, thread_id: int | None) -> list[str]:
    """Return the same from a text that `faulthandler` wrote."""
    _, *parts = _THREAD.split(text)
    frames = {int(parts[i], 16): parts[i + 1] for i in range(0, len(parts), 2)}
    found = _FRAME.findall(frames.get(thread_id or 0, ""))
    return _users_lines(found[::-1]) or _lines(found[::-1])


def lines_of_coroutine(coroutine: Any) -> list[str]:
    """Return the same for a coroutine that waits, and for the coroutines that it awaits."""
    frames = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        coroutine = coroutine.cr_await
    return _users_lines(frames)


def lines_of_error(error: BaseException) -> list[str]:
    """Return the lines of user code where an exception was raised."""
    summary = traceback.extract_tb(error.__traceback__)
    frames = [(one.filename, one.lineno, one.name) for one in summary]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno, "<module>"))
    return _users_lines(frames)


def lines_of_traceback(text: str) -> list[str]:
    """Return the same from a formatted traceback."""
    return _users_lines(_FRAME.findall(text))


def place_of(lines: Sequence[str]) -> str:
    """Return ``file:line`` of the innermost line; empty without lines."""
    return lines[-1].partition(" in ")[0] if lines else ""


def shown_path(path: str) -> str:
    """Shorten a path below the current directory."""
    return path.removeprefix(os.getcwd() + os.sep)


def _users_lines(frames: Iterable[tuple[str, Any, str]]) -> list[str]:
    return _lines(frame for frame in frames if _is_users(frame[0]))


def _lines(frames: Iterable[tuple[str, Any, str]]) -> list[str]:
    return [
        f"{shown_path(path)}:{number} in {name}: {linecache.getline(path, int(number)).strip()}"
        for path, number, name in frames
        if not path.startswith(_PACKAGE)
    ][-_MAX_LINES:]


def _is_users(path: str) -> bool:
    if path.startswith("<") or any(part in path for part in _INSTALLED):
        return False
    return not os.path.abspath(path).startswith((_PACKAGE, _STANDARD))
