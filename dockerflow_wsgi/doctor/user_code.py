"""Calls user code within a time limit, and finds the lines where it hangs."""

from __future__ import annotations

import faulthandler
import os
import re
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any, TypeVar

from ..import_string import lines_of_traceback

T = TypeVar("T")

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)", re.MULTILINE)


class OverdueError(Exception):
    """A function did not return in time; ``lines`` has the place where it was."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("not done in time")
        self.lines = lines


def call_within(function: Callable[[], T], timeout_s: float) -> T:
    """Call a function on a daemon thread, and wait for it; may raise `OverdueError`."""
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=call, name="doctor", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise OverdueError(lines_of_thread(thread.ident))
    return results[0]


def open_dump() -> IO[bytes]:
    """Open a file for `faulthandler`, in memory because a container may be read-only."""
    if hasattr(os, "memfd_create"):  # Linux
        return open(os.memfd_create("doctor"), "w+b")
    return tempfile.TemporaryFile()


def lines_of_thread(thread_id: int | None) -> list[str]:
    """Return the lines where a thread is; see `lines_of_traceback`."""
    with open_dump() as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
        return lines_of_dump(file, thread_id)


def lines_of_dump(file: IO[bytes], thread_id: int | None) -> list[str]:
    """Return the lines where a thread was when `faulthandler` wrote the file."""
    file.seek(0)
    _, *parts = _THREAD.split(file.read().decode("utf-8", "replace"))
    threads = {int(parts[i], 16): parts[i + 1] for i in range(0, len(parts), 2)}
    frames = threads.get(thread_id or 0, "").splitlines()
    return lines_of_traceback("\n".join(reversed(frames)))


def lines_of_coroutine(coroutine: Any) -> list[str]:
    """Return the lines where a coroutine waits, and those that it awaits."""
    frames = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        frames.append((frame, frame.f_lineno))
        coroutine = coroutine.cr_await
    return lines_of_traceback("".join(traceback.StackSummary.extract(frames).format()))
