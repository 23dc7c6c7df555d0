"""Find a middleware in an app by the attributes in which middlewares keep the wrapped app."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import getattr_static
from types import GetSetDescriptorType, MemberDescriptorType, MethodType
from typing import Any, TypeVar

T = TypeVar("T")

# Flask; Werkzeug's and Sentry's middlewares; WhiteNoise; OpenTelemetry's.
ATTRIBUTES = ("wsgi_app", "app", "application", "wsgi")

_MAX_DEPTH = 20
_MAX_LAYERS = 100


def find_middleware(app: Any, kind: type[T]) -> T | None:
    """Return the outermost middleware of a class in a chain of wrapped apps, or ``None``."""
    for _ in range(_MAX_DEPTH):
        if app is None or isinstance(app, kind):
            return app
        wrapped = (static_attribute(app, name) for name in ATTRIBUTES)
        app = next((one for one in wrapped if callable(one)), None)
    return None


def find_middlewares(app: Any, kind: type[T]) -> tuple[list[T], str]:
    """Find all middlewares of a class in an app, behind decorators, partials and mounts too.

    Returns:
        The middlewares, the outermost first; and the name of a Flask app whose ``wsgi_app`` was
        taken before it was wrapped, or an empty text. Requests call that method, so they do not
        reach the middleware that ``app.wsgi_app`` has now.
    """
    found: list[T] = []
    bypassed = ""
    layers = [app]
    for layer in layers:  # grows
        if isinstance(layer, kind):
            found.append(layer)
        owner = layer.__self__ if isinstance(layer, MethodType) else None
        if isinstance(layer, MethodType) and layer.__name__ == "wsgi_app":
            hidden = find_middleware(static_attribute(owner, "wsgi_app"), kind)
            if hidden is not None and hidden not in found:
                found.append(hidden)
                bypassed = str(getattr(owner, "name", "?"))
            continue
        mounts = static_attribute(layer, "mounts")  # Werkzeug's DispatcherMiddleware
        inner = [static_attribute(layer, name) for name in (*ATTRIBUTES, "__wrapped__", "func")]
        inner += [owner, *(mounts.values() if isinstance(mounts, Mapping) else ())]
        new = [one for one in inner if callable(one) and all(one is not other for other in layers)]
        layers += new[: _MAX_LAYERS - len(layers)]
    return found, bypassed


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
