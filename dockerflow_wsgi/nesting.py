"""Looks into wrapped apps for what they wrap."""

from __future__ import annotations

from inspect import getattr_static
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, TypeVar

T = TypeVar("T")

# Where WSGI middlewares keep the app that they wrap: Flask; Werkzeug's and Sentry's; WhiteNoise;
# OpenTelemetry's.
ATTRIBUTES = ("wsgi_app", "app", "application", "wsgi")

_MAX_DEPTH = 20


def find_inside(app: Any, wanted: type[T]) -> T | None:
    """Find the outermost middleware of a class in a chain of wrapped apps.

    Args:
        app: The outermost app; it may be the wanted one itself.
        wanted: The class.

    Returns:
        The middleware, or ``None`` if the chain ends (or cannot be followed) before one is found.
    """
    for _ in range(_MAX_DEPTH):
        if app is None or isinstance(app, wanted):
            return app
        app = _wrapped_in(app)
    return None


def look_up(thing: Any, name: str) -> Any:
    """Look an attribute up, so that an app that loads itself lazily is not loaded.

    Args:
        thing: Any object.
        name: The attribute's name.

    Returns:
        Its value, or ``None`` without it; a property or the like is returned as it is, unread.
    """
    try:
        found = getattr_static(thing, name, None)
        is_slot = isinstance(found, (MemberDescriptorType, GetSetDescriptorType))
        return getattr(thing, name, None) if is_slot else found
    except Exception:  # noqa: BLE001 - the object is the user's
        return None


def _wrapped_in(app: Any) -> Any:
    attributes = (look_up(app, name) for name in ATTRIBUTES)
    return next((wrapped for wrapped in attributes if callable(wrapped)), None)
