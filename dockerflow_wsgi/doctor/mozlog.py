"""Whether a line is mozlog: Mozilla's wiki, "Firefox/Services/Logging"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, type] = {
    "Type": str,
    "Logger": str,
    "Hostname": str,
    "EnvVersion": str,
    "Severity": int,
    "Pid": int,
}
_FIELD_TYPES: Mapping[str, type] = {
    "errno": int,
    "agent": str,
    "lang": str,
    "method": str,
    "path": str,
    "code": int,
    "rid": str,
    "t": int,
    "uid": str,
}
_YEAR_2000_NS = 946_684_800 * 10**9


def problem_of(line: str) -> str:
    """Say what keeps a line from being the mozlog of a request's summary.

    Args:
        line: What a formatter made of the summary.

    Returns:
        The first problem; nothing if there is none.
    """
    try:
        envelope = json.loads(line)
    except ValueError:
        return "is not JSON"
    if "\n" in line:
        return "is JSON of several lines"
    if not isinstance(envelope, dict):
        return "is JSON, but no object"
    timestamp = envelope.get("Timestamp")
    if not isinstance(timestamp, int) or timestamp < _YEAR_2000_NS:
        return "is JSON, but not mozlog: it has no Timestamp in nanoseconds"
    if envelope.get("Type") != "request.summary":
        return "is JSON, but its Type is not request.summary"
    return _wrong(envelope, _TYPES) or _problem_of_fields(envelope.get("Fields"))


def _problem_of_fields(fields: Any) -> str:
    if not isinstance(fields, dict):
        return "is JSON, but not mozlog: it has no Fields"
    missing = [name for name in _FIELD_TYPES if name not in fields]
    if missing:
        return f"is mozlog, but its Fields have no {', no '.join(missing)}"
    for name, value in fields.items():
        inner = value.values() if isinstance(value, dict) else ()
        if any(isinstance(item, dict) for item in inner):
            return f"is mozlog, but its field {name} nests deeper than one object"
    return _wrong(fields, _FIELD_TYPES)


def _wrong(mapping: Mapping[str, Any], types: Mapping[str, type]) -> str:
    for name, expected in types.items():
        value = mapping.get(name)
        if value is not None and (not isinstance(value, expected) or isinstance(value, bool)):
            return f"is JSON, but {name} is of type {type(value).__name__}, not {expected.__name__}"
    return ""
