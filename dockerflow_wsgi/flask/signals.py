"""The signals `heartbeat_passed` and `heartbeat_failed`.

Both are sent with the Flask app as sender, the worst ``level`` (int) and the ``report``
(`dockerflow_wsgi.checks.HeartbeatReport`), in the app's context, after each run of the checks.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..errors import call_safely, require_extra

with require_extra("flask"):
    from blinker import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from ..checks import HeartbeatReport

_signals = Namespace()

heartbeat_passed = _signals.signal(
    "heartbeat-passed", "The worst level is below the failure level."
)
heartbeat_failed = _signals.signal("heartbeat-failed", "The worst level reaches the failure level.")


def send_heartbeat(app: Flask, report: HeartbeatReport) -> None:
    """Send the signal for a report; exceptions of receivers are logged."""
    signal = heartbeat_failed if report.has_failed else heartbeat_passed
    receivers = [] if signal.is_muted else list(signal.receivers_for(app))
    if not receivers:
        return
    with app.app_context():
        for receiver in receivers:
            call_safely(f"A receiver of {signal.name}", _call, receiver, app, report, default=None)


def _call(receiver: Callable[..., object], app: Flask, report: HeartbeatReport) -> None:
    keywords: dict[str, Any] = {"level": report.level, "report": report}
    try:
        inspect.signature(receiver).bind(app, **keywords)
    except (TypeError, ValueError):  # no argument "report", as in python-dockerflow
        del keywords["report"]
    receiver(app, **keywords)
