"""Where the user's code was."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeGuard

_MAX_FRAMES = 5
_MAX_TASKS = 20
_FRAME = re.compile(r'^\s+File "(.+)", line (\d+)', re.MULTILINE)
_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_STANDARD = tuple({os.path.abspath(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib")})
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def stack_of_thread(thread_id: int | None) -> list[str]:
    """Say where a thread is at this moment.

    Args:
        thread_id: The thread's identifier.

    Returns:
        Lines such as ``app.py:7 in check: time.sleep(60)``, the innermost last: those of the
        user's code, or of whatever runs where none of it is on the stack.
    """
    frame = sys._current_frames().get(thread_id or 0)  # noqa: SLF001 - its documented name
    if frame is None:
        return []
    event_loop = sys.modules.get(f"{__package__}.checks.event_loop")
    task = event_loop.tasks.get(thread_id) if event_loop else None
    awaited = traceback.StackSummary.extract(_frames_of(task))
    return _lines([*traceback.extract_stack(frame), *awaited])


def _frames_of(task: Any) -> Iterator[tuple[FrameType, int]]:
    """Follow what a task awaits: coroutines, and then perhaps another task."""
    for _ in range(_MAX_TASKS):
        if not hasattr(task, "get_coro"):
            return
        coroutine = task.get_coro()
        while (inner := getattr(coroutine, "cr_frame", None)) is not None:
            yield inner, inner.f_lineno
            coroutine = coroutine.cr_await
        task = getattr(task, "_fut_waiter", None)  # no public name tells it


def stack_of_error(error: BaseException) -> list[str]:
    """Say where an exception was raised, as `stack_of_thread` does."""
    if isinstance(error, SyntaxError) and _is_file(error.filename):
        return [f"{shown_path(error.filename)}:{error.lineno}: {(error.text or '').strip()}"]
    return _lines(traceback.extract_tb(error.__traceback__))


def place_of_error(error: BaseException) -> str:
    """Say at which line of the user's code an exception was raised.

    Args:
        error: The exception.

    Returns:
        ``file:line``, or nothing if none of the user's code took part.
    """
    if isinstance(error, SyntaxError) and _is_file(error.filename):
        return f"{shown_path(error.filename)}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame)]
    return f"{shown_path(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def place_in_traceback(text: str) -> str:
    """Say the same of a formatted traceback."""
    frames = [
        traceback.FrameSummary(path, int(number), "", lookup_line=False)
        for path, number in _FRAME.findall(text)
    ]
    frames = [frame for frame in frames if _is_users(frame)]
    return f"{shown_path(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def shown_path(path: str) -> str:
    """Shorten a path that lies below the current directory."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)


def _lines(frames: Iterable[traceback.FrameSummary]) -> list[str]:
    frames = [frame for frame in frames if not frame.filename.startswith((_PACKAGE, "<frozen"))]
    users = [frame for frame in frames if _is_users(frame)]
    packages = [frame for frame in frames if _is_installed(frame)]
    return [
        f"{shown_path(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in (users or packages or frames)[-_MAX_FRAMES:]
    ]


def _is_users(frame: traceback.FrameSummary) -> bool:
    path = os.path.abspath(frame.filename)
    foreign = tuple(f"{directory}{os.sep}" for directory in (_PACKAGE, *_STANDARD))
    return _is_file(frame.filename) and not (_is_installed(frame) or path.startswith(foreign))


def _is_file(name: str | None) -> TypeGuard[str]:
    return name is not None and name[:1] not in {"", "<"}  # as in "<frozen os>" and "<string>"


def _is_installed(frame: traceback.FrameSummary) -> bool:
    return any(part in frame.filename for part in _INSTALLED)
