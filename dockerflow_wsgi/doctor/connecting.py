"""Connections to a service, the steps ``dns`` and ``tcp``, and what is first said on them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from ..redaction import format_error
from .ladder import Address, Ladder, RungError
from .strangers import identify, kind_of

_QUICK_S = 2.0  # after which it is asked what listens, before the wait goes on


@contextmanager
def connected(ladder: Ladder) -> Iterator[socket.socket]:
    """Open a connection; the steps ``dns`` and ``tcp``."""
    address = ladder.address
    if not isinstance(address, Address):
        raise TypeError(address)
    connection = _connect_unix(ladder, address) if address.path else _connect_tcp(ladder, address)
    with connection:
        connection.settimeout(ladder.timeout_s)
        yield connection


def talk(ladder: Ladder, connection: socket.socket, request: bytes) -> bytes:
    """Send a request, and return the first bytes of the answer; the step ``protocol``."""
    quick_s = min(_QUICK_S, ladder.timeout_s / 2)
    for patience_s in (quick_s, ladder.timeout_s - quick_s):
        connection.settimeout(patience_s)
        try:
            connection.sendall(request)
            answer = connection.recv(4096)
        except TimeoutError:
            request = b""
            if stranger := find_stranger(ladder):  # many wait for a line's end that never comes
                _refuse(ladder, stranger)
        except OSError:
            return b""
        else:
            connection.settimeout(ladder.timeout_s)
            return answer
    raise silence(ladder, "protocol", "first request")


def refuse_stranger(ladder: Ladder, answer: bytes) -> NoReturn:
    """Fail because something else listens there."""
    _refuse(ladder, kind_of(answer) or find_stranger(ladder), is_silent=not answer)


def _refuse(ladder: Ladder, stranger: str, *, is_silent: bool = False) -> NoReturn:
    if stranger:
        told = f"{stranger} answers, not {ladder.service}"
    elif is_silent:
        told = f"the connection was closed without an answer: this may be no {ladder.service}"
    else:
        told = f"something answers that is not {ladder.service}"
    raise RungError("protocol", told, f"Correct host and port: they must be {ladder.service}'s")


def _connect_unix(ladder: Ladder, address: Address) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ladder.timeout_s)
    try:
        connection.connect(address.path)
    except FileNotFoundError:
        connection.close()
        reason = "there is no such socket"
        raise RungError("tcp", reason, f"Start {ladder.service}, or correct the path") from None
    except OSError as error:
        connection.close()
        raise _no_connection(ladder, error) from None
    ladder.reached("tcp", "connected to the Unix socket")
    return connection


def _connect_tcp(ladder: Ladder, address: Address) -> socket.socket:
    found = _resolve(ladder, address)
    last: OSError | None = None
    for family, kind, protocol, _, where in found:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(ladder.timeout_s / len(found))
        try:
            connection.connect(where)
        except OSError as error:
            connection.close()
            last = error
        else:
            ladder.reached("tcp", f"connected to {where[0]}")
            return connection
    raise _no_connection(ladder, last)


def _resolve(ladder: Ladder, address: Address) -> list[Any]:
    def get_addresses() -> list[Any]:
        return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)

    if "@" in address.host:
        reason = "the URL's password has an '@' of its own: what follows is taken for the host"
        raise RungError("dns", reason, "Write the '@' as %40, as urllib.parse.quote() does")
    remedy = f"Correct the host name {address.host!r}, or the resolver (/etc/resolv.conf)"
    try:
        found = ladder.within("dns", get_addresses, remedy)
    except (OSError, UnicodeError) as error:
        reason = f"the name {address.host!r} cannot be resolved ({format_error(error)})"
        raise RungError("dns", reason, remedy) from None
    ladder.reached("dns", ", ".join(dict.fromkeys(entry[4][0] for entry in found)))
    return found


def _no_connection(ladder: Ladder, error: OSError | None) -> RungError:
    if isinstance(error, ConnectionRefusedError):
        reason = "connection refused: nothing listens there"
        return RungError("tcp", reason, f"Start {ladder.service}, or correct host and port")
    if isinstance(error, (TimeoutError, BlockingIOError)):
        reason = f"no answer to the connection attempt within {ladder.timeout_s:g} s"
        remedy = "Let it through firewalls and network policies, or see why its host is not up"
        return RungError("tcp", reason, remedy)
    reason = (error and (error.strerror or format_error(error))) or "no address"
    return RungError("tcp", f"no connection: {reason}", "Correct the route, or the address")


def find_stranger(ladder: Ladder) -> str:
    """Find out what listens there, on connections of its own; see `strangers.identify`."""
    again = Ladder(ladder.service, ladder.address, min(ladder.timeout_s, 1.0))
    return identify(partial(connected, again))


def silence(ladder: Ladder, rung: str, request: str) -> RungError:
    """Make the error that there is no answer, though there is a connection."""
    reason = f"it accepts connections, but gave no answer to the {request}"
    remedy = f"See whether {ladder.service} is stopped or overloaded, and restart it"
    return RungError(rung, f"{reason} within {ladder.timeout_s:g} s", remedy)
