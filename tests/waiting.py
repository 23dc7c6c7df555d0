"""Waiting with a limit: every wait of a test ends."""

from __future__ import annotations

import time

TIMEOUT_S = 60
"""Seconds that a test waits for something that is sure to happen, on a busy machine too."""


def wait_until(condition):
    """Call a function until it returns something true, and return that.

    Raises:
        AssertionError: It did not within `TIMEOUT_S`.
    """
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (result := condition()):
        assert time.monotonic() < deadline_s, f"{condition.__name__}: not within {TIMEOUT_S} s"
        time.sleep(0.02)
    return result
