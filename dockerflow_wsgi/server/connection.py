"""One connection of a prober."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from ..errors import log_exception

if TYPE_CHECKING:
    import socket
    from collections.abc import MutableMapping
    from contextlib import AbstractContextManager
    from socketserver import BaseServer

    from _typeshed.wsgi import WSGIApplication

_IO_TIMEOUT_S = 5.0  # for each wait for the client; probers give up sooner
_MAX_LINE = 65_536  # bytes, as in the standard library

logger = logging.getLogger("dockerflow_wsgi")


class Doorkeeper(Protocol):
    """Decides which connections are served, and by what."""

    def has_spoken(self, request: socket.socket) -> bool:
        """Note that a client has sent its request, and tell whether it is served."""
        raise NotImplementedError

    def app_for(self, path: str) -> AbstractContextManager[WSGIApplication]:
        """Find what answers a path."""
        raise NotImplementedError


class _Response(ServerHandler):
    server_software = "dockerflow-wsgi"
    os_environ: MutableMapping[str, str] = {}  # noqa: RUF012 - the process's stays out of a request's
    request_handler: WSGIRequestHandler

    def log_exception(self, exc_info: Any) -> None:
        """Log what the app raised."""
        error = exc_info[1]
        if not isinstance(error, TimeoutError):
            log_exception("The app raised", error)


class Connection(WSGIRequestHandler):
    """One connection, which is one request: HTTP/1.0, without keep-alive.

    Args:
        request: Its socket.
        client_address: Where the client is.
        server: Who has accepted it.
        doorkeeper: Who is asked before it is served.
    """

    timeout = _IO_TIMEOUT_S
    wbufsize = -1  # one packet for head and body

    def __init__(
        self, request: Any, client_address: Any, server: BaseServer, doorkeeper: Doorkeeper
    ) -> None:
        self._doorkeeper = doorkeeper
        super().__init__(request, client_address, server)  # which serves it

    def handle(self) -> None:
        """Answer the request."""
        if not self._has_request() or not self._doorkeeper.has_spoken(self.connection):
            return
        response = _Response(
            self.rfile,
            self.wfile,  # type: ignore[arg-type]
            self.get_stderr(),
            self.get_environ(),
            multithread=True,
            multiprocess=False,
        )
        response.request_handler = self
        with self._doorkeeper.app_for(self.path.partition("?")[0]) as app:
            response.run(app)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log what wsgiref says; the request's summary tells more."""
        logger.debug(format, *arguments)

    def _has_request(self) -> bool:
        self.raw_requestline = self.rfile.readline(_MAX_LINE + 1)
        if len(self.raw_requestline) > _MAX_LINE:
            self.requestline = self.request_version = self.command = ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return False
        return self.parse_request()
