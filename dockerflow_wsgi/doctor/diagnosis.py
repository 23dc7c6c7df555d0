"""The results of steps, and the functions that run steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from ..errors import format_traceback
from ..import_string import place_of
from ..redaction import MASK, format_error, redact
from ..serialization import to_jsonable
from .user_code import OverdueError, call_within

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"


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
    """Return an ``ok`` result."""
    return StepResult(OK, message, "", details)


def warned(message: str, remedy: str, **details: object) -> StepResult:
    """Return a ``warning``: something should be changed, but is not a failure."""
    return StepResult(WARNING, message, remedy, details)


def failed(message: str, remedy: str, **details: object) -> StepResult:
    """Return an ``error``: something is broken."""
    return StepResult(ERROR, message, remedy, details)


def skipped(message: str = "left out by --skip", **details: object) -> StepResult:
    """Return a ``skipped`` result: nothing was examined."""
    return StepResult(SKIPPED, message, "", details)


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


def run_steps(
    steps: Mapping[str, Callable[[], StepResult]],
    timeout_s: float,
    skip: Collection[str],
    required: Collection[str],
) -> Iterator[StepResult]:
    """Run steps by name, and yield their results; if a required one fails, skip the others."""
    failed_name = ""
    for name, step in steps.items():
        if name in skip:
            result = skipped()
        elif failed_name:
            result = skipped(f"the step {failed_name} failed")
        else:
            result = run_step(step, timeout_s)
            failed_name = name if result.status == ERROR and name in required else ""
        yield replace(result, name=name)


def run_step(step: Callable[[], StepResult], timeout_s: float) -> StepResult:
    """Run a step; an exception or a hang of user code becomes a failure."""
    started_s = monotonic()
    try:
        result = call_within(step, timeout_s)
    except OverdueError as error:
        result = overdue(f"not done after {timeout_s:g} s", error.lines)
    except StepError as error:
        result = failed(error.reason, error.remedy)
    except BaseException as error:  # user code may raise anything
        place = place_of(format_traceback(error))
        remedy = "Fix this line of the app" if place else "Leave this step out with --skip"
        result = failed(f"{place}{type(error).__name__}: {format_error(error)}", remedy)
    return replace(result, duration_s=result.duration_s or monotonic() - started_s)


def overdue(reason: str, lines: list[str]) -> StepResult:
    """Return the failure of a step that hangs, with the line where it was."""
    where = f"; it was at {lines[-1]}" if lines else ""
    remedy = "Look at this line, or allow more time with --timeout S"
    return failed(f"{reason}{where}", remedy, stack=lines)


def masked(value: Any) -> Any:
    """Copy a value as JSON can hold it, without credentials."""

    def mask(item: Any) -> Any:
        if isinstance(item, dict):
            return {
                redact(name): MASK
                if isinstance(inner, str) and MASK in redact(f"{name}=x")
                else mask(inner)
                for name, inner in item.items()
            }
        if isinstance(item, list):
            return [mask(inner) for inner in item]
        return redact(item) if isinstance(item, str) else item

    return mask(to_jsonable(value))
