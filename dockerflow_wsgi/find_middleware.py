"""Find a middleware in an app by the attributes in which middlewares keep the wrapped app."""

from __future__ import annotations

from inspect import getattr_static
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, TypeVar

T = TypeVar("T")

# Flask; Werkzeug's and Sentry's middlewares; WhiteNoise; OpenTelemetry's.
ATTRIBUTES = ("wsgi_app", "app", "application", "wsgi")

_MAX_DEPTH = 20


def find_middleware(app: Any, kind: type[T]) -> T | None:
    """Find the outermost middleware of a class in a chain of wrapped apps.

    Args:
        app: The outermost app; it may be the middleware itself.
        kind: The class.

    Returns:
        The middleware; ``None`` if there is none, or if it is behind an app that does not show
        what it wraps.
    """
    for _ in range(_MAX_DEPTH):
        if app is None or isinstance(app, kind):
            return app
        wrapped = (static_attribute(app, name) for name in ATTRIBUTES)
        app = next((one for one in wrapped if callable(one)), None)
    return None


def static_attribute(thing: Any, name: str) -> Any:
    """Return an attribute without running code of the object, so that lazy apps are not loaded.

    Args:
        thing: Any object.
        name: The name of the attribute.

    Returns:
        Its value; ``None`` without it. A property is returned as it is.
    """
    try:
        found = getattr_static(thing, name, None)
        is_slot = isinstance(found, (MemberDescriptorType, GetSetDescriptorType))
        return getattr(thing, name, None) if is_slot else found
    except Exception:  # the object is the user's
        return None
