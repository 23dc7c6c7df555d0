"""Reads the value of one setting, wherever it was written.

Each function takes a raw value (text from the environment, any object from code) and
returns the value to work with, or raises ``ValueError`` with what would be accepted.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

LEVELS = {"info": 20, "warning": 30, "error": 40, "critical": 50}

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # "token" of RFC 9110, 5.6.2


def boolean(raw: object) -> bool:
    """Read yes or no."""
    text = str(raw).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("1, true, yes or on; 0, false, no or off")


def seconds(raw: object) -> float:
    """Read a duration of 0 seconds or more."""
    return _number(raw, "a number of seconds, 0 or more", lambda number: number >= 0)


def timeout(raw: object) -> float | None:
    """Read a deadline above 0 seconds; ``None`` (or its name) means none."""
    if raw is None or (isinstance(raw, str) and raw.strip().lower() == "none"):
        return None
    accepted = "a number of seconds above 0, or none to run the checks in line"
    return _number(raw, accepted, lambda number: 0 < number <= threading.TIMEOUT_MAX)


def failed_status_code(raw: object) -> int:
    """Read the HTTP status of a failing heartbeat."""
    accepted = "an HTTP status from 500 to 599"
    number = _number(raw, accepted, lambda number: 500 <= number <= 599 and number.is_integer())
    return int(number)


def port(raw: object) -> int:
    """Read a TCP port; 0 is any free one."""
    accepted = "a port number from 0 to 65535"
    number = _number(raw, accepted, lambda number: 0 <= number <= 65535 and number.is_integer())
    return int(number)


def level(raw: object) -> int:
    """Read a check level, by its name or its number."""
    if isinstance(raw, str) and raw.strip().lower() in LEVELS:
        return LEVELS[raw.strip().lower()]
    if isinstance(raw, int) and not isinstance(raw, bool) and raw in LEVELS.values():
        return raw
    raise ValueError("info, warning, error or critical")


def details(raw: object) -> str | Callable[..., object]:
    """Read who may see the details of a heartbeat."""
    if callable(raw):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in {"always", "never"}:
        return raw.strip().lower()
    raise ValueError("always, never, or a callable that takes the environ and returns a bool")


def header_names(raw: object) -> tuple[str, ...]:
    """Read one header name, or several in the order in which they are asked."""
    accepted = "an HTTP header name such as X-Request-ID, or several in order"
    names = names_in(raw, accepted)
    if not names or not all(_HEADER_NAME.fullmatch(name) for name in names):
        raise ValueError(accepted)
    return names


def check_ids(raw: object) -> tuple[str, ...]:
    """Read the IDs of check messages."""
    return names_in(raw, "message IDs such as dockerflow.health.W001")


def directories(raw: object) -> tuple[str, ...]:
    """Read one directory, or several in the order in which they are searched."""
    accepted = "the path of a directory, as text or a pathlib.Path"
    paths: Iterable[Any] = raw if isinstance(raw, (list, tuple)) else [raw]
    try:
        found = tuple(os.fspath(path) for path in paths)
    except TypeError:
        raise ValueError(accepted) from None
    if not found or not all(isinstance(path, str) and path and "\0" not in path for path in found):
        raise ValueError(accepted)
    return found


def names_in(raw: object, accepted: str) -> tuple[str, ...]:
    """Split comma-separated text, or take the strings of a list, tuple or set."""
    parts: Iterable[object]
    if isinstance(raw, str):
        parts = raw.split(",")
    elif isinstance(raw, (list, tuple, set, frozenset)):
        parts = raw
    else:
        raise ValueError(accepted)  # noqa: TRY004 - every wrong value is a ValueError here
    names = []
    for part in parts:
        if not isinstance(part, str):
            raise ValueError(accepted)  # noqa: TRY004
        if part.strip():
            names.append(part.strip())
    return tuple(names)


def _number(raw: object, accepted: str, is_allowed: Callable[[float], bool]) -> float:
    try:
        number = float(raw) if isinstance(raw, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(raw, bool) or not math.isfinite(number) or not is_allowed(number):
        raise ValueError(accepted)
    return number
