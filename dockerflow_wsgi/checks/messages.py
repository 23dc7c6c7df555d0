"""Check messages: their levels, their classes, and the IDs of the messages of this package.

IDs that python-dockerflow has too have the same meaning, so silenced IDs and alerts carry over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..redaction import redact

DEBUG = 10
INFO = 20
WARNING = 30
ERROR = 40
CRITICAL = 50

STATUSES = {0: "ok", 10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}

# Messages about a check, from the runner.
ERROR_CHECK_RAISED = "dockerflow.checks.E001"
ERROR_CHECK_TIMED_OUT = "dockerflow.checks.E002"
ERROR_CHECK_RETURNED_NO_MESSAGE = "dockerflow.checks.E003"

# Messages of the built-in checks.
INFO_CANT_CHECK_MIGRATIONS = "dockerflow.health.I001"
INFO_UNKNOWN_REVISION = "dockerflow.health.I002"
WARNING_UNAPPLIED_MIGRATION = "dockerflow.health.W001"
ERROR_CANNOT_CONNECT_REDIS = "dockerflow.health.E004"
ERROR_REDIS_PING_FAILED = "dockerflow.health.E007"
ERROR_DB_API_EXCEPTION = "dockerflow.health.E008"
ERROR_SQLALCHEMY_EXCEPTION = "dockerflow.health.E009"
ERROR_REDIS_EXCEPTION = "dockerflow.health.E010"
ERROR_UNUSABLE_MIGRATIONS = "dockerflow.health.E011"


def level_to_text(level: int) -> str:
    """Return the status text of a level; a number between two levels counts as the lower one."""
    return STATUSES[max((known for known in STATUSES if known <= level), default=0)]


@dataclass(frozen=True, repr=False)
class CheckMessage:
    """A finding of a check.

    Use the subclasses `Debug`, `Info`, `Warning`, `Error` and `Critical`.

    Args:
        msg: What the check found.
        level: The severity; by default the level of the class (`ERROR` for this one).
        hint: What to do about it.
        obj: The object that the message is about.
        id: An identifier such as ``acme.health.E001``, under which the message is reported and
            can be silenced; by default the name of the check.
    """

    default_level: ClassVar[int] = ERROR

    msg: str
    level: int = None  # type: ignore[assignment]  # set by __post_init__
    hint: str | None = None
    obj: object = None
    id: str | None = None

    def __post_init__(self) -> None:
        level = self.default_level if self.level is None else int(self.level)
        object.__setattr__(self, "level", level)

    def __str__(self) -> str:
        subject = "?" if self.obj is None else self.obj
        identifier = f"({self.id}) " if self.id else ""
        hint = f"\n\tHINT: {self.hint}" if self.hint else ""
        return redact(f"{subject}: {identifier}{self.msg}{hint}")

    def __repr__(self) -> str:
        return redact(
            f"<{type(self).__name__}: level={self.level!r}, msg={self.msg!r}, "
            f"hint={self.hint!r}, obj={self.obj!r}, id={self.id!r}>"
        )

    def is_serious(self, level: int = ERROR) -> bool:
        """Return whether the message has a level, or a higher one."""
        return self.level >= level


class Debug(CheckMessage):
    """A message of level 10, for developers."""

    default_level = DEBUG


class Info(CheckMessage):
    """A message of level 20: nothing to do."""

    default_level = INFO


class Warning(CheckMessage):  # noqa: A001 - the published name
    """A message of level 30: something needs attention soon."""

    default_level = WARNING


class Error(CheckMessage):
    """A message of level 40: something does not work."""

    default_level = ERROR


class Critical(CheckMessage):
    """A message of level 50: nothing works."""

    default_level = CRITICAL
