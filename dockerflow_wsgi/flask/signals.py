"""The signals that tell how a heartbeat went.

Both are sent with the Flask app as sender, the worst ``level`` (int) and the ``report``
(`dockerflow_wsgi.checks.HeartbeatReport`), in the app's context, after each run of the checks.
"""

from __future__ import annotations

from ..errors import require_extra

with require_extra("flask"):
    from blinker import Namespace

_signals = Namespace()

heartbeat_passed = _signals.signal(
    "heartbeat-passed", "The worst level is below the failure level."
)
heartbeat_failed = _signals.signal("heartbeat-failed", "The worst level reaches the failure level.")
