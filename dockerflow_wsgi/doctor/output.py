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

from .diagnosis import passed, skipped, warned

_COLOURS = {"ok": "32", "warning": "33", "error": "1;31", "skipped": "2", "remedy": "36"}
_STATUS_WIDTH, _NAME_WIDTH = 9, 22  # characters
_MAX_LENGTH = 600  # characters of a message; --json has the whole
_HEADER = ("", "instance", "version", "commit", "status", "latency")

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
        columns = os.get_terminal_size(stream.fileno()).columns if is_terminal else 0
        self._columns = columns or 100

    def show(self, config: Mapping[str, Any], results: Iterable[Result]) -> bool:
        """Write each result when it is there, or a table of services; return if none failed."""
        urls = config.get("urls", ())
        title = config.get("target") or (urls[0] if len(urls) == 1 else f"{len(urls)} instances")
        shown: list[Result] = []
        for result in results:
            if not shown:
                now = datetime.now(timezone.utc)
                self._write_line(f"dockerflow-wsgi doctor {title}  {now:%H:%M:%S} UTC\n")
            if len(urls) < 2:
                self._write_step(result)
            shown.append(result)
        if len(urls) > 1:
            rows = [_row(url, shown) for url in urls]
            self._write_table([_HEADER, *rows])
            shown.append(_agreement(rows, config["skip"]))
            self._write_step(shown[-1])
        is_well = all(result["ok"] for result in shown)
        if self._is_json:
            report = {"ok": is_well, "config": config, "probes": shown}
            self._stream.write(json.dumps(report, indent=self._indent) + "\n")
            self._stream.flush()
        self._write_problems(shown)
        return is_well

    def _write_table(self, rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            cells[0] = self._paint(row[0], cells[0])
            self._write_line("  ".join(cells).rstrip())
        self._write_line()

    def _write_step(self, result: Result) -> None:
        name, status = str(result["name"]), str(result["status"])
        start = self._paint(status, status.ljust(_STATUS_WIDTH)) + name.ljust(_NAME_WIDTH)
        if len(name) >= _NAME_WIDTH:
            self._write_line(start)
            start = " " * (_STATUS_WIDTH + _NAME_WIDTH)
        self._write_block(start, result, _STATUS_WIDTH + _NAME_WIDTH)

    def _write_problems(self, results: Sequence[Result]) -> None:
        """Repeat what failed, with the remedies, and count."""
        for result in results:
            if result["status"] in {"warning", "error"}:
                where = f" of {result['url']}" if "url" in result else ""
                title = self._paint(result["status"], f"{result['status']}: {result['name']}")
                self._write_line(f"\n{title}{where}")
                self._write_block("  ", result, 2)
                self._write_block("  -> ", result, 5, "remedy")
        counts = Counter(str(result["status"]) for result in results)
        names = {"error": "errors", "warning": "warnings", "ok": "ok", "skipped": "skipped"}
        shown = [f"{n} {one if n == 1 else names[one]}" for one in names if (n := counts[one])]
        worst = next((one for one in names if counts[one]), "ok")
        self._write_line(f"\n{self._paint(worst, ', '.join(shown))}")

    def _write_block(self, start: str, result: Result, indent: int, key: str = "message") -> None:
        width = max(self._columns - indent, 20)
        text = _clean(result[key])
        lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
        for line in lines or [""]:
            self._write_line(f"{start}{self._paint(key, line)}")
            start = " " * indent

    def _write_line(self, text: str = "") -> None:
        if not self._is_json:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def _paint(self, status: str, text: str) -> str:
        colour = _COLOURS.get(status)
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_coloured and colour and text else text


def _clean(text: object) -> str:
    """Remove control characters, and shorten."""
    shown = " ".join(str(text).split())
    shown = shown if len(shown) <= _MAX_LENGTH else f"{shown[:_MAX_LENGTH]}..."
    return "".join(character if character.isprintable() else "?" for character in shown)


def _agreement(rows: Sequence[Sequence[str]], skip: Sequence[str]) -> Result:
    """Return the result of the step that compares the versions of services."""
    result = passed("all instances that report a version report the same one")
    if "agreement" in skip:
        result = skipped()
    elif len({(version, commit) for _, _, version, commit, *_ in rows} - {("-", "-")}) > 1:
        text = "the instances have different versions"
        result = warned(text, "Finish the deployment, or redeploy the instances that differ")
    return {**result.to_dict(), "name": "agreement"}


def _row(url: str, results: Sequence[Result]) -> tuple[str, ...]:
    """Return the row of a service, of what its steps have in their details."""
    own = [one for one in results if one.get("url") == url]
    statuses = {one["status"] for one in own}
    facts = {name: value for one in own for name, value in one["details"].items()}
    version = facts.get("version") or {}
    return (
        next((status for status in ("error", "warning") if status in statuses), "ok"),
        url,
        _clean(version.get("version") or "-")[:20],
        _clean(version.get("commit") or "-")[:12],
        _clean(facts.get("status") or "-")[:20],
        f"{facts['latency_ms']:.0f} ms" if "latency_ms" in facts else "-",
    )
