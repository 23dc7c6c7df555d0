"""What the command writes: text for people, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

from .finding import Probe, masked
from .report import Screen
from .service import differing

if TYPE_CHECKING:
    from .service import Instance


class Output:
    """Writes reports.

    Args:
        stream: Where to.
        is_json: Whether each is one JSON object.
        is_one_line: Whether that is on one line, for there are more to come.

    Attributes:
        is_well: Whether nothing failed in the last report; ``None`` before the first. It is set
            before the end is written, for Ctrl-C may come then.
    """

    def __init__(self, stream: TextIO, *, is_json: bool, is_one_line: bool) -> None:
        self.is_well: bool | None = None
        self._stream = stream
        self._is_json = is_json
        self._indent = None if is_one_line else 2
        self._shown: list[Probe] = []
        self._current: Screen | None = None

    def show(self, target: str, config: Mapping[str, Any], probes: Iterable[Probe]) -> None:
        """Write probes: as text each as it comes.

        Args:
            target: What is looked at.
            config: What ``--json`` tells of that.
            probes: The probes.
        """
        self._shown = []
        if self._is_json:
            self._print(config, [probe.to_dict() for probe in self._noted(probes)])
            return
        self._current = self._screen(target)
        self._current.show(self._noted(probes))
        self._conclude(self._current, self._shown)

    def end(self, config: Mapping[str, Any], last: Probe) -> None:
        """Write the end of the report that is under way, for the process is about to end.

        Args:
            config: What ``--json`` tells of what is looked at.
            last: The probe that ends it.
        """
        probes = [*self._shown, last]
        if self._is_json or self._current is None:
            self._print(config, [probe.to_dict() for probe in probes])
            return
        self._current.show([last])
        self._conclude(self._current, probes)

    def _noted(self, probes: Iterable[Probe]) -> Iterator[Probe]:
        for probe in probes:
            self._shown.append(probe)
            yield probe

    def show_table(
        self, config: Mapping[str, Any], instances: Sequence[Instance], common: Probe
    ) -> None:
        """Write what was found of several instances.

        Args:
            config: What ``--json`` tells of what is looked at.
            instances: The instances.
            common: The probe of all together.
        """
        if self._is_json:
            self._print(config, [*_probes(instances), common.to_dict()])
            return
        screen = self._screen(f"{len(instances)} instances")
        screen.table(instances, differing(instances))
        for instance in instances:
            screen.show_worst(instance.service.shown, instance.probes)
        screen.line()
        probes = [*(probe for instance in instances for probe in instance.probes)]
        probes += screen.show([common])
        self._conclude(screen, probes)

    def _screen(self, target: str) -> Screen:
        screen = Screen(self._stream)
        now = datetime.now(timezone.utc)
        screen.line(f"dockerflow-wsgi doctor {masked(target)}  {now:%H:%M:%S} UTC\n")
        return screen

    def _print(self, config: Mapping[str, Any], probes: Sequence[Mapping[str, Any]]) -> None:
        self.is_well = all(probe["ok"] for probe in probes)
        shown = {"ok": self.is_well, "config": masked(config), "probes": probes}
        self._stream.write(json.dumps(shown, indent=self._indent) + "\n")
        self._stream.flush()

    def _conclude(self, screen: Screen, probes: Sequence[Probe]) -> None:
        self.is_well = all(probe.ok for probe in probes)
        screen.conclude(probes)


def _probes(instances: Iterable[Instance]) -> list[dict[str, Any]]:
    return [
        {**probe.to_dict(), "url": instance.service.shown}
        for instance in instances
        for probe in instance.probes
    ]
