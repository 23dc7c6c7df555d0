"""The steps to a backing service, of which the first that fails is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..redaction import MASK, redact
from .patience import OverdueError, Task

T = TypeVar("T")

_MIN_SECRET = 4  # characters; a shorter one would mask half of the text


class RungError(Exception):
    """A step failed.

    Args:
        rung: The step: ``dns``, ``tcp``, ``tls``, ``protocol``, ``login``, ``query`` or ``file``.
        reason: Why.
        remedy: What to do.

    Attributes:
        rung: The step.
        reason: Why.
        remedy: What to do.
    """

    def __init__(self, rung: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.rung = rung
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens.

    Attributes:
        host: Its name or IP address; empty for a Unix socket.
        port: Its TCP port.
        path: The Unix socket's path.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        if "@" in self.host:  # part of a password, before it
            return f"{MASK}@{self.host.rpartition('@')[2]}:{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Ladder:
    """Climbs to one service, and notes how far it got.

    Args:
        service: What is expected there, such as ``PostgreSQL``.
        address: Where.
        timeout_s: How long each step may take, in seconds.
        secrets: What must not be shown.

    Attributes:
        service: What is expected there.
        address: Where.
        timeout_s: How long each step may take, in seconds.
        rungs: The steps that were taken, with what was found.
        fall: The step that failed, if one did.
    """

    def __init__(
        self,
        service: str,
        address: Address | str,
        timeout_s: float,
        secrets: tuple[object, ...] = (),
    ) -> None:
        self.service = service
        self.address = address
        self.timeout_s = timeout_s
        self.rungs: list[tuple[str, str]] = []
        self.fall: RungError | None = None
        self._secrets = [str(secret) for secret in secrets if len(str(secret or "")) >= _MIN_SECRET]

    def climb(self, steps: Callable[[Ladder], object]) -> Ladder:
        """Take the steps until one fails; what else is raised ends them too.

        Args:
            steps: Called with the ladder; raises `RungError` where a step fails.

        Returns:
            The ladder.
        """
        try:
            steps(self)
        except RungError as error:
            self.fall = error
        return self

    def reached(self, rung: str, text: str = "ok") -> None:
        """Note a step that was taken."""
        self.rungs.append((rung, text))

    def clean(self, text: str) -> str:
        """Take secrets and line breaks out of what a service or its driver says.

        Not out of this package's own words: to mask ``wrong`` in them would tell the password.
        """
        text = redact(" ".join(text.split()))
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def within(self, rung: str, function: Callable[[], T], remedy: str) -> T:
        """Call a function as a step that is bounded, whatever it hangs in."""
        try:
            return Task(function).result(self.timeout_s)
        except OverdueError:
            raise RungError(rung, f"no answer within {self.timeout_s:g} s", remedy) from None
