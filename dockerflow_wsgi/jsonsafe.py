"""Makes JSON of anything, whatever it is."""

from __future__ import annotations

import json
import json.encoder
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from .masking import text_of

MAX_DEPTH = 20
MAX_BITS = 2000  # of an integer; Python may refuse to print more than 640 digits

READY = frozenset({str, int, bool})  # types that need nothing done, but for huge integers
_AS_TEXT = (date, datetime, time, Decimal, PurePath, UUID, BaseException)


MAX_ITEMS = 10_000

json_text = json.encoder.encode_basestring_ascii
"""Writes a text as JSON; a `TypeError` if it is none."""


def _make_encode() -> Callable[[Any], str]:
    """Make a function that writes JSON; a cycle ends in a ``RecursionError``."""
    encoder = json.JSONEncoder(allow_nan=False, check_circular=False)
    try:  # JSONEncoder.encode() does this for each call: 1.2 us of 2.8 for a summary
        make = json.encoder.c_make_encoder  # type: ignore[attr-defined]  # not in typeshed
        c_encoder = make(None, encoder.default, json_text, None, ": ", ", ", False, False, False)
    except (AttributeError, TypeError):  # no C, as in PyPy, or another one
        return encoder.encode
    return lambda value: "".join(c_encoder(value, 0))


encode = _make_encode()


class _Budget:
    """How many more items may be copied: linked data has more paths than items."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_ITEMS


def plain(value: Any, around: tuple[int, ...] = (), budget: _Budget | None = None) -> Any:
    """Make a copy of a value that ``json.dumps`` writes without any further rule.

    Args:
        value: Anything.
        around: The identities of the containers around it.
        budget: How many more items may be copied; by default 10,000.

    Returns:
        Dictionaries with text keys, lists, text, finite numbers, booleans and ``None``.
        Not a number and the infinities become their names, bytes become text with escapes,
        dates, UUIDs, paths, decimals and exceptions their text, everything else its ``repr``.
        What contains itself, nests deeper than 20 or is beyond the budget becomes text there.
    """
    try:
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, (bool, int, float, str, bytes, bytearray)):
            return _plain_scalar(value)
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return _plain_container(value, around, budget or _Budget())
        return text_of(value) if isinstance(value, _AS_TEXT) else repr(value)
    except Exception:  # noqa: BLE001 - the value is the user's
        return f"<{type(value).__name__} that cannot be shown>"


def field_value(value: Any) -> Any:
    """Make the value of a mozlog field of anything.

    Args:
        value: Anything but ``None``.

    Returns:
        What ``json.dumps`` writes, with what nests deeper than one object as a JSON string.
    """
    return nested_as_text(plain(value))


def nested_as_text(value: Any, objects_around: int = 0) -> Any:
    """Turn what nests deeper than one object into a JSON string, as mozlog asks for.

    Args:
        value: What `plain` returned, as the value of a field.
        objects_around: How many objects are around it within the field.

    Returns:
        The same with text in place of each inner object.
    """
    if isinstance(value, dict):
        if objects_around:
            return json.dumps(value)
        return {key: nested_as_text(inner, 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [nested_as_text(item, objects_around) for item in value]
    return value


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return hex(value)
    return value


def _plain_container(value: Any, around: tuple[int, ...], budget: _Budget) -> Any:
    if id(value) in around or len(around) >= MAX_DEPTH:
        return f"<{type(value).__name__} nested too deeply>"
    budget.left -= len(value)
    if budget.left < 0:
        return f"<{type(value).__name__} too large>"
    around = (*around, id(value))
    if isinstance(value, Mapping):
        return {text_of(key): plain(inner, around, budget) for key, inner in value.items()}
    return [plain(item, around, budget) for item in value]
