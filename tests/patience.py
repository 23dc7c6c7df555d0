"""How long tests wait for what is sure to come."""

from __future__ import annotations

import time

PATIENCE_S = 20  # generous: the machines that run this are busy


def wait_until(is_so):
    """Ask again and again, until it is so."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"{is_so.__name__}: not within {PATIENCE_S} s"
        time.sleep(0.02)


def wait_for(stream, text):
    """Read lines until one has the text, and return it."""
    seen = []
    for line in stream:
        if text in line:
            return line
        seen.append(line)
    raise AssertionError(f"the server ended without {text!r}:\n{''.join(seen)}")
