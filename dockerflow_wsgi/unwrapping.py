"""Finds the middleware in an app, however it was wrapped."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

from .find_middleware import ATTRIBUTES, static_attribute
from .middleware import DockerflowMiddleware

# What wrappers of one's own call the app that they wrap; methods, partials and decorators.
_FURTHER_ATTRIBUTES = (
    "_app",
    "_application",
    "wrapped_app",
    "wrapped",
    "_wrapped",
    "_wsgi_app",
    "__wrapped__",
    "__self__",
    "func",
)
_MAX_OBJECTS = 1000


def find_middlewares(app: Any) -> list[DockerflowMiddleware]:
    """Follow an app's wrappers.

    Args:
        app: The app, as the server gets it.

    Returns:
        Its middlewares, the one that requests reach first in front. Those that only a Flask
        app's extension knows are the last: requests may not reach them at all.
    """
    found: list[DockerflowMiddleware] = []
    extensions: list[DockerflowMiddleware] = []
    for thing in _walk(app):
        if isinstance(thing, DockerflowMiddleware):
            found.append(thing)
        extensions.extend(_of_flask(thing))
    return found + [one for one in extensions if not any(one is other for other in found)]


def name_of(app: Any) -> str:
    """Say what an app is, without its ``repr``, which may hold anything."""
    kind = type(app)
    try:
        name = getattr(app, "__qualname__", None) or kind.__qualname__
        return f"{name} ({getattr(app, '__module__', '?')})"
    except Exception:  # noqa: BLE001 - a proxy for what is not there yet
        return f"{kind.__qualname__} ({kind.__module__})"


def _walk(app: Any) -> Iterator[Any]:
    """Visit an app and what it wraps, breadth first, each once, and not without end."""
    queue: deque[Any] = deque([app])
    seen: list[Any] = []  # keeps them alive, so that no identity is used again
    identities: set[int] = set()
    while queue and len(seen) < _MAX_OBJECTS:
        thing = queue.popleft()
        if id(thing) in identities:
            continue
        identities.add(id(thing))
        seen.append(thing)
        yield thing
        queue.extend(part for part in _parts(thing) if callable(part))


def _parts(thing: Any) -> Iterable[Any]:
    for name in (*ATTRIBUTES, *_FURTHER_ATTRIBUTES):
        yield static_attribute(thing, name)
    mounts = static_attribute(thing, "mounts")  # Werkzeug's DispatcherMiddleware
    if isinstance(mounts, Mapping):
        yield from mounts.values()
    if isinstance(thing, functools.partial):
        yield from (*thing.args, *thing.keywords.values())
    if isinstance(thing, FunctionType):
        yield from (static_attribute(cell, "cell_contents") for cell in thing.__closure__ or ())
    if not isinstance(thing, type):
        attributes = static_attribute(thing, "__dict__")
        yield from list(attributes.values()) if isinstance(attributes, dict) else ()


def _of_flask(thing: Any) -> Iterator[DockerflowMiddleware]:
    extensions = static_attribute(thing, "extensions")
    if isinstance(extensions, Mapping):
        middleware = extensions.get("dockerflow.middleware")
        if isinstance(middleware, DockerflowMiddleware):
            yield middleware
