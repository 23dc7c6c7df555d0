"""Fixtures for the tests of proxies and probers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def directory():
    """Make a directory with a short path: the path of a Unix socket is limited to 107 bytes."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)
