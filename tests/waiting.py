"""Waits for conditions with a time limit."""

from __future__ import annotations

import time

TIMEOUT_S = 60
"""Seconds after which a wait has failed; long enough for a busy machine."""


def wait_until(condition):
    """Call a function until it returns a true value, and return that value.

    Raises:
        AssertionError: It did not return one within `TIMEOUT_S`.
    """
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (result := condition()):
        assert time.monotonic() < deadline_s, (
            f"{condition.__name__}() is not true after {TIMEOUT_S} s"
        )
        time.sleep(0.02)
    return result
