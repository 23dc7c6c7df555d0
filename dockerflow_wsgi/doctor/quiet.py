"""Keeps what the doctor does out of the logs, and the app's output out of the report."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from ..endpoints import HEARTBEAT_PATH, HeartbeatEndpoint

if TYPE_CHECKING:
    from ..middleware import DockerflowMiddleware

_LOGGERS = ("dockerflow_wsgi", "dockerflow_wsgi.checks", "request.summary")


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Drop what this package logs: the probes say it, and no production log is to get it."""

    def drop(_record: logging.LogRecord) -> bool:
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(drop)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(drop)


@contextmanager
def quiet_hooks(middlewares: Iterable[DockerflowMiddleware]) -> Iterator[None]:
    """Keep heartbeats from the app's hooks and signals, which may count them or page somebody.

    Args:
        middlewares: Those in the app.
    """
    endpoints = [middleware.endpoints.get(HEARTBEAT_PATH) for middleware in middlewares]
    runners = [one.runner for one in endpoints if isinstance(one, HeartbeatEndpoint)]
    hooks = [runner.on_report for runner in runners]
    for runner in runners:
        runner.on_report = None
    try:
        yield
    finally:
        for runner, hook in zip(runners, hooks, strict=True):
            runner.on_report = hook


@contextmanager
def own_stdout(*, for_good: bool) -> Iterator[TextIO]:
    """Keep standard output for the report.

    The app's own output, printed while it is imported for instance, goes to standard error
    meanwhile, whoever writes it: at the level of file descriptors, so that ``sys.stdout`` stays
    the object that the app's log handlers have.

    Args:
        for_good: Whether it stays so, for what the app prints when the process ends.

    Yields:
        Where the report is written.
    """
    _flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(kept, "w", encoding="utf-8", errors="replace", closefd=False) as report:
            yield report
    finally:
        _flush()
        if not for_good:
            os.dup2(kept, 1)
        os.close(kept)


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
