"""The request's ID: accepted or made, and readable while the request is served."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .uuids import new_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed.wsgi import WSGIEnvironment

ENVIRON_KEY = "dockerflow.request_id"

_is_acceptable = re.compile(r"[A-Za-z0-9._:;=+/@~-]{1,200}").fullmatch

current: ContextVar[list[str] | None] = ContextVar("dockerflow_wsgi.request_id", default=None)
"""The ID of the request that is being served, in a list.

The list and not the ID, because the response may be closed in another thread or context than
the one that set it: emptying the list is seen in all.
"""

# For importers: Python 3.11 makes an object of an imported name's method at each call, 0.03 us.
get_current = current.get
set_current = current.set


def get_request_id() -> str | None:
    """Return the ID of the request that this thread, greenlet or context is serving.

    Returns:
        The ID, or ``None`` outside a request and after its response is over.
    """
    # next(): the list may be emptied at any moment, by another thread.
    return next(iter(get_current() or ()), None)


class RequestIDSource:
    """Gives each request its ID.

    An incoming ID is used only if all of it is made of the characters that the common
    formats need (UUIDs, ULIDs, trace contexts), so that none can forge a log line, a header
    or markup.

    Args:
        headers: Names of the headers that may bring an ID, asked in order.
        trust: Whether an incoming ID is used at all.
    """

    __slots__ = ("_incoming_keys", "_key")

    def __init__(self, headers: Sequence[str], *, trust: bool) -> None:
        keys = tuple(f"HTTP_{name.upper().replace('-', '_')}" for name in headers)
        self._key = keys[0]
        self._incoming_keys = keys if trust else ()

    def assign(self, environ: WSGIEnvironment) -> str:
        """Accept or make the request's ID, and leave it in the environ.

        Args:
            environ: The request; gets ``dockerflow.request_id`` and the key of the first
                header, so that code that reads the header sees the same ID.

        Returns:
            The ID.
        """
        for key in self._incoming_keys:
            request_id = environ.get(key)
            if request_id and _is_acceptable(request_id):
                break
        else:
            request_id = new_uuid()
        environ[ENVIRON_KEY] = environ[self._key] = request_id
        return request_id
