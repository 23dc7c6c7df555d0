"""The functions of the user that a middleware calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .checks import HeartbeatReport
    from .checks.outcome import CheckContext
    from .summary import SummaryExtra


@dataclass(frozen=True, slots=True)
class Hooks:
    """What one middleware calls; ``None`` for what it does not.

    Attributes:
        on_heartbeat: Called with the report of each heartbeat run.
        check_context: Makes a context manager that each check runs in.
        summary_extra: Returns further fields for the summary of a request.
    """

    on_heartbeat: Callable[[HeartbeatReport], object] | None
    check_context: CheckContext | None
    summary_extra: SummaryExtra | None

    def filled_from(self, other: Hooks) -> Hooks:
        """Take from others what is ``None`` here.

        Args:
            other: The hooks of a middleware further in.

        Returns:
            The hooks of both, these ones first.
        """
        return Hooks(
            self.on_heartbeat or other.on_heartbeat,
            self.check_context or other.check_context,
            self.summary_extra or other.summary_extra,
        )
