"""The heartbeat as a page for people."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .messages import level_to_text

if TYPE_CHECKING:
    from .report import CheckResult, HeartbeatReport

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
  padding: 0 1rem; }}
ul {{ list-style: none; padding: 0; }}
li {{ border-top: 1px solid #8886; padding: .6rem 0; overflow-wrap: anywhere; }}
p, dl {{ margin: .2rem 0 0; }}
dt {{ font-size: .8rem; opacity: .75; }}
dd {{ margin: 0 0 .4rem; white-space: pre-wrap; }}
.status {{ display: inline-block; min-width: 4.5rem; padding: 0 .5rem; border-radius: .3rem;
  text-align: center; color: #fff; background: #52606d; }}
.ok {{ background: #1a7f37; }}
.warning {{ background: #9a6700; }}
.error, .critical {{ background: #cf222e; }}
.duration {{ float: right; opacity: .75; font-variant-numeric: tabular-nums; }}
</style>
</head>
<body>
<h1>Heartbeat <span class="status {status}">{status}</span></h1>
{checks}
</body>
</html>
"""


def render_page(report: HeartbeatReport, *, with_details: bool = True) -> str:
    """Render a report as a self-contained HTML page.

    Args:
        report: What the heartbeat found.
        with_details: Whether durations and messages are shown.

    Returns:
        The page; everything that a check can say is escaped.
    """
    items = "\n".join(_item(result, with_details) for result in report.results)
    checks = f"<ul>\n{items}\n</ul>" if items else "<p>No checks are registered.</p>"
    return _PAGE.format(status=escape(report.status), checks=checks)


def _item(result: CheckResult, with_details: bool) -> str:
    status = escape(result.status)
    title = f'<span class="status {status}">{status}</span> {escape(result.name)}'
    if not with_details:
        return f"<li>{title}</li>"
    duration = f'<span class="duration">{result.duration_s * 1000:.1f} ms</span>'
    return f"<li>{duration}{title}{_messages(result)}</li>"


def _messages(result: CheckResult) -> str:
    parts = []
    for key, message in result.keyed_messages().items():
        level = level_to_text(message.level)
        parts.append(f"<dt>{escape(key)} ({level})</dt><dd>{escape(message.msg)}</dd>")
        if message.hint:
            parts.append(f"<dd>Hint: {escape(message.hint)}</dd>")
    return f"<dl>{''.join(parts)}</dl>" if parts else ""
