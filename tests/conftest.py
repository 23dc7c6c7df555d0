"""Fixtures for all tests."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import threading
from collections import Counter

import pytest
from servers import postgres_server, redis_server
from waiting import TIMEOUT_S

from dockerflow_wsgi import request_id


def pytest_configure():
    """Remove Dockerflow's settings from the environment, and let SIGINT end programs under test.

    Shells start background jobs with SIGINT ignored, and their children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("DOCKERFLOW_")]:
        del os.environ[name]


def pytest_collection_finish():
    """Exclude the imported modules and the collected tests from garbage collections."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Print each reason for skipped tests once, with the number of tests."""
    skipped = [report.longrepr[2] for report in terminalreporter.getreports("skipped")]
    for reason, count in sorted(Counter(skipped).items()):
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def pytest_runtest_setup():
    """Clear the request ID that an unclosed response of a test client leaves."""
    request_id.set_context(None)


@pytest.fixture
def nothing_is_left_to_the_next_test():
    """Wait for delayed checks and steps after the test, and collect the garbage."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("dockerflow ") or thread.name == "doctor":
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), f"the thread {thread.name!r} hangs"
    gc.collect()


@pytest.fixture(scope="session")
def redis_url():
    """Run a Redis server, and return its URL."""
    with redis_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_url():
    """Run a PostgreSQL server, and return its URL."""
    with postgres_server() as server:
        yield server.url


class Records(logging.Handler):
    """A handler that keeps the records of a logger."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        """Keep a record."""
        self.records.append(record)

    def __iter__(self):
        return iter(self.records)

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]


@pytest.fixture
def listen():
    """Return a function that keeps the records of a logger, at any level."""
    attached = []

    def attach(name, level=logging.DEBUG):
        logger = logging.getLogger(name)
        handler = Records()
        attached.append((logger, handler, logger.level))
        logger.addHandler(handler)
        logger.setLevel(level)
        return handler

    yield attach
    for logger, handler, level in reversed(attached):
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture
def summaries(listen):
    """Keep the records of ``request.summary``."""
    return listen("request.summary")


@pytest.fixture
def version_directory(tmp_path):
    """Make a directory with a version.json."""
    version = {"source": "https://x.test", "version": "1.0", "commit": "abc", "build": "42"}
    (tmp_path / "version.json").write_text(json.dumps(version))
    return tmp_path
