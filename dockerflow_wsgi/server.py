"""`serve_in_background`: the endpoints of processes without HTTP.

For RQ and Celery workers, schedulers and the like; not for processes that a WSGI server runs.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from werkzeug.exceptions import NotFound

from .background import BackgroundServer
from .checks import CheckRegistry
from .errors import ConfigurationError, ListenError, log_redacted
from .find_middleware import find_middleware
from .middleware import DockerflowMiddleware
from .settings import read_port

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from typing_extensions import Unpack

    from .middleware import MiddlewareKeywords

DEFAULT_HOST = "0.0.0.0"  # noqa: S104 - probers are on other machines
logger = logging.getLogger("dockerflow_wsgi")


@runtime_checkable
class HasMiddleware(Protocol):
    """The extension of a framework, such as `dockerflow_wsgi.flask.Dockerflow`."""

    def get_middleware(self) -> DockerflowMiddleware:
        """Return the middleware of the extension's only app."""
        ...


def serve_in_background(
    registry: CheckRegistry | WSGIApplication | HasMiddleware,
    *,
    port: int | str | None = None,
    host: str = DEFAULT_HOST,
    **options: Unpack[MiddlewareKeywords],
) -> BackgroundServer:
    """Serve the three endpoints, and nothing else, from daemon threads of this process.

    If the port is taken, an error is logged by ``dockerflow_wsgi``, and the process goes on. A
    child that is forked later neither serves nor holds the port; to have endpoints, it calls this
    function itself, with a port of its own.

    Args:
        registry: The checks, a wrapped app, or a Flask extension.
        port: The port; 0 for any free one. By default ``$PORT``, or 8000 without it.
        host: The address to listen on; by default all IPv4 addresses, ``"::"`` for IPv6 too.
        **options: Those of `DockerflowMiddleware`, such as ``redis=client``; not with an app.

    Returns:
        The server, with its ``port`` and ``stop()``; as a context manager, it stops at the end. The
        port is ``None`` if the address cannot be listened on, or if Dockerflow is disabled.

    Raises:
        ConfigurationError: The port or a setting is wrong, or the app has no middleware.
        TypeError: ``registry`` is neither, or there are options with an app.
    """
    middleware = get_middleware(registry, **options)
    server, number = BackgroundServer(middleware), read_port(port)
    if middleware.settings.disabled:
        logger.info("Dockerflow is disabled: no endpoints in process %s", os.getpid())
        return server
    try:
        start(server, host, number)
    except ListenError as error:
        log_redacted(logger, logging.ERROR, f"No endpoints in process {os.getpid()}: {error}")
    return server


def get_middleware(
    registry: CheckRegistry | WSGIApplication | HasMiddleware, **options: Unpack[MiddlewareKeywords]
) -> DockerflowMiddleware:
    """Return the middleware whose endpoints `serve_in_background` serves; see there."""
    if isinstance(registry, CheckRegistry):
        return DockerflowMiddleware(NotFound(), registry=registry, **options)
    if isinstance(registry, HasMiddleware):
        registry = registry.get_middleware()
    if not callable(registry):
        kind = type(registry).__name__
        raise TypeError(f"registry must be a CheckRegistry or a WSGI application, not a {kind}")
    if options:
        raise TypeError(f"{', '.join(options)}: pass options to the app's own DockerflowMiddleware")
    middleware = find_middleware(registry, DockerflowMiddleware)
    if middleware is None:
        raise ConfigurationError(["the app has no DockerflowMiddleware: wrap it in one first"])
    middleware.prepare()
    return middleware


def start(server: BackgroundServer, host: str, port: int) -> None:
    """Start a server; raises `ListenError` with the reason and the remedy."""
    try:
        server.start(host, port)
    except RuntimeError as error:
        raise ListenError(f"there is no thread: {error}. Raise the limit (ulimit -u)") from error
    except (OSError, ValueError) as error:
        reason = f"cannot listen at {host} port {port}: {error}. Use an address of this machine"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            reason = (
                f"port {port} is taken;  ss -ltnp 'sport = :{port}'  shows by which process. Give "
                "each process its own port (PORT=..., port=...), or any free one (port=0)"
            )
        raise ListenError(reason) from error
    logger.info("Dockerflow's endpoints are at %s port %s", host, server.port)
