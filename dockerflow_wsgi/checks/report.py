"""`HeartbeatReport`: the results of a heartbeat, as JSON and as an HTML page."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from html import escape
from typing import TYPE_CHECKING, Any

from .messages import level_to_text

if TYPE_CHECKING:
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
        facts = [http_status, f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"]
        if with_details:
            facts.append(f"Host {socket.gethostname()}")
        if version is not None:
            facts.append(f"Version {version}")
        results = sorted(self.results, key=lambda result: -result.level)  # stable
        checks = "\n".join(_result_to_html(result, with_details) for result in results)
        return _PAGE.format(
            status=self.status,
            facts=escape(" \u00b7 ".join(facts)),
            checks=checks or "<p>No checks are registered.</p>",
        )


def format_duration(seconds: float) -> str:
    """Format a duration for people, such as ``0.4 ms``, ``1.5 s`` or ``2:05:30``."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def _result_to_html(result: CheckResult, with_details: bool) -> str:
    title = f'<span class="{result.status}">{result.status}</span> {escape(result.name)}'
    if not with_details:
        return f"<h2>{title}</h2>"
    page = f"<h2>{title} <small>{format_duration(result.duration_s)}</small></h2>"
    for key, message in result.keyed_messages().items():
        text = f"{key} ({level_to_text(message.level)}): {message.msg}"
        text += f"\nHint: {message.hint}" if message.hint else ""
        page += f"<p>{escape(text)}</p>"
    return page


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
h2 {{ font-size: 1rem; margin: 1.5rem 0 0; }}
p {{ margin: .3rem 0; white-space: pre-wrap; }}
small {{ font-weight: normal; }}
span {{ padding: 0 .5rem; border-radius: .3rem; color: #fff; background: #52606d; }}
.ok {{ background: #1a7f37; }}
.warning {{ background: #9a6700; }}
.error, .critical {{ background: #cf222e; }}
</style>
</head>
<body>
<h1>Heartbeat <span class="{status}">{status}</span></h1>
<p>{facts}</p>
{checks}
</body>
</html>
"""
