"""JSON that never fails: any object becomes something that JSON can hold."""

from __future__ import annotations

import json
import json.encoder
import math
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from numbers import Integral, Real
from typing import Any

from .redaction import safe_str

MAX_DEPTH = 20
"""Containers in containers; deeper ones become text."""

MAX_ITEMS = 10_000
"""Items of all containers in a value; what is beyond becomes text. Linked data can have many
more paths than items."""

MAX_INTEGER_BITS = 2000
"""Larger integers become hexadecimal text: Python may refuse to convert more than 640 digits."""

_MAX_INTEGER = (1 << MAX_INTEGER_BITS) - 1
_MIN_INTEGER = -_MAX_INTEGER
_quote = json.encoder.encode_basestring_ascii
_encoder = json.JSONEncoder(allow_nan=False, check_circular=False)


def to_json_bytes(value: Mapping[str, Any]) -> bytes:
    """Serialize a mapping as the body of a response; raise if JSON cannot hold it."""
    return json.dumps(dict(value), allow_nan=False).encode() + b"\n"


def line_to_json(line: Mapping[str, Any], *, has_fields: bool = True) -> str:
    """Serialize a mozlog object, with an object under ``Fields``, to JSON in ASCII; never raises.

    ``None`` is left out. mozlog allows an object as a field, but no object in that one: it becomes
    a JSON string.
    """
    members = []
    for key, value in line.items():
        kind = type(value)
        if kind is str:
            text = _quote(value)
        elif kind is int and _MIN_INTEGER <= value <= _MAX_INTEGER:
            text = str(value)
        elif value is None:
            continue
        elif has_fields and key == "Fields" and isinstance(value, dict):
            text = line_to_json(value, has_fields=False)
        else:
            text = _encoder.encode(_flatten(to_jsonable(value)))
        members.append(f"{_quote(key if type(key) is str else safe_str(key))}: {text}")
    return f"{{{', '.join(members)}}}"


def to_jsonable(value: Any) -> Any:
    """Convert any object to what JSON can hold.

    Returns:
        Dictionaries with text keys, lists, text, finite numbers, booleans and ``None``. Numbers of
        other libraries become numbers; NaN and the infinities become their names; bytes become
        text with escapes; an enum member becomes its value; any other object becomes its
        ``str()``.
    """
    return _convert(value, (), [MAX_ITEMS])


def _convert(value: Any, parents: tuple[int, ...], items_left: list[int]) -> Any:
    try:
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return _convert_container(value, parents, items_left)
        return _convert_scalar(value)
    except Exception:  # a method of the user's object raised
        return f"<{type(value).__name__} that cannot be shown>"


def _convert_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of a subclass, too
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Integral):
        number = int(value)
        return hex(number) if number.bit_length() > MAX_INTEGER_BITS else number
    if isinstance(value, Real):
        with suppress(OverflowError):  # a fraction may be larger than any float
            real = float(value)
            return real if math.isfinite(real) else repr(real)
    return safe_str(value)


def _convert_container(value: Any, parents: tuple[int, ...], items_left: list[int]) -> Any:
    if id(value) in parents or len(parents) >= MAX_DEPTH:
        return f"<{type(value).__name__} nested too deeply>"
    items_left[0] -= len(value)
    if items_left[0] < 0:
        return f"<{type(value).__name__} too large>"
    parents = (*parents, id(value))
    if isinstance(value, Mapping):
        return {safe_str(key): _convert(item, parents, items_left) for key, item in value.items()}
    return [_convert(item, parents, items_left) for item in value]


def _flatten(value: Any, *, in_object: bool = False) -> Any:
    if isinstance(value, dict):
        if in_object:
            return json.dumps(value)
        return {key: _flatten(item, in_object=True) for key, item in value.items()}
    if isinstance(value, list):
        return [_flatten(item, in_object=in_object) for item in value]
    return value
