"""Runs the checks, as the heartbeat does, and says of each that fails why it does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..checks import messages as ids
from ..checks.messages import ERROR, WARNING, CheckMessage, level_to_text
from ..checks.run import CheckOutcome
from ..stack import place_in_traceback, stack_of_thread
from .finding import Finding, Probe, failed, passed, skipped, warned
from .remedies import upgrade_command
from .services import ladder_to_dict, ladders_of
from .sqlite import CREATE_FILE, NO_FILE

if TYPE_CHECKING:
    from ..checks.registry import RegisteredCheck
    from ..checks.run import CheckRun
    from .ladder import Ladder
    from .subject import Subject

PREFIX = "check:"

_REMEDIES = {
    ids.ERROR_CHECK_RAISED: "Mend what it says, or let the check return that as a message",
    ids.ERROR_CHECK_TIMED_OUT: "Give what it waits for a timeout below check_timeout",
    ids.ERROR_CHECK_RETURNED_NO_MESSAGE: "Let the check return a list of messages",
    ids.INFO_UNKNOWN_REVISION: "Deploy the code that has this revision",
    ids.ERROR_UNUSABLE_MIGRATIONS: "Correct the Alembic config, or its scripts",
    ids.INFO_CANT_CHECK_MIGRATIONS: "Mend the database first",
}


def run_checks(subject: Subject, skip: frozenset[str]) -> Iterator[Probe]:
    """CheckRun the checks, all at once, without logging what they say.

    Args:
        subject: The app.
        skip: Names of checks, or of their steps, that are not wanted.

    Yields:
        A probe for each check, in the order of registration.
    """
    timeout_s = subject.check_timeout_s
    deadline_s = time.monotonic() + timeout_s
    started: list[tuple[RegisteredCheck, CheckRun | None]] = []
    for check in subject.middleware.registry:
        run = None
        if skip.isdisjoint({check.name, PREFIX + check.name}):
            run = check.run(subject.check_context, deadline_s)
            run.start()
        started.append((check, run))
    ladders: dict[int, Ladder | None] = {}
    for check, run in started:
        name = PREFIX + check.name
        if run is None:
            yield Probe(name, skipped("as asked by --skip"))
            continue
        outcome = run.wait(max(0.0, deadline_s - time.monotonic()))
        yield Probe(name, _finding(subject, check, run, outcome, ladders), _duration_s(run))


def _duration_s(run: CheckRun) -> float:
    return time.monotonic() - run.started_s if run.duration_s is None else run.duration_s


def _finding(
    subject: Subject,
    check: RegisteredCheck,
    run: CheckRun,
    outcome: CheckOutcome | None,
    ladders: dict[int, Ladder | None],
) -> Finding:
    settings = subject.middleware.settings
    stack: list[str] = []
    if outcome is None:
        stack = stack_of_thread(run.thread_id)
        outcome = CheckOutcome((_overdue(subject.check_timeout_s, stack),))
    messages = outcome.without_silenced(check.name, settings.silenced_checks)
    level = max((message.level for message in messages), default=0)
    details: dict[str, Any] = {
        "level": level_to_text(level),
        "messages": [f"{message.id or check.name}: {message.msg}" for message in messages],
    }
    if stack:
        details["stack"] = stack
    if level < min(WARNING, settings.heartbeat_failed_level):
        return _passed(subject, run, details)
    worst = max(messages, key=lambda message: message.level)
    if outcome.traceback:
        details["place"] = place_in_traceback(outcome.traceback)
    ways = ladders_of(subject, check, ladders)
    details["ladder"] = [ladder_to_dict(ladder) for ladder in ways]
    message, remedy = _reason_of_fall(ways) or _reason_of_check(check, worst, details)
    make = failed if level >= settings.heartbeat_failed_level else warned
    return make(message, remedy, **details)


def _passed(subject: Subject, run: CheckRun, details: dict[str, Any]) -> Finding:
    duration_s, deadline_s = _duration_s(run), subject.middleware.settings.check_timeout
    said = "".join(f": {text}" for text in details["messages"][:1])
    if deadline_s is not None and duration_s >= deadline_s:  # the heartbeat, before, was over
        text = f"took {duration_s:.2f} s: not done at its deadline of {deadline_s:g} s{said}"
        make = failed if subject.middleware.settings.heartbeat_failed_level <= ERROR else warned
        return make(text, _REMEDIES[ids.ERROR_CHECK_TIMED_OUT], **details)
    if deadline_s is not None and duration_s > deadline_s / 2:
        text = f"took {duration_s:.2f} s, more than half of its deadline of {deadline_s:g} s{said}"
        return warned(text, "Make it faster, or raise check_timeout", **details)
    return passed(f"ok in {duration_s:.2f} s{said}", **details)


def _overdue(timeout_s: float, stack: list[str]) -> CheckMessage:
    where = f"; it was at {stack[-1]}" if stack else ""
    text = f"not done after {timeout_s:g} s{where}"
    return CheckMessage(text, level=40, id=ids.ERROR_CHECK_TIMED_OUT)


def _reason_of_fall(ladders: list[Ladder]) -> tuple[str, str] | None:
    """Give the step to the service that fails, if one does: the reason before the check's own."""
    for ladder in ladders:
        if ladder.fall is not None:
            fall = ladder.fall
            reason = f"{ladder.service} at {ladder.address}: {_LABELS[fall.rung]}: {fall.reason}"
            return reason, fall.remedy
    return None


def _reason_of_check(
    check: RegisteredCheck, worst: CheckMessage, details: dict[str, Any]
) -> tuple[str, str]:
    if NO_FILE in worst.msg:
        return f"{worst.id or check.name}: {worst.msg}", CREATE_FILE
    place = f"{details['place']}: " if details.get("place") else ""
    remedy = worst.hint or _remedy(check, worst)
    return f"{place}{worst.id or check.name}: {worst.msg}", remedy


def _remedy(check: RegisteredCheck, worst: CheckMessage) -> str:
    if worst.id == ids.WARNING_UNAPPLIED_MIGRATION:
        return f"Apply them: {upgrade_command(check.function)}"
    return _REMEDIES.get(worst.id or "", "See what the check says, and mend that")


_LABELS = {
    "dns": "DNS",
    "tcp": "TCP",
    "tls": "TLS",
    "protocol": "protocol",
    "login": "login",
    "query": "query",
    "file": "file",
}
