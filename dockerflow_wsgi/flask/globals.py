"""``flask.g.request_id``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import require_extra
from ..request_id import ENVIRON_KEY, RequestIDSource

with require_extra("flask"):
    from flask import has_request_context, request

if TYPE_CHECKING:
    from flask.ctx import _AppCtxGlobals


def globals_class(base: type[_AppCtxGlobals], source: RequestIDSource) -> type[_AppCtxGlobals]:
    """Make the class of an app's ``flask.g``, with the request's ID as ``request_id``.

    The ID is looked up when it is asked for: so it is there before any ``before_request``
    function, in a ``test_request_context``, and is never that of an earlier request. A value
    that the app sets takes its place.

    Args:
        base: The class that the app has (`flask.Flask.app_ctx_globals_class`).
        source: Gives a request its ID that did not pass the middleware.

    Returns:
        A subclass.
    """

    class RequestIDGlobals(base):  # type: ignore[misc, valid-type]
        """Flask's globals, with the request's ID."""

        def __getattr__(self, name: str) -> Any:
            # Called only for what is not set.
            if name == "request_id" and has_request_context():
                return request.environ.get(ENVIRON_KEY) or source.assign(request.environ)
            return super().__getattr__(name)

        def get(self, name: str, default: Any = None) -> Any:
            """Return an attribute, or a default, as a dict does."""
            if name == "request_id":
                return getattr(self, name, default)
            return super().get(name, default)

        def __contains__(self, name: str) -> bool:
            return hasattr(self, name) if name == "request_id" else super().__contains__(name)

    return RequestIDGlobals
