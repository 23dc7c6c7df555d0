"""`serve_in_background` serves the endpoints of processes without HTTP.

Use it in RQ and Celery workers, schedulers and similar processes, not below a WSGI server.

One thread receives the requests of all clients. Each complete request gets a thread, in which
``wsgiref`` parses it. Other servers do not suit probers: Werkzeug's starts a thread for each silent
client, without a limit, and in cheroot 10 silent clients block all others for 10 s.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import threading
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler

from werkzeug.exceptions import NotFound

from .checks import CheckRegistry
from .endpoints import LBHEARTBEAT_PATH, error_response
from .errors import ConfigurationError, ListenError, log_exception, log_redacted
from .find_middleware import find_middleware
from .middleware import DockerflowMiddleware
from .settings import read_port

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from .middleware import MiddlewareKeywords

DEFAULT_HOST = "0.0.0.0"  # noqa: S104 - probers are on other machines
MAX_THREADS, MAX_SLOW_THREADS = 32, 24  # the slow ones serve all paths except /__lbheartbeat__
MAX_WAITING = 128  # clients without a complete request; one more replaces the oldest

_MAX_REQUEST = 65_536  # bytes
_IO_TIMEOUT_S = 5.0  # to receive a request, to send a response, and to complete responses in stop()
_TIMED_OUT = b"HTTP/1.0 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n"

logger = logging.getLogger("dockerflow_wsgi")
fork_lock = threading.RLock()  # forks wait for it; reentrant, because a signal handler may fork
_servers: set[BackgroundServer] = set()


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

    If the port is taken, the logger ``dockerflow_wsgi`` logs an error, and the process continues.
    A child that is forked later neither serves nor holds the port. To have endpoints, the child
    calls this function with another port.

    Args:
        registry: The checks, a wrapped app, or a Flask extension.
        port: The port; 0 for any free port. By default ``$PORT``, or 8000 if it is not set.
        host: The address to listen on; by default all IPv4 addresses, ``"::"`` for IPv6 too.
        **options: The options of `DockerflowMiddleware`, such as ``redis=client``; not with an app.

    Returns:
        The server, with its ``port`` and ``stop()``. As a context manager, it stops at the end. The
        port is ``None`` if the server cannot listen on the address, or if Dockerflow is disabled.

    Raises:
        ConfigurationError: The port or a setting is wrong, or the app has no middleware.
        TypeError: ``registry`` has a wrong type, or there are options with an app.
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
    """Return the middleware that `serve_in_background` serves, with the same arguments."""
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
    """Start a server; raise a `ListenError` with the reason and the remedy if that fails."""
    try:
        server.start(host, port)
    except RuntimeError as error:
        raise ListenError(f"cannot start a thread: {error}. Raise the limit (ulimit -u)") from error
    except (OSError, ValueError) as error:
        reason = f"cannot listen at {host} port {port}: {error}. Use an address of this machine"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            reason = (
                f"port {port} is taken;  ss -ltnp 'sport = :{port}'  shows by which process. Give "
                "each process its own port (PORT=..., port=...), or any free one (port=0)"
            )
        raise ListenError(reason) from error
    logger.info("Dockerflow's endpoints are at %s port %s", host, server.port)


class BackgroundServer(contextlib.AbstractContextManager["BackgroundServer"]):
    """Serves the endpoints of a middleware until `stop` or the end of the process.

    Attributes:
        port: The port; ``None`` while it does not serve: after `stop`, and in a forked child.
    """

    def __init__(self, middleware: DockerflowMiddleware) -> None:
        self.port: int | None = None
        self._middleware = middleware
        self._is_stopping = False
        self._free_threads = threading.BoundedSemaphore(MAX_THREADS)
        self._free_slow_threads = threading.BoundedSemaphore(MAX_SLOW_THREADS)
        self._waiting: dict[socket.socket, tuple[float, bytearray]] = {}  # the oldest first
        self._threads: dict[socket.socket, threading.Thread] = {}

    def start(self, host: str, port: int) -> None:
        """Listen on an address; raise ``OSError``, ``RuntimeError`` or ``ValueError`` on errors."""
        with fork_lock:  # so that a child knows each socket that it must close
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
            self._socket = socket.create_server(address, family=family, dualstack_ipv6=both)
            self._socket.listen(MAX_WAITING)
            self._socket.setblocking(False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._socket, selectors.EVENT_READ)
            _servers.add(self)
        self.port = self._socket.getsockname()[1]
        self.base_environ = {"SERVER_NAME": host, "SERVER_PORT": str(self.port), "SCRIPT_NAME": ""}
        self._loop = threading.Thread(target=self._run, name="dockerflow server", daemon=True)
        try:
            self._loop.start()
        except BaseException:
            self._close()
            raise

    def stop(self) -> None:
        """Stop listening, and wait up to 5 seconds for the responses in progress."""
        if self.port is None or self._is_stopping:
            return
        self._is_stopping = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # on Linux, this wakes the loop
        deadline_s = time.monotonic() + _IO_TIMEOUT_S
        for thread in [self._loop, *self._threads.values()]:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def close_after_fork(self) -> None:
        """Close the sockets that a forked child has inherited, without ending the connections."""
        self.port = None
        self._selector.close()
        for inherited in (self._socket, *self._waiting, *self._threads):
            with contextlib.suppress(OSError):
                os.close(inherited.detach())

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._is_stopping:
            for key, _ in self._selector.select(timeout=0.5):
                if key.data is None:
                    self._accept()
                elif key.data in self._waiting:
                    self._receive(key.data)
            for connection, (deadline_s, _) in list(self._waiting.items()):
                if deadline_s < time.monotonic():
                    self._drop(connection, _TIMED_OUT)
        self._close()

    def _close(self) -> None:
        with fork_lock:
            _servers.discard(self)
            self.port = None
            for connection in list(self._waiting):
                self._drop(connection)
            self._selector.close()
            self._socket.close()

    def _accept(self) -> None:
        try:
            with fork_lock:
                connection, _ = self._socket.accept()
                connection.setblocking(False)
                self._selector.register(connection, selectors.EVENT_READ, data=connection)
                self._waiting[connection] = (time.monotonic() + _IO_TIMEOUT_S, bytearray())
        except OSError as error:
            if not self._is_stopping:
                logger.debug("Cannot accept a prober: %s", error)
                time.sleep(0.1)  # wait for free file descriptors
            return
        if len(self._waiting) > MAX_WAITING:
            self._drop(next(iter(self._waiting)), _TIMED_OUT)

    def _receive(self, connection: socket.socket) -> None:
        chunk, received = b"", self._waiting[connection][1]
        with contextlib.suppress(OSError):
            chunk = connection.recv(_MAX_REQUEST)
        received += chunk
        if not received or len(received) > _MAX_REQUEST:
            self._drop(connection, _TOO_LARGE if received else b"")
        elif not chunk or b"\r\n\r\n" in received or b"\n\n" in received:
            self._start_response(connection, bytes(received))

    def _start_response(self, connection: socket.socket, received: bytes) -> None:
        self._free_threads.acquire()  # soon: at most MAX_SLOW_THREADS take long
        thread = threading.Thread(
            target=self._respond, args=(connection, received), name="dockerflow probe", daemon=True
        )
        self._threads[connection] = thread
        self._selector.unregister(connection)
        del self._waiting[connection]
        try:
            thread.start()
        except RuntimeError as error:
            logger.debug("Cannot start a thread for a prober: %s", error)
            self._end_response(connection)

    def _respond(self, connection: socket.socket, received: bytes) -> None:
        try:
            request = _Request((received, self._call), connection.getpeername(), self)  # type: ignore[arg-type]
            connection.settimeout(_IO_TIMEOUT_S)
            connection.sendall(request.response)
        except OSError as error:
            logger.debug("A prober disconnected: %s", error)
        finally:
            self._end_response(connection)

    def _end_response(self, connection: socket.socket) -> None:
        _hang_up(connection)
        self._threads.pop(connection, None)
        self._free_threads.release()

    def _drop(self, connection: socket.socket, response: bytes = b"") -> None:
        self._selector.unregister(connection)
        _hang_up(connection, response)
        del self._waiting[connection]

    def _call(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"].removesuffix("/")
        if path == LBHEARTBEAT_PATH:
            return self._middleware(environ, start_response)
        if path not in self._middleware.endpoints:
            paths = ", ".join(self._middleware.endpoints)
            response = error_response(404, f"{path or '/'} is not served here, only {paths}")
        elif not self._free_slow_threads.acquire(blocking=False):
            response = error_response(503, "too many requests in progress", ("Retry-After", "1"))
        else:
            try:
                return self._middleware(environ, start_response)
            finally:
                self._free_slow_threads.release()
        start_response(response.status, response.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]


class _Request(WSGIRequestHandler):
    """Handles one HTTP/1.0 request: parses the received bytes and writes ``response``."""

    def setup(self) -> None:
        received, self._app = self.request
        self.rfile, self.wfile = BytesIO(received), BytesIO()

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if not self.parse_request():
            return  # the error response is sent
        if self.request_version == "HTTP/0.9":  # newer Pythons do not parse its headers
            self.request_version = "HTTP/1.0"
            self.send_error(400, "The request line has no HTTP version")
            return
        stdout: Any = self.wfile
        _Response(self.rfile, stdout, self.get_stderr(), self.get_environ()).run(self._app)

    def finish(self) -> None:
        self.response = self.wfile.getvalue()  # type: ignore[attr-defined]

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        logger.debug(format, *arguments)


class _Response(SimpleHandler):
    server_software = "dockerflow-wsgi"
    os_environ: MutableMapping[str, str] = {}  # noqa: RUF012 - the base's attribute is shared, too

    def log_exception(self, exc_info: Any) -> None:
        log_exception("An endpoint raised an exception", exc_info[1])


def _hang_up(connection: socket.socket, response: bytes = b"") -> None:
    with contextlib.suppress(OSError), connection:
        connection.setblocking(False)
        connection.send(response)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(_MAX_REQUEST)  # close() resets the connection if bytes are unread


def _close_in_child() -> None:
    fork_lock.release()
    for server in _servers:
        server.close_after_fork()
    _servers.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=fork_lock.acquire, after_in_parent=fork_lock.release, after_in_child=_close_in_child
    )
