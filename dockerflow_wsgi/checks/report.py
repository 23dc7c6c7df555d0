"""What a heartbeat found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .messages import level_to_text

if TYPE_CHECKING:
    from .messages import CheckMessage


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: The check's name.
        messages: Its messages, without the silenced ones.
        duration_s: How long it took, or has run so far, in seconds.
        traceback: Of what it raised; ``None`` if it did not.
        is_slow: Whether it was done in time, but only in the second half of its deadline; told
            to the heartbeat that started it.
    """

    name: str
    messages: tuple[CheckMessage, ...]
    duration_s: float
    traceback: str | None = None
    is_slow: bool = False

    @property
    def level(self) -> int:
        """The level of the worst message; 0 if there is none."""
        return max((message.level for message in self.messages), default=0)

    @property
    def status(self) -> str:
        """The text of the level: ``ok`` to ``critical``."""
        return level_to_text(self.level)

    def keyed_messages(self) -> dict[str, CheckMessage]:
        """Give each message a key of its own.

        Returns:
            The messages by their ID, or the check's name where one has none; those that
            share an ID get `` #2``, `` #3`` ... appended.
        """
        keyed: dict[str, CheckMessage] = {}
        for message in self.messages:
            key = first_key = message.id or self.name
            number = 1
            while key in keyed:
                number += 1
                key = f"{first_key} #{number}"
            keyed[key] = message
        return keyed


@dataclass(frozen=True, slots=True)
class HeartbeatReport:
    """What one heartbeat found.

    Attributes:
        results: One result for each check, in the order of registration.
        failed_level: The level from which on a heartbeat has failed.
    """

    results: tuple[CheckResult, ...]
    failed_level: int

    @property
    def level(self) -> int:
        """The level of the worst check; 0 if all are well."""
        return max((result.level for result in self.results), default=0)

    @property
    def status(self) -> str:
        """The text of the level: ``ok`` to ``critical``."""
        return level_to_text(self.level)

    @property
    def has_failed(self) -> bool:
        """Whether the worst level reaches the failure level."""
        return self.level >= self.failed_level

    @property
    def checks(self) -> dict[str, str]:
        """Each check's status, by name."""
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
        """Return the report as ``/__heartbeat__`` shows it.

        Args:
            with_details: Whether the messages are shown.

        Returns:
            A dictionary with ``status``, ``checks`` and, if asked for, ``details``.
        """
        shown: dict[str, Any] = {"status": self.status, "checks": self.checks}
        if with_details:
            shown["details"] = self.details
        return shown
