"""The report as an operator reads it."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from .finding import ERROR, OK, SKIPPED, WARNING, Probe, masked

if TYPE_CHECKING:
    from .service import Instance

_COLOURS = {OK: "32", WARNING: "33", ERROR: "1;31", SKIPPED: "2"}
_STATUS_WIDTH = 9
_NAME_WIDTH = 22
_MAX_LENGTH = 600  # characters of a message; --json has all of it
_NARROW = 70  # columns; below it a message stands under its name


class Screen:
    """Where a report is written: a terminal, or a plain file.

    Args:
        stream: The terminal or the file.
    """

    def __init__(self, stream: TextIO) -> None:
        is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._stream = stream
        self._is_coloured = is_terminal and not os.environ.get("NO_COLOR")
        self._columns = self._width(stream) if is_terminal else 100

    def show(self, probes: Iterable[Probe]) -> list[Probe]:
        """Write a line, or a few, for each probe, as it comes; return them."""
        shown = []
        for probe in probes:
            shown.append(probe)
            finding = probe.finding
            name = probe.name.ljust(_NAME_WIDTH)
            self._write(finding.status, name, _shown(finding.message))
            if finding.remedy and finding.status != OK:
                self._write("", "".ljust(_NAME_WIDTH), f"-> {_shown(finding.remedy)}")
        return shown

    def show_worst(self, title: str, probes: Iterable[Probe]) -> None:
        """Write the errors and warnings of an instance under its title, if there are any."""
        worst = [probe for probe in probes if probe.finding.status in {ERROR, WARNING}]
        if worst:
            self.line(f"\n{title}")
            self.show(worst)

    def conclude(self, probes: Sequence[Probe]) -> None:
        """Write how many probes came out how."""
        counts = {
            status: sum(probe.finding.status == status for probe in probes)
            for status in (ERROR, WARNING, OK, SKIPPED)
        }
        shown = [_counted(count, status) for status, count in counts.items() if count]
        worst = next((status for status, count in counts.items() if count), OK)
        self.line()
        self.line(self._paint(worst, ", ".join(shown)))

    def table(self, instances: Sequence[Instance], odd: Collection[Instance]) -> None:
        """Write a table with a row for each instance; those that are odd are flagged."""
        header = ("", "instance", "version", "commit", "status", "latency", "")
        rows = [header, *(_row(one, "differs" if one in odd else "") for one in instances)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            cells[0] = self._paint(row[0], cells[0])
            cells[-1] = self._paint(WARNING, row[-1]) if row[-1] else ""
            self.line("  ".join(cells).rstrip())

    def line(self, text: str = "") -> None:
        """Write a line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def _write(self, status: str, name: str, text: str) -> None:
        is_narrow = self._columns < _NARROW
        start = " " * 2 if is_narrow else " " * (_STATUS_WIDTH + _NAME_WIDTH)
        lines = self._wrapped(text, len(start))
        if not is_narrow and len(name.rstrip()) < _NAME_WIDTH:
            first, lines = lines[0], lines[1:]
        else:
            first = ""
        head = f"{self._paint(status, status.ljust(_STATUS_WIDTH))}{name}{first}".rstrip()
        if head:
            self.line(head)
        for line in lines:
            self.line(start + line)

    def _wrapped(self, text: str, indent: int) -> list[str]:
        width = max(self._columns - indent, 20)
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [""]

    def _paint(self, status: str, text: str) -> str:
        colour = _COLOURS.get(status)
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_coloured and colour else text

    @staticmethod
    def _width(stream: TextIO) -> int:
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except OSError:
            columns = 0
        return columns or shutil.get_terminal_size().columns


def _shown(value: object) -> str:
    """Make text of what a service or a check says: no secret, no control character, no novel."""
    text = " ".join(str(masked(value)).split())
    text = text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
    return "".join(character if character.isprintable() else "?" for character in text)


def _counted(count: int, status: str) -> str:
    is_noun = status in {ERROR, WARNING}
    return f"{count} {status}{'s' if is_noun and count > 1 else ''}"


def _row(instance: Instance, flag: str) -> tuple[str, ...]:
    version, latency_ms = instance.told("version") or {}, instance.told("latency_ms")
    statuses = [probe.finding.status for probe in instance.probes]
    worst = next((status for status in (ERROR, WARNING) if status in statuses), OK)
    return (
        worst,
        instance.service.shown,
        _shown(version.get("version") or "-")[:20],
        _shown(version.get("commit") or "-")[:12],
        _shown(instance.told("status") or "-")[:20],
        "-" if latency_ms is None else f"{latency_ms:.0f} ms",
        flag,
    )
