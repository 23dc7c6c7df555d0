"""A small HTTP server for probers: few threads, none of them held by whoever is slow.

The standard library's ``wsgiref`` does the protocol: Werkzeug's server ends the process when
its port is taken, writes a line for each request, and starts threads without a bound.
Imported only where something is served.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from functools import partial
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIServer

from ..endpoints import LBHEARTBEAT_PATH, error_response
from ..errors import log_exception
from .connection import Connection
from .forks import listeners, opening

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_THREADS = 32
MAX_SLOW_THREADS = 24  # for all but /__lbheartbeat__, which finds a thread whatever hangs

_IDLE_S = 0.1  # after which a client that has not asked may be hung up on
_POLL_S = 0.01
_STOP_GRACE_S = 5.0  # for the answers under way
_ACCEPT_PAUSE_S = 0.1  # when there are no more file descriptors

logger = logging.getLogger("dockerflow_wsgi")


class Listener(WSGIServer):
    """Serves a WSGI app from daemon threads of this process, and of no child that it forks.

    Args:
        host: The address to listen on.
        port: The port; 0 for any free one.
        app: The app.

    Raises:
        OSError: The address cannot be listened on.
    """

    request_queue_size = 128  # socketserver's 5 would make a burst of probers wait for seconds
    allow_reuse_port = False  # with it, two workers would share a port unnoticed

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.server_port = port
        self._free = threading.BoundedSemaphore(MAX_THREADS)
        self._free_for_slow = threading.BoundedSemaphore(MAX_SLOW_THREADS)
        self._threads: dict[socket.socket, threading.Thread] = {}
        self._is_stopping = False
        self._idle: dict[socket.socket, float] = {}  # since when, in the order of arrival
        with opening:  # so that no child gets a socket that is not among the listeners yet
            serve = partial(Connection, doorkeeper=self)
            super().__init__((host, port), serve, bind_and_activate=False)
            listeners.add(self)
        self.set_app(app)
        try:
            self.server_bind()
            self.server_activate()
            threading.Thread(
                target=self.serve_forever, name="dockerflow server", daemon=True
            ).start()
        except BaseException:
            self._close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it listens, in this process."""
        return self in listeners

    def stop(self) -> None:
        """Stop listening, and wait for the answers under way, for some seconds at most."""
        if self._is_stopping or not self.is_open:
            return
        self._is_stopping = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes serve_forever() at once
        self.shutdown()
        self._close()
        while self._hang_up_on_the_longest_idle(0.0):
            pass
        give_up_s = time.monotonic() + _STOP_GRACE_S
        for thread in list(self._threads.values()):
            if thread is not threading.current_thread():
                thread.join(max(0.0, give_up_s - time.monotonic()))

    def abandon(self) -> None:
        """Close what a fork has copied; no shutdown(), which the parent's sockets would feel."""
        for inherited in [self.socket, *self._threads]:
            with contextlib.suppress(OSError):
                os.close(inherited.detach())  # close() would wait for the handler's files

    def server_bind(self) -> None:
        """Bind; without the base's look-up of the host's name, which may take seconds."""
        try:
            TCPServer.server_bind(self)
        except (TypeError, ValueError) as error:
            raise OSError(str(error)) from error  # no name of any host, such as "a..b"
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError:
            if not self._is_stopping:
                time.sleep(_ACCEPT_PAUSE_S)  # the base would try again at once, and for ever
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread; if none is free, that of the longest idle client."""
        while not self._free.acquire(timeout=_POLL_S):
            if self._is_stopping:
                self.shutdown_request(request)
                return
            self._hang_up_on_the_longest_idle(_IDLE_S)
        thread = threading.Thread(
            target=self._serve,
            args=(request, client_address),
            name="dockerflow probe",
            daemon=True,
        )
        self._idle[request] = time.monotonic()
        self._threads[request] = thread
        try:
            thread.start()
        except BaseException:
            self._forget(request)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log what went wrong with a connection; clients that are gone are no fault."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            logger.debug("A prober was not answered: %s", error)
        elif error is not None:
            log_exception("A prober was not answered", error)

    def has_spoken(self, request: socket.socket) -> bool:
        """Note that a client has sent its request.

        Args:
            request: The connection.

        Returns:
            Whether it is served; no, if its thread was needed meanwhile.
        """
        return self._idle.pop(request, None) is not None

    @contextlib.contextmanager
    def app_for(self, path: str) -> Iterator[WSGIApplication]:
        """Find what answers, within the number of threads that may be slow.

        Args:
            path: The request's path.

        Yields:
            The app; or one that says that too many are asking.
        """
        if path == LBHEARTBEAT_PATH:
            yield self.get_app()  # type: ignore[misc]
        elif self._free_for_slow.acquire(blocking=False):
            try:
                yield self.get_app()  # type: ignore[misc]
            finally:
                self._free_for_slow.release()
        else:
            yield _too_many

    def _close(self) -> None:
        with opening:
            self.server_close()
            listeners.discard(self)

    def _serve(self, request: socket.socket, client_address: object) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - handle_error() logs it
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        self._idle.pop(request, None)
        self._threads.pop(request, None)
        self._free.release()

    def _hang_up_on_the_longest_idle(self, at_least_s: float) -> bool:
        idle_since_s = time.monotonic() - at_least_s
        for request, since_s in list(self._idle.items()):
            if since_s <= idle_since_s and self._idle.pop(request, None) is not None:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)  # its thread reads the end
                return True
        return False


def _too_many(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    text = f"{MAX_SLOW_THREADS} requests are being answered: ask less often"
    busy = error_response(503, text, ("Retry-After", "1"))
    start_response(busy.status, list(busy.headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [busy.body]
