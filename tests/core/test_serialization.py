"""Serialization: every object becomes something that JSON can hold."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import json
import numbers
import pathlib
import time
import types
import uuid

import pytest
from odd_objects import Unshowable, cycle

from dockerflow_wsgi.serialization import line_to_json, to_json_bytes, to_jsonable


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"
    GREEN = dt.date(2026, 1, 2)


class Port(enum.IntEnum):
    """An enumeration of integers."""

    HTTP = 80


class Text(str):
    """A subclass of a scalar type, with a misleading ``__str__``."""

    __slots__ = ()

    def __str__(self):
        return "something else"


class Number:
    """A scalar of a numeric library, as ``numpy.int64`` and ``numpy.float32`` are."""

    def __init__(self, value):
        self._value = value

    def __int__(self):
        return int(self._value)

    def __float__(self):
        return float(self._value)

    def __repr__(self):
        return f"numeric.Number({self._value})"


class WholeNumber(Number):
    """An integer of a numeric library."""


class RealNumber(Number):
    """A float of a numeric library."""


numbers.Integral.register(WholeNumber)
numbers.Real.register(RealNumber)


class LazyText:
    """A translation that is looked up when it is shown; its ``repr`` has quotes."""

    def __str__(self):
        return "Too many tries"

    def __repr__(self):
        return "'Too many tries'"


class BadNumber(Number):
    """A number whose conversion raises."""

    def __int__(self):
        raise RuntimeError("no")


numbers.Integral.register(BadNumber)


def deep():
    """Nest dicts a thousand deep."""
    value = {}
    for _ in range(1000):
        value = {"d": value}
    return value


def members(**mapping):
    """Serialize the members of an object, and parse them."""
    return json.loads(line_to_json(mapping), parse_constant=pytest.fail)


VALUES = [
    ("text", "text"),
    ("\ud800", "\ud800"),
    ("a\nb\u2028\x00\x7f", "a\nb\u2028\x00\x7f"),
    ("\N{PILE OF POO}", "\N{PILE OF POO}"),
    (Text("text"), "text"),
    (5, 5),
    (True, True),
    (1.5, 1.5),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (float("-inf"), "-inf"),
    (10**600, 10**600),
    (-(10**700), hex(-(10**700))),
    ([10**5000], [hex(10**5000)]),
    (b"caf\xc3\xa9\xff", "café\\xff"),
    (bytearray(b"x"), "x"),
    ((1, 2), [1, 2]),
    ({1}, [1]),
    (frozenset({1}), [1]),
    ([1, float("nan")], [1, "nan"]),
    (Colour.RED, "red"),
    (Colour.GREEN, "2026-01-02"),
    (Port.HTTP, 80),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.timezone.utc), "2026-01-02 03:04:00+00:00"),
    (dt.timedelta(seconds=90), "0:01:30"),
    (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
    (ipaddress.ip_network("2001:db8::/32"), "2001:db8::/32"),
    (decimal.Decimal("1.10"), "1.10"),
    (fractions.Fraction(1, 2), 0.5),
    (fractions.Fraction(10**400), str(10**400)),
    (WholeNumber(5), 5),
    (WholeNumber(10**700), hex(10**700)),
    (RealNumber(0.5), 0.5),
    (RealNumber(float("nan")), "nan"),
    (RealNumber(float("-inf")), "-inf"),
    ([WholeNumber(5), RealNumber(0.5)], [5, 0.5]),
    (1 + 2j, "(1+2j)"),
    (LazyText(), "Too many tries"),
    ({LazyText(): LazyText()}, {"Too many tries": "Too many tries"}),
    (pathlib.PurePosixPath("/a"), "/a"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (ValueError("x"), "x"),
    (range(2), "range(0, 2)"),
    ({"a": 1}.keys(), "dict_keys(['a'])"),
    ({"a": 1}.values(), "dict_values([1])"),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (collections.OrderedDict(a=1), {"a": 1}),
    (Unshowable(), "<Unshowable that cannot be shown>"),
    (BadNumber(1), "<BadNumber that cannot be shown>"),
    (cycle(), [1, "<list nested too deeply>"]),
    ({5: 1, (1, 2): 2, None: 3}, {"5": 1, "(1, 2)": 2, "None": 3}),
    ({"a": float("inf"), "b": None}, {"a": "inf", "b": None}),
    ({"a": Unshowable()}, {"a": "<Unshowable that cannot be shown>"}),
]


@pytest.mark.parametrize(("value", "shown"), VALUES)
def test_every_value_is_valid_json(value, shown):
    """Numbers stay numbers; objects that JSON does not have become their ``str()``."""
    assert to_jsonable(value) == shown
    assert type(to_jsonable(value)) is type(shown)
    assert members(value=value)["value"] == shown


def test_members_leave_none_out():
    """``None`` is left out on the first level, but stays within an object."""
    assert members(a=None, b={"c": None}) == {"b": {"c": None}}
    assert line_to_json({}) == "{}"


def test_members_have_any_key():
    """A key that is not text becomes text."""
    line = line_to_json({5: 1, b"k": 2, 'quote"': 3})
    assert json.loads(line) == {"5": 1, "b'k'": 2, 'quote"': 3}


def test_depth_ends_in_text():
    """Containers that are nested too deeply become text."""
    assert members(value=deep())["value"]["d"].startswith('{"d"')
    assert "nested too deeply" in line_to_json({"value": deep(), "odd": float("nan")})


def test_linked_data_is_limited():
    """A few objects that all refer to each other are cut, because they have a million paths."""
    people = [{"name": number} for number in range(12)]
    for one in people:
        one["friends"] = [other for other in people if other is not one]
    started_s = time.monotonic()
    line = line_to_json({"who": people[0]})
    assert time.monotonic() - started_s < 5
    assert len(line) < 1_000_000
    assert "too large" in line


def test_the_values_of_a_response_are_not_converted():
    """A response body raises for values that JSON does not have."""
    assert json.loads(to_json_bytes({"a": [1, "é"]})) == {"a": [1, "é"]}
    assert to_json_bytes({}) == b"{}\n"
    for wrong, error in [(float("nan"), ValueError), (object(), TypeError)]:
        with pytest.raises(error):
            to_json_bytes({"a": wrong})


def test_a_field_named_fields_is_a_field():
    """Only the envelope's ``Fields`` has members that are objects."""
    line = line_to_json({"Fields": {"Fields": {"a": {"b": 1}}}})
    assert json.loads(line) == {"Fields": {"Fields": {"a": '{"b": 1}'}}}
