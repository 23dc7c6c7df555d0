"""Objects that raise when they are shown, and objects that contain themselves."""

from __future__ import annotations


class Unshowable:
    """An object whose ``__repr__`` and ``__str__`` raise."""

    def __repr__(self):
        raise RuntimeError("no")


class UntraceableError(Exception):
    """An exception that cannot be formatted."""

    @property
    def __cause__(self):
        raise RuntimeError("no cause")


def cycle():
    """Make a list that contains itself."""
    itself = [1]
    itself.append(itself)
    return itself
