"""Fixtures for the tests of frameworks."""

from __future__ import annotations

import pytest
from frameworks.answer import ask, assert_summary
from frameworks.framework import FRAMEWORKS


@pytest.fixture(params=FRAMEWORKS, ids=str)
def framework(request):
    """Run a test with each framework."""
    return request.param


@pytest.fixture
def ask_both(framework, summaries):
    """Return a function that requests a page with and without the middleware.

    Both responses must be equal, and the one of the wrapped app must have one summary.
    """

    def ask_both(path, method="GET", *, middleware=lambda app: app, **keys):
        expected = ask(middleware(framework.make_app()), path, method, **keys)
        assert not summaries
        answer = ask(framework.wrapped(middleware), path, method, **keys)
        assert answer.as_unwrapped() == expected.as_unwrapped()
        (summary,) = summaries
        assert_summary(summary, answer, path, method)
        return answer

    return ask_both
