"""Finds programs that are not available as wheels."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRED = "TESTS_REQUIRE_SYSTEM_PACKAGES"
"""Environment variable: if it is set, a missing program fails the test instead of skipping it."""


def program(name, package):
    """Return a program's path; skip the test without it, and name the package to install.

    Args:
        name: The program, such as ``"haproxy"``.
        package: Debian's package that holds it.
    """
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        missing(f"there is no {name} here: install it with apt-get install {package}")
    return found


def missing(reason):
    """Skip the test; fail it if the environment variable `REQUIRED` is set."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)")
    pytest.skip(reason)
