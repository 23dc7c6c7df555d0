"""Runs each behaviour on each server, and prints a table of the results."""

from __future__ import annotations

import pytest
from on_servers.catalogue import SERVERS
from on_servers.running import running

SHOWN = {"passed": "ok", "xfailed": "no", "skipped": "skip", "failed": "FAIL", "error": "FAIL"}


def behaviour_of(function):
    """Return the name of the behaviour that a test function tests."""
    return function.__name__.removeprefix("test_")


def pytest_generate_tests(metafunc):
    """Run a test on every server; it must fail on servers that do not support the behaviour."""
    if "kind" in metafunc.fixturenames:
        behaviour = behaviour_of(metafunc.function)
        kinds = [_case(kind, behaviour) for kind in SERVERS if behaviour not in kind.lacks]
        metafunc.parametrize("kind", kinds, scope="session")


def _case(kind, behaviour):
    reason = kind.limits.get(behaviour)
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(kind, id=kind.name.replace(" ", "-"), marks=marks)


@pytest.fixture(scope="session")
def server(kind):
    """Run a server for all tests that do not stop it."""
    with running(kind) as server:
        yield server
        server.log.drain()
        assert server.log.broken == []


@pytest.fixture(autouse=True)
def cell(request, kind):
    """Record the row and column of a test in the table."""
    request.node.user_properties.append(("cell", (behaviour_of(request.function), kind.name)))


def pytest_terminal_summary(terminalreporter):
    """Print the table with ``-v``."""
    if terminalreporter.verbosity < 1:
        return
    cells = {}
    for outcome, shown in SHOWN.items():
        for report in terminalreporter.getreports(outcome):
            position = dict(getattr(report, "user_properties", ())).get("cell")
            if position:
                cells[tuple(position)] = shown
    if cells:
        terminalreporter.section("what works on which server")
        for line in table(cells):
            terminalreporter.write_line(line)


def table(cells):
    """Yield the lines of the table: behaviours by server, and the reasons below."""
    width = max(len(behaviour) for behaviour, _server in cells)
    for number, kind in enumerate(SERVERS, 1):
        yield f"{number:{width}}  {kind.name}"
    yield " " * width + "".join(f"{number:5}" for number in range(1, len(SERVERS) + 1))
    for behaviour in sorted({behaviour for behaviour, _server in cells}):
        row = "".join(f"{cells.get((behaviour, kind.name), '-'):>5}" for kind in SERVERS)
        yield f"{behaviour:{width}}{row}"
    for kind in SERVERS:
        for behaviour, reason in {**kind.limits, **kind.lacks}.items():
            yield f"{kind.name}, {behaviour}: {reason}"
