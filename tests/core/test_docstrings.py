"""The examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import dockerflow_wsgi

PACKAGE = Path(dockerflow_wsgi.__file__).parent
FILES = [file for file in PACKAGE.rglob("*.py") if ">>>" in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_examples_in_docstrings_run(file):
    """The examples print what the docstrings show."""
    name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted
    assert not results.failed
