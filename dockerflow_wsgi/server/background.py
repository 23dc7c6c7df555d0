"""`serve_in_background`: the endpoints of processes that serve no HTTP.

For RQ and Celery workers, schedulers and the like. Not for a process that a WSGI server
runs: there the middleware answers.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

from ..endpoints import LBHEARTBEAT_PATH
from ..errors import ConfigurationError, ListenError, log_redacted
from ..settings import parse_port
from ..unwrapping import find_middlewares
from .app import endpoints_of, is_switched_off
from .forks import holder_of, opening

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed.wsgi import WSGIApplication
    from typing_extensions import Self, Unpack

    from ..checks import CheckRegistry
    from .app import MiddlewareKeywords
    from .listener import Listener


DEFAULT_HOST = "0.0.0.0"  # noqa: S104 - probers are on other machines
DEFAULT_PORT = 8000  # the Dockerflow README's

logger = logging.getLogger("dockerflow_wsgi")


class BackgroundServer:
    """What `serve_in_background` returns; as a context manager, it stops at the end.

    Nothing needs to keep it: the endpoints are served until the process ends.
    """

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener

    @property
    def port(self) -> int | None:
        """The port; ``None`` if it was taken, after `stop`, and in a forked child."""
        if self._listener is None or not self._listener.is_open:
            return None
        return self._listener.server_port

    def stop(self) -> None:
        """Stop listening, then wait for the answers under way: 5 s at most. Again: nothing."""
        if self._listener is not None:
            self._listener.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<BackgroundServer: port {self.port}>"


def serve_in_background(
    registry: CheckRegistry | WSGIApplication,
    *,
    port: int | str | None = None,
    host: str = DEFAULT_HOST,
    **options: Unpack[MiddlewareKeywords],
) -> BackgroundServer:
    """Serve the three endpoints from a daemon thread, beside whatever this process does.

    It never stops or holds up the process: if the port is taken, that is logged as an error
    by ``dockerflow_wsgi``, with the remedy, and the process goes on without endpoints. A
    child that is forked later neither has them nor holds the port; one that wants endpoints
    calls this itself after the fork, for a port of its own.

    Args:
        registry: The checks; or a WSGI app, such as a `DockerflowMiddleware`, which is served
            as it is.
        port: The port; 0 for any free one. By default ``$PORT``, or 8000 without it.
        host: The address to listen on; by default all IPv4 addresses of the machine, ``"::"``
            for all IPv6 addresses too.
        **options: Those of `DockerflowMiddleware`, such as ``redis=client``,
            ``check_timeout=2`` and ``on_heartbeat=...``; not along with an app.

    Returns:
        The running server, with its ``port`` and ``stop()``. The port is ``None`` if it could
        not be had, or if the registry's endpoints are ``disabled``.

    Raises:
        ConfigurationError: The port, or a setting, has a wrong value.
        TypeError: ``registry`` is neither, or options were given along with an app.

    Example:
        >>> registry = CheckRegistry()
        >>> with serve_in_background(registry, port=0) as server:
        ...     assert server.port
    """
    app = endpoints_of(registry, **options)
    number = read_port(port)
    if is_switched_off(app):
        logger.info("Dockerflow is disabled: no endpoints in process %s", os.getpid())
        return BackgroundServer(None)
    try:
        return start_server(app, host, number)
    except ListenError as error:
        log_redacted(logger, logging.ERROR, f"No endpoints in process {os.getpid()}: {error}")
        return BackgroundServer(None)


def read_port(port: int | str | None) -> int:
    """Read the port to listen on.

    Args:
        port: As it was given; ``None`` for ``$PORT``, or 8000 without it.

    Returns:
        The port.

    Raises:
        ConfigurationError: It is no port number; the text says where it came from.
    """
    place, raw = "keyword argument port", port
    if port is None:
        place, raw = "environment variable PORT", os.environ.get("PORT", "").strip() or DEFAULT_PORT
    try:
        return parse_port(raw)
    except ValueError as error:
        raise ConfigurationError([f"port = {raw!r} ({place}): expected {error}"]) from None


def start_server(app: WSGIApplication, host: str, port: int) -> BackgroundServer:
    """Serve an app from daemon threads.

    Args:
        app: The app.
        host: The address to listen on.
        port: The port; 0 for any free one.

    Returns:
        The running server.

    Raises:
        ListenError: The address cannot be listened on, or there are no more threads.
    """
    with opening:  # a child forked meanwhile would wait for ever for the import's lock
        from .listener import Listener  # noqa: PLC0415 - few processes need wsgiref
    try:
        listener = Listener(host, port, app)
    except (OSError, RuntimeError) as error:
        raise ListenError(_reason(error, host, port)) from error
    _tell(app, host, listener.server_port)
    return BackgroundServer(listener)


def _tell(app: WSGIApplication, host: str, port: int) -> None:
    middlewares = find_middlewares(app)
    if any(not middleware.settings.disabled for middleware in middlewares):
        logger.info("Dockerflow's endpoints are at %s port %s", host, port)
        return
    logger.info("The app is served at %s port %s", host, port)
    no = "Dockerflow is disabled" if middlewares else "no DockerflowMiddleware was found in the app"
    logger.warning("%s is the app's own to answer: %s", LBHEARTBEAT_PATH, no)


def _reason(error: OSError | RuntimeError, host: str, port: int) -> str:
    if isinstance(error, RuntimeError):
        return f"there is no thread for them: {error}. See ulimit -u, and the container's limit"
    code = error.errno
    if code == errno.EADDRINUSE:
        return (
            f"port {port} is taken: {_holder(port)}. Give each process a port of its own "
            "(PORT=..., port=...), or any free one (port=0)"
        )
    if code == errno.EACCES:
        return f"port {port} is not allowed: {error}. Take one from 1024 on, such as {DEFAULT_PORT}"
    return f"cannot listen at {host} port {port}: {error}. The host must be of this machine"


def _holder(port: int) -> str:
    holder = holder_of(port)
    if holder == os.getpid():
        return "this process listens there already"
    if holder is not None:
        return f"process {holder}, which this one was forked from, listens there"
    return f"another process listens there, which  ss -ltnp 'sport = :{port}'  names"
