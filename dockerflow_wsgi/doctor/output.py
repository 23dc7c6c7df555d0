"""The report: text for people, or one JSON object."""

from __future__ import annotations

import io
import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TextIO

_COLOURS = {"ok": "32", "warning": "33", "error": "1;31", "skipped": "2", "remedy": "36"}
_STATUS_WIDTH, _NAME_WIDTH, _MAX_NAME_WIDTH = 9, 22, 40  # characters
_MAX_LENGTH = 600  # characters of a message; --json has the whole
_NARROW = 70  # columns; below it messages are below the names

Result = Mapping[str, Any]


class Output:
    """Writes reports."""

    def __init__(self, stream: TextIO, *, is_json: bool, indent: int | None) -> None:
        is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        self._stream = stream
        self._is_json = is_json
        self._indent = indent
        self._is_coloured = is_terminal and not os.environ.get("NO_COLOR")
        self._columns = os.get_terminal_size(stream.fileno()).columns if is_terminal else 0
        self._columns = self._columns or 100

    def show(self, title: str, config: Mapping[str, Any], results: Iterable[Result]) -> bool:
        """Write the results of one target: as text, each when it is there."""
        shown: list[Result] = []
        for result in results:
            if not shown:
                self._header(title)
            shown.append(result)
            self._step(result)
        return self._conclude(config, shown)

    def show_table(
        self, title: str, config: Mapping[str, Any], results: Sequence[Result], agreement: Result
    ) -> bool:
        """Write the results of several services, which have a ``url`` each."""
        self._header(title)
        header = ("", "instance", "version", "commit", "status", "latency", "")
        rows = [header, *(_row(url, results, agreement) for url in config["urls"])]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            cells[0] = self._paint(row[0], cells[0])
            cells[-1] = self._paint("warning", row[-1])
            self._line("  ".join(cells).rstrip())
        self._line()
        self._step(agreement)
        return self._conclude(config, [*results, agreement])

    def _header(self, title: str) -> None:
        now = datetime.now(timezone.utc)
        self._line(f"dockerflow-wsgi doctor {title}  {now:%H:%M:%S} UTC\n")

    def _step(self, result: Result) -> None:
        name = str(result["name"])
        start = self._paint(result["status"], str(result["status"]).ljust(_STATUS_WIDTH))
        if self._columns < _NARROW:
            self._line(f"{start}{name}")
            self._block("  ", _clean(result["message"]))
            return
        message = self._wrapped(_clean(result["message"]), _STATUS_WIDTH + _NAME_WIDTH)
        if len(name) < _NAME_WIDTH:
            self._line(f"{start}{name.ljust(_NAME_WIDTH)}{message.pop(0)}")
        else:
            self._line(f"{start}{name}")
        for line in message:
            self._line(f"{' ' * (_STATUS_WIDTH + _NAME_WIDTH)}{line}")

    def _conclude(self, config: Mapping[str, Any], results: Sequence[Result]) -> bool:
        """Repeat what failed, with the remedies, and count."""
        is_well = all(result["ok"] for result in results)
        if self._is_json:
            shown = {"ok": is_well, "config": config, "probes": results}
            self._stream.write(json.dumps(shown, indent=self._indent) + "\n")
            self._stream.flush()
            return is_well
        statuses = Counter(str(result["status"]) for result in results)
        for result in results:
            if result["status"] in {"warning", "error"}:
                where = f" of {result['url']}" if "url" in result else ""
                title = self._paint(result["status"], f"{result['status']}: {result['name']}")
                self._line(f"\n{title}{where}")
                self._block("  ", _clean(result["message"]))
                self._block("  -> ", _clean(result["remedy"]), "remedy")
        counts = [
            f"{count} {status}{'s' if count > 1 and status in {'error', 'warning'} else ''}"
            for status in ("error", "warning", "ok", "skipped")
            if (count := statuses[status])
        ]
        self._line()
        self._line(self._paint(next(iter(counts), "ok").split()[-1].rstrip("s"), ", ".join(counts)))
        return is_well

    def _block(self, start: str, text: str, colour: str = "") -> None:
        for line in self._wrapped(text, len(start)):
            self._line(f"{start}{self._paint(colour, line)}")
            start = " " * len(start)

    def _line(self, text: str = "") -> None:
        if not self._is_json:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def _wrapped(self, text: str, indent: int) -> list[str]:
        width = max(self._columns - indent, 20)
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [""]

    def _paint(self, status: str, text: str) -> str:
        colour = _COLOURS.get(status)
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_coloured and colour and text else text


def _clean(text: object) -> str:
    """Remove control characters, and shorten."""
    shown = " ".join(str(text).split())
    shown = shown if len(shown) <= _MAX_LENGTH else f"{shown[:_MAX_LENGTH]}..."
    return "".join(character if character.isprintable() else "?" for character in shown)


def agreement(
    results: Sequence[Result], urls: Sequence[str], skip: Sequence[str]
) -> dict[str, Any]:
    """Return the result whether services have the same version; a dict as of `StepResult`."""
    kinds = {url: version for url in urls if (version := _version(url, results))}
    count = Counter(kinds.values()).most_common(2)
    odd: list[str] = []
    if len(count) > 1:  # without a majority, each may be the wrong one
        is_tie = count[0][1] == count[1][1]
        odd = [url for url, kind in kinds.items() if is_tie or kind != count[0][0]]
    status = "skipped" if "agreement" in skip else "warning" if odd else "ok"
    message = {
        "skipped": "left out by --skip",
        "warning": f"the instances have different versions: see {', '.join(odd)}",
        "ok": "all instances that report a version report the same one",
    }[status]
    remedy = "Finish the deployment, or redeploy these" if status == "warning" else ""
    details = {"odd": odd} if odd else {}
    return {"name": "agreement", "ok": True, "status": status, "message": message,
            "remedy": remedy, "duration_s": 0.0, "details": details}  # fmt: skip


def _detail(url: str, results: Sequence[Result], name: str) -> Any:
    details = (one["details"] for one in results if one.get("url") == url)
    return next((one[name] for one in details if name in one), None)


def _version(url: str, results: Sequence[Result]) -> tuple[str, str] | None:
    version = _detail(url, results, "version")
    return (str(version.get("version")), str(version.get("commit"))) if version else None


def _row(url: str, results: Sequence[Result], common: Result) -> tuple[str, ...]:
    statuses = {one["status"] for one in results if one.get("url") == url}
    version, commit = _version(url, results) or ("", "")
    latency_ms = _detail(url, results, "latency_ms")
    return (
        next((status for status in ("error", "warning") if status in statuses), "ok"),
        url,
        _clean(version or "-")[:20],
        _clean(commit or "-")[:12],
        _clean(_detail(url, results, "status") or "-")[:20],
        "-" if latency_ms is None else f"{latency_ms:.0f} ms",
        "differs" if url in common["details"].get("odd", ()) else "",
    )
