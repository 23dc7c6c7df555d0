"""Find a middleware in an app by the attributes in which middlewares keep the wrapped app."""

from __future__ import annotations

from inspect import getattr_static
from types import GetSetDescriptorType, MemberDescriptorType, MethodType
from typing import Any, TypeVar

T = TypeVar("T")

# functools.wraps(), which also copies the other attributes; Flask; Werkzeug's and Sentry's
# middlewares; WhiteNoise; OpenTelemetry's.
ATTRIBUTES = ("__wrapped__", "wsgi_app", "app", "application", "wsgi")

_MAX_DEPTH = 20


def find_middleware(app: Any, kind: type[T]) -> T | None:
    """Return the outermost middleware of a class in a chain of wrapped apps, or ``None``."""
    for _ in range(_MAX_DEPTH):
        if app is None or isinstance(app, kind):
            return app
        wrapped = (static_attribute(app, name) for name in ATTRIBUTES)
        app = next((one for one in wrapped if callable(one)), None)
    return None


def find_bypassed(app: Any, kind: type[T]) -> tuple[T | None, str]:
    """Find a middleware that a Flask app has, and that requests do not reach.

    That is so where something took the method ``wsgi_app`` of the Flask app before the middleware
    wrapped it.

    Returns:
        The middleware, and the name of the Flask app; ``None`` and an empty text if there is none.
    """
    taken = find_middleware(app, MethodType)
    if taken is None or taken.__name__ != "wsgi_app":
        return None, ""
    flask_app = taken.__self__
    found = find_middleware(static_attribute(flask_app, "wsgi_app"), kind)
    return found, "" if found is None else str(getattr(flask_app, "name", "?"))


def static_attribute(thing: Any, name: str) -> Any:
    """Return an attribute without running code of the object, so that lazy apps are not loaded.

    Without the attribute, ``None`` is returned. A property is returned itself.
    """
    try:
        found = getattr_static(thing, name, None)
        is_slot = isinstance(found, (MemberDescriptorType, GetSetDescriptorType))
        return getattr(thing, name, None) if is_slot else found
    except Exception:  # the object is the user's
        return None
