"""The request's ID: accepted or made, and readable while the request is served."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed.wsgi import WSGIEnvironment

ENVIRON_KEY = "dockerflow.request_id"

_is_acceptable = re.compile(r"[A-Za-z0-9._:;=+/@~-]{1,200}").fullmatch

# The variable holds a one-item list, not the ID, because the response may be closed in
# another thread or context than the one that set it: emptying the list is seen in all.
_current: ContextVar[list[str] | None] = ContextVar("dockerflow_wsgi.request_id", default=None)


def get_request_id() -> str | None:
    """Return the ID of the request that this thread, greenlet or context is serving.

    Returns:
        The ID, or ``None`` outside a request and after its response is over.
    """
    # next(): the list may be emptied at any moment, by another thread.
    return next(iter(_current.get() or ()), None)


def new_request_id() -> str:
    """Make a random request ID.

    Returns:
        A UUID of version 4 (RFC 9562): 32 hexadecimal digits with hyphens.
    """
    digits = os.urandom(16).hex()  # by hand: uuid.uuid4() takes three times as long
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


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
            request_id = new_request_id()
        environ[ENVIRON_KEY] = environ[self._key] = request_id
        return request_id


class RequestIDScope:
    """Shows one request's ID to the code that serves it, until the response is over.

    A response's steps (the call, each chunk, ``close()``) may run in turns with those of
    other responses on the same thread, or each in another thread; so each step starts with
    `enter`.
    """

    __slots__ = ("_cell", "_outer")

    def __init__(self, request_id: str) -> None:
        self._cell = [request_id]
        self._outer = _current.get()
        _current.set(self._cell)

    def enter(self) -> None:
        """Make this request the current one of this thread, greenlet or context."""
        _current.set(self._cell)

    def leave(self) -> None:
        """End the scope, in every thread and context; the request around it, if any, is next."""
        self._cell.clear()
        if _current.get() is self._cell:
            _current.set(self._outer)
