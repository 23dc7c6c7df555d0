"""What the doctor looks at, when it looks at an app."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..checks.run import CheckContext
    from ..middleware import DockerflowMiddleware


@dataclass(frozen=True, slots=True)
class Subject:
    """An app and its middleware.

    Attributes:
        app: The app, as the server gets it.
        middleware: The one that requests reach first.
        timeout_s: How long a step may take, in seconds.
    """

    app: Any
    middleware: DockerflowMiddleware
    timeout_s: float

    @property
    def check_context(self) -> CheckContext:
        """What makes the context that each check runs in."""
        return self.middleware.check_context or nullcontext

    @property
    def check_timeout_s(self) -> float:
        """How long a check may take, in seconds: its deadline, if that is shorter."""
        deadline_s = self.middleware.settings.check_timeout
        return self.timeout_s if deadline_s is None else min(deadline_s, self.timeout_s)

    @property
    def request_timeout_s(self) -> float:
        """How long a request may take, in seconds: that for the heartbeat waits for the checks."""
        return self.timeout_s + (self.middleware.settings.check_timeout or self.timeout_s)
