"""Request IDs: accept or generate them, and read the current one.

The current ID is kept in a `contextvars.ContextVar`, so each thread, greenlet and asyncio task
has its own.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed.wsgi import WSGIEnvironment

ENVIRON_KEY = "dockerflow.request_id"
CONTEXT_KEY = "dockerflow_wsgi.context"
"""The environ key of the `RequestContext` of the latest call with that environ."""

# The characters of the usual formats: UUID, ULID, W3C trace context, Kong's "uuid#counter",
# Azure's "|id.id." and .NET's "{uuid}". None of them can forge a header, a log line or markup.
_is_acceptable = re.compile(r"[A-Za-z0-9._:;=+/@~#|{}()\[\]!$*^-]{1,200}").fullmatch


class RequestContext:
    """The request that a thread, greenlet or task works on.

    The context variable holds this object instead of the ID, because a response may end in another
    thread or context than the one that set the variable: `leave` is seen in all of them. It does
    not set the variable, because it may run in a finalizer: Python 3.10 and 3.11 crash if that
    happens within another call of ``ContextVar.set`` (python/cpython#148891).

    Attributes:
        request_id: The request's ID; ``None`` once the request is over.
        is_running: Whether the app, or its response's body, is running now.
        outer: The request around this one; ``None`` without one.
        response: The `response.ResponseWrapper`, for the adapter of a framework; ``None`` once the
            request is over.
    """

    __slots__ = ("is_running", "outer", "request_id", "response")

    def __init__(self, request_id: str) -> None:
        self.outer = find_active(get_context())
        self.request_id: str | None = request_id
        self.is_running = True
        self.response: object = None
        set_context(self)

    def leave(self) -> None:
        """Forget the ID; the request around this one is the current one again."""
        self.request_id = None
        self.response = None
        self.is_running = False
        self.outer = find_active(self.outer)

    def __deepcopy__(self, _memo: object) -> RequestContext:
        return self  # a copy of the environ is still of the same request


def find_active(context: RequestContext | None) -> RequestContext | None:
    """Return the innermost request of a context that is not over."""
    while context is not None and context.request_id is None:
        context = context.outer
    return context


_context: ContextVar[RequestContext | None] = ContextVar("dockerflow_wsgi.request", default=None)
get_context = _context.get
set_context = _context.set


def get_request_id() -> str | None:
    """Return the ID of the current request.

    Returns:
        The ID of the request that this thread, greenlet or task works on, or the one that
        `request_id_context` has set; ``None`` outside of both.
    """
    context = find_active(get_context())
    return None if context is None else context.request_id


@contextmanager
def request_id_context(request_id: str | None = None) -> Iterator[str]:
    """Set the current request ID in code outside a request, such as a background job.

    Contexts can be nested. Can also decorate a plain function, but not an ``async`` or generator
    function.

    Args:
        request_id: The ID, such as that of the request that enqueued the job; by default a new
            one, which a decorated function gets at each call.

    Yields:
        The ID.

    Raises:
        TypeError: ``request_id`` is not a string.

    Example:
        >>> with request_id_context("job-42"):
        ...     get_request_id()
        'job-42'
    """
    if request_id is None:
        request_id = new_request_id()
    elif not isinstance(request_id, str):
        raise TypeError(f"request_id must be a str or None, not a {type(request_id).__name__}")
    context = RequestContext(request_id)
    try:
        yield request_id
    finally:
        context.leave()


def new_request_id() -> str:
    """Generate a random UUID, version 4 (RFC 9562); `uuid.uuid4` takes three times as long."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class RequestIDSource:
    """Accepts the ID in one of the headers if ``trust`` is true, or generates one."""

    def __init__(self, headers: Sequence[str], *, trust: bool) -> None:
        keys = tuple(f"HTTP_{name.upper().replace('-', '_')}" for name in headers)
        self._key = keys[0]
        self._incoming_keys = keys if trust else ()

    def assign(self, environ: WSGIEnvironment) -> str:
        """Return the request's ID, and put it into the environ, also as the first header."""
        for key in self._incoming_keys:
            request_id = environ.get(key)
            if request_id and _is_acceptable(request_id):
                break
        else:
            request_id = new_request_id()
        environ[ENVIRON_KEY] = environ[self._key] = request_id
        return request_id
