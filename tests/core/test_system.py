"""Tests that need a program of the system name its package, and never pass without it."""

from __future__ import annotations

import pytest
from system import REQUIRED, program


def test_a_missing_program_skips_with_the_package_to_install(monkeypatch):
    """A test is skipped on a developer's machine, with the package to install."""
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install no-such-package"):
        program("no-such-program", "no-such-package")


def test_a_missing_program_fails_where_all_must_be_there(monkeypatch):
    """A test fails in CI, where a skipped one would look like a passed one."""
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install no-such-package"):
        program("no-such-program", "no-such-package")


def test_a_program_is_found(monkeypatch):
    """Programs in the directories of root's PATH are found, too."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv(REQUIRED, "1")
    assert program("ldconfig", "libc-bin").endswith("/ldconfig")
