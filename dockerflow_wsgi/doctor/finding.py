"""What a step of the doctor found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from ..redaction import format_error, redact
from ..serialization import to_jsonable
from ..stack import place_of_error
from .patience import OverdueError, Task

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step found.

    Attributes:
        status: ``ok``, ``warning``, ``error`` or ``skipped``.
        message: The one reason for the status.
        remedy: The one thing to do; empty if there is nothing to do.
        details: Further facts, for ``--json``.
    """

    status: str
    message: str
    remedy: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """A step by its name, with what it found.

    Attributes:
        name: The step's name, which is stable.
        finding: What it found.
        duration_s: How long it took, in seconds.
    """

    name: str
    finding: Finding
    duration_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it is no failure; a warning is none."""
        return self.finding.status != ERROR

    def to_dict(self) -> dict[str, Any]:
        """Return the probe as ``--json`` shows it, without any credentials."""
        finding = self.finding
        shown = {
            "name": self.name,
            "ok": self.ok,
            "status": finding.status,
            "message": finding.message,
            "remedy": finding.remedy,
            "duration_s": round(self.duration_s, 3),
            "details": dict(finding.details),
        }
        return {name: masked(value) for name, value in shown.items()}


def passed(message: str, **details: object) -> Finding:
    """Find that all is well."""
    return Finding(OK, message, "", details)


def warned(message: str, remedy: str, **details: object) -> Finding:
    """Find what should be otherwise, and does not fail."""
    return Finding(WARNING, message, remedy, details)


def failed(message: str, remedy: str, **details: object) -> Finding:
    """Find what is broken."""
    return Finding(ERROR, message, remedy, details)


def skipped(message: str) -> Finding:
    """Find nothing, and say why."""
    return Finding(SKIPPED, message)


def probe(
    name: str, step: Callable[[], Finding], timeout_s: float, skip: Iterable[str] = ()
) -> Probe:
    """Take a step, unless the operator does not want it.

    Whatever an app does, in a callback for instance, is bounded and survived here.

    Args:
        name: The step's name.
        step: What finds; called on a thread of its own.
        timeout_s: How long it may take, in seconds.
        skip: The names that are not wanted.

    Returns:
        The probe.
    """
    if name in skip:
        return Probe(name, skipped("as asked by --skip"))
    started_s = monotonic()
    try:
        finding = Task(step).result(timeout_s)
    except OverdueError as error:
        where = f"; it was at {error.stack[-1]}" if error.stack else ""
        remedy = "See what it hangs in, or wait longer with --timeout S"
        finding = failed(f"not done after {timeout_s:g} s{where}", remedy, stack=error.stack)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - an app may do what nobody has thought of
        place = place_of_error(error)
        where = f"{place}: " if place else "this step could not be taken: "
        remedy = f"Mend that line, or go on with --skip {name}" if place else _BY_HAND.format(name)
        finding = failed(f"{where}{type(error).__name__}: {format_error(error)}", remedy)
    return Probe(name, finding, monotonic() - started_s)


def masked(value: Any) -> Any:
    """Copy what is to be shown, as JSON can hold it and without credentials."""
    return _masked(to_jsonable(value))


_BY_HAND = "Look at it by hand, and go on with --skip {}"


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {redact(name): _masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return redact(value) if isinstance(value, str) else value
