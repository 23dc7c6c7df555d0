"""`HeartbeatReport`: the results of a heartbeat, as JSON and as an HTML page."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from html import escape
from typing import TYPE_CHECKING, Any

from .messages import level_to_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .messages import CheckMessage


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: The check's name.
        messages: The messages, without the silenced ones.
        duration_s: Duration in seconds; of a check that is still running, until now.
        traceback: The traceback of the exception that the check raised, if any.
    """

    name: str
    messages: tuple[CheckMessage, ...]
    duration_s: float
    traceback: str | None = None

    @property
    def level(self) -> int:
        """The level of the worst message; 0 without messages."""
        return max((message.level for message in self.messages), default=0)

    @property
    def status(self) -> str:
        """The text of the level, from ``ok`` to ``critical``."""
        return level_to_text(self.level)

    def keyed_messages(self) -> dict[str, CheckMessage]:
        """Return the messages by their ID, or else by the check's name.

        Further messages with the same key get `` #2``, `` #3`` and so on appended.
        """
        keyed: dict[str, CheckMessage] = {}
        for message in self.messages:
            key = message.id or self.name
            number = 1
            while key in keyed:
                number += 1
                key = f"{message.id or self.name} #{number}"
            keyed[key] = message
        return keyed


@dataclass(frozen=True, slots=True)
class HeartbeatReport:
    """The results of a heartbeat.

    Attributes:
        results: One result per check, in the order of registration.
        failed_level: The level from which on a heartbeat fails.
    """

    results: tuple[CheckResult, ...]
    failed_level: int

    @property
    def level(self) -> int:
        """The level of the worst check; 0 if all are ok."""
        return max((result.level for result in self.results), default=0)

    @property
    def status(self) -> str:
        """The text of the level, from ``ok`` to ``critical``."""
        return level_to_text(self.level)

    @property
    def has_failed(self) -> bool:
        """Whether the level reaches the failure level."""
        return self.level >= self.failed_level

    @property
    def checks(self) -> dict[str, str]:
        """The status of each check, by name."""
        return {result.name: result.status for result in self.results}

    @property
    def details(self) -> dict[str, dict[str, Any]]:
        """Status, level and messages of the checks that are not ok, by name."""
        return {
            result.name: {
                "status": result.status,
                "level": result.level,
                "messages": {key: m.msg for key, m in result.keyed_messages().items()},
            }
            for result in self.results
            if result.level > 0
        }

    def to_dict(self, *, with_details: bool = True) -> dict[str, Any]:
        """Return the JSON object of ``/__heartbeat__``, with ``details`` or without."""
        shown: dict[str, Any] = {"status": self.status, "checks": self.checks}
        return {**shown, "details": self.details} if with_details else shown

    def to_html(
        self, http_status: str, *, version: str | None = None, with_details: bool = True
    ) -> str:
        """Return a page for browsers; details are the host, durations and messages."""
        now = datetime.now(timezone.utc)
        facts = {"HTTP status": http_status, "Time": f"{now:%Y-%m-%d %H:%M:%S} UTC"}
        if with_details:
            facts["Host"] = socket.gethostname()
        if version is not None:
            facts["Version"] = version
        results = sorted(self.results, key=lambda result: -result.level)  # stable
        items = "\n".join(_result_to_html(result, with_details) for result in results)
        return _PAGE.format(
            status=escape(self.status),
            facts=_definitions(facts.items()),
            checks=f"<ul>\n{items}\n</ul>" if items else "<p>No checks are registered.</p>",
        )


def format_duration(seconds: float) -> str:
    """Format a duration for people, such as ``0.4 ms``, ``25 ms``, ``1.5 s`` or ``2:05:30``."""
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def _result_to_html(result: CheckResult, with_details: bool) -> str:
    status = escape(result.status)
    title = f'<span class="status {status}">{status}</span> <b>{escape(result.name)}</b>'
    if not with_details:
        return f"<li>{title}</li>"
    duration = f'<span class="duration">{format_duration(result.duration_s)}</span>'
    messages = []
    for key, message in result.keyed_messages().items():
        messages.append((f"{key} ({level_to_text(message.level)})", message.msg))
        if message.hint:
            messages.append(("Hint", message.hint))
    shown = f"<dl>{_definitions(messages)}</dl>" if messages else ""
    return f"<li>{duration}{title}{shown}</li>"


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in pairs
    )


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Heartbeat: {status}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: anywhere; }}
ul {{ list-style: none; padding: 0; margin: 1.5rem 0; }}
li {{ border-top: 1px solid #8886; padding: .7rem 0; }}
dl {{ margin: .4rem 0 0; }}
dt, .duration {{ opacity: .8; }}
dd {{ margin: 0 0 .4rem; white-space: pre-wrap; }}
.facts {{ display: flex; flex-wrap: wrap; gap: .2rem 2rem; margin: 0; }}
.status {{ display: inline-block; min-width: 4.5rem; padding: 0 .5rem; border-radius: .3rem;
  text-align: center; color: #fff; background: #52606d; }}
.ok {{ background: #1a7f37; }}
.warning {{ background: #9a6700; }}
.error, .critical {{ background: #cf222e; }}
.duration {{ float: right; margin-left: 1rem; }}
</style>
</head>
<body>
<h1>Heartbeat <span class="status {status}">{status}</span></h1>
<dl class="facts">{facts}</dl>
{checks}
</body>
</html>
"""
