"""Fixtures for the tests of proxies and probers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def directory():
    """Make a directory of a short name: the path of a Unix socket has a hundred bytes at most."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)
