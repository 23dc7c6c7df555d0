"""Check messages and their levels."""

from __future__ import annotations

import pickle

import pytest

from dockerflow_wsgi import checks


@pytest.mark.parametrize(
    ("message_class", "level", "text"),
    [
        (checks.Debug, 10, "debug"),
        (checks.Info, 20, "info"),
        (checks.Warning, 30, "warning"),
        (checks.Error, 40, "error"),
        (checks.Critical, 50, "critical"),
    ],
)
def test_each_class_has_its_level(message_class, level, text):
    """Numbers and texts are the published ones."""
    assert message_class("x").level == level == getattr(checks, text.upper())
    assert checks.level_to_text(level) == checks.STATUSES[level] == text


@pytest.mark.parametrize(
    ("level", "text"), [(0, "ok"), (5, "ok"), (35, "warning"), (99, "critical"), (-1, "ok")]
)
def test_a_level_between_two_counts_as_the_lower(level, text):
    """A status is always one of the six texts."""
    assert checks.level_to_text(level) == text


def test_a_level_can_be_given():
    """A given level overrides the level of the class."""
    assert checks.Warning("x", level=35).level == 35
    assert checks.CheckMessage("x", 20).level == 20
    assert checks.CheckMessage("x").level == 40
    with pytest.raises(ValueError, match="bad"):
        checks.CheckMessage("x", level="bad")


def test_messages_are_compared_by_class_and_attributes():
    """Class, text, level, hint, object and ID."""
    message = checks.Error("x", hint="h", obj=[1], id="a.E1")
    assert message == checks.Error("x", hint="h", obj=[1], id="a.E1")
    for other in (
        checks.Error("y", hint="h", obj=[1], id="a.E1"),
        checks.Error("x", hint="i", obj=[1], id="a.E1"),
        checks.Error("x", hint="h", obj=[2], id="a.E1"),
        checks.Error("x", hint="h", obj=[1], id="a.E2"),
        checks.Error("x", level=45, hint="h", obj=[1], id="a.E1"),
        checks.Critical("x", level=40, hint="h", obj=[1], id="a.E1"),
        "x",
    ):
        assert message != other
    assert len({checks.Error("x"), checks.Error("x")}) == 1


def test_str_and_repr_have_all_attributes():
    """``str()`` is for people, ``repr()`` for debuggers."""
    message = checks.Warning("low", hint="clean up", obj="disk", id="a.W1")
    assert str(message) == "disk: (a.W1) low\n\tHINT: clean up"
    assert str(checks.Warning("low")) == "?: low"
    assert repr(message) == (
        "<Warning: level=30, msg='low', hint='clean up', obj='disk', id='a.W1'>"
    )


def test_is_serious_compares_levels():
    """A message is serious from ERROR on, or from a given level on."""
    assert checks.Error("x").is_serious()
    assert not checks.Warning("x").is_serious()
    assert checks.Warning("x").is_serious(checks.WARNING)


def test_a_message_cannot_be_changed():
    """Messages are frozen, because reports are shared."""
    with pytest.raises(AttributeError):
        checks.Error("x").msg = "y"


def test_a_message_can_be_pickled():
    """A message survives a round trip through pickle."""
    message = checks.Error("x", id="a.E1")
    assert pickle.loads(pickle.dumps(message)) == message
