"""What is served: an app that has the endpoints and nothing else, or the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..checks import CheckRegistry
from ..endpoints import error_response
from ..middleware import DockerflowMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from ..checks import HeartbeatReport
    from ..checks.run import CheckContext
    from ..settings import SettingKeywords
    from ..summary import SummaryExtra

    class MiddlewareKeywords(SettingKeywords, total=False):
        """The keyword arguments of `DockerflowMiddleware`, but for its registry."""

        db: Any
        redis: Any
        migrate: Any
        on_heartbeat: Callable[[HeartbeatReport], object] | None
        check_context: CheckContext
        summary_extra: SummaryExtra | None


def endpoints_of(
    registry: CheckRegistry | WSGIApplication, **options: Unpack[MiddlewareKeywords]
) -> WSGIApplication:
    """Make an app that has the endpoints, and nothing else.

    Args:
        registry: The checks. An app is left as it is: wrapping it could hide a middleware
            further in, whose checks would not be asked any more.
        **options: Those of `DockerflowMiddleware`.

    Returns:
        The app.

    Raises:
        ConfigurationError: A setting has a wrong value.
        TypeError: ``registry`` is neither, or options were given along with an app.
    """
    if isinstance(registry, CheckRegistry):
        return DockerflowMiddleware(_nothing_else, registry=registry, **options)
    if not callable(registry):
        kind = type(registry).__name__
        raise TypeError(f"registry must be a CheckRegistry or a WSGI application, not a {kind}")
    if options:
        names = ", ".join(options)
        raise TypeError(f"{names}: give the options to the app's own DockerflowMiddleware")
    return registry


def is_switched_off(app: WSGIApplication) -> bool:
    """Tell whether there is nothing to serve: only endpoints, and Dockerflow is disabled.

    Args:
        app: From `endpoints_of`.
    """
    return (
        isinstance(app, DockerflowMiddleware) and app.app is _nothing_else and app.settings.disabled
    )


def _nothing_else(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    text = "there is nothing here but /__lbheartbeat__, /__heartbeat__ and /__version__"
    response = error_response(404, text)
    start_response(response.status, response.headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]
