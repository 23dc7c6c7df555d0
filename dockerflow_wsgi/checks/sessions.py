"""Close the SQLAlchemy sessions that a check leaves open.

A `scoped_session` keeps its session in a thread-local. The session outlives the thread, because
it is part of a reference cycle, and keeps its connection until the garbage collector runs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..errors import call_safely

# The thread of a check and its sessions. Not a thread-local, which gevent may patch later on.
_current: ContextVar[tuple[int, list[Any]]] = ContextVar("dockerflow_wsgi.sessions")


@contextmanager
def close_sessions() -> Iterator[None]:
    """Close the sessions that begin a transaction on this thread in this context.

    An ``async`` check runs on another thread, and closes its own sessions.
    """
    session_class = getattr(sys.modules.get("sqlalchemy.orm"), "Session", None)
    if session_class is not None:
        from sqlalchemy import event

        if not event.contains(session_class, "after_begin", _note):
            event.listen(session_class, "after_begin", _note)
    sessions: list[Any] = []
    token = _current.set((threading.get_ident(), sessions))
    try:
        yield
    finally:
        _current.reset(token)
        for session in sessions:
            call_safely("Closing a check's session", session.close, default=None)


def _note(session: Any, transaction: Any, _connection: Any) -> None:
    thread_id, sessions = _current.get((None, []))
    if thread_id == threading.get_ident() and not transaction.nested:
        sessions.append(session)
