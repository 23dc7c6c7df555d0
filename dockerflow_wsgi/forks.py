"""Tells a process that it was forked, at the cost of reading a byte.

`os.register_at_fork` does not: servers that fork in C, as uWSGI does, do not ask it.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import Final

OF_UUIDS: Final = 0
_OF_PID: Final = 1

_MADV_WIPEONFORK = 18  # of madvise(2); mmap has no name for it


def _page_wiped_by_forks() -> mmap.mmap | None:
    if sys.platform != "linux":
        return None
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE)
    try:
        page.madvise(_MADV_WIPEONFORK)
    except OSError:
        return None  # before Linux 4.14
    return page


page: Final = _page_wiped_by_forks()
"""Zeros in a new process; each user sets a byte of its own. ``None`` where no system wipes it."""

_pid = 0


def getpid() -> int:
    """Return the process's ID, in 0.05 us in place of the 0.2 of `os.getpid`'s system call."""
    global _pid  # noqa: PLW0603 - a constant of the process
    if page is None:
        return os.getpid()
    if not page[_OF_PID]:
        _pid = os.getpid()
        page[_OF_PID] = 1
    return _pid
