"""Logs what went wrong beside a request without letting it hurt the request."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

from .masking import mask_credentials

T = TypeVar("T")

logger = logging.getLogger("dockerflow_wsgi")


def traceback_of(error: BaseException) -> str:
    """Format an exception with its causes and its traceback, with credentials masked."""
    try:
        text = "".join(traceback.format_exception(error)).rstrip()
    except Exception:  # noqa: BLE001 - an exception of the user's, made by hand
        text = f"{type(error).__name__} without a traceback that can be shown"
    return mask_credentials(text)


def log_masked(
    target: logging.Logger,
    level: int,
    text: str,
    traceback_text: str | None = None,
    **fields: object,
) -> None:
    """Log a text, and a traceback, without any credentials.

    The traceback is handed to the formatters ready-made (``exc_text``), because one made
    from ``exc_info`` would show the exception's text as it is.

    Args:
        target: The logger that gets the record.
        level: The record's level.
        text: The record's message.
        traceback_text: From `traceback_of`, if there is one.
        **fields: Further attributes of the record.
    """
    if target.isEnabledFor(level):
        masked = mask_credentials(text)
        record = target.makeRecord(target.name, level, __file__, 0, masked, (), None)
        record.exc_text = traceback_text
        vars(record).update(fields)
        target.handle(record)


def log_fault(text: str, error: BaseException) -> None:
    """Log a fault of this package, or of a hook it called, on ``dockerflow_wsgi``.

    Never raises an ``Exception``: a logging set-up that fails ends on standard error, if
    there is one.

    Args:
        text: What was attempted, and what was done instead.
        error: What it raised.
    """
    try:
        log_masked(logger, logging.ERROR, text, traceback_of(error))
    except Exception as fault:  # noqa: BLE001 - the logging itself is broken
        with contextlib.suppress(Exception):
            sys.stderr.write(f"{traceback_of(fault)}\n")


def call_hook(name: str, hook: Callable[..., T], *arguments: object, instead: T) -> T:
    """Call a function of the user's; if it raises, log that and go on.

    Args:
        name: What the hook is called in the settings, for the log.
        hook: The function.
        *arguments: Its arguments.
        instead: What to return when it raises.

    Returns:
        What the hook returned, or ``instead``.
    """
    try:
        return hook(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the request must not suffer
        log_fault(f"{name} raised; the response is sent as if it were not set", error)
        return instead
