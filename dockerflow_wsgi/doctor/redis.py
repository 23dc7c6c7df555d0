"""The steps to a Redis: DNS, TCP, TLS, protocol, login, query; by hand, without any client."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any

from .connecting import connected, find_stranger, refuse_stranger, talk
from .ladder import Address, Ladder, RungError
from .strangers import TLS_SERVER, kind_of
from .tls import wrap_tls


def climb_redis(client: Any, timeout_s: float) -> Ladder | None:
    """Climb to the Redis of a client.

    Args:
        client: A client with a ``connection_pool``, as redis-py and its relatives have.
        timeout_s: How long each step may take, in seconds.

    Returns:
        The ladder; ``None`` if the client does not tell where its Redis is.
    """
    pool = getattr(client, "connection_pool", None)
    keywords = getattr(pool, "connection_kwargs", None)
    if not isinstance(keywords, Mapping) or not ({"host", "path"} & keywords.keys()):
        return None
    if keywords.get("path"):
        address = Address(path=keywords["path"])
    else:
        address = Address(keywords["host"], int(keywords.get("port") or 6379))
    user, password = _credentials(keywords)
    ladder = Ladder("Redis", address, timeout_s, (password,))
    context = _context(keywords) if _wants_tls(pool) else None
    database = int(keywords.get("db") or 0)
    return ladder.climb(lambda _: _climb(ladder, address, context, (user, password), database))


def _climb(
    ladder: Ladder,
    address: Address,
    context: ssl.SSLContext | None,
    credentials: tuple[str | None, str | None],
    database: int,
) -> None:
    with connected(ladder) as plain:
        connection = plain if context is None else wrap_tls(ladder, plain, context, address.host)
        with connection:
            hello = talk(ladder, connection, b"PING\r\n\r\n")
            _require_redis(ladder, hello)
            ladder.reached("protocol", "it is a Redis")
            _log_in(ladder, connection, hello, *credentials)
            _query(ladder, connection, database)


def _require_redis(ladder: Ladder, answer: bytes) -> None:
    if answer.startswith((b"+PONG", b"-")):
        return
    if (kind_of(answer) or find_stranger(ladder)) == TLS_SERVER:
        remedy = "Use TLS in the client: rediss:// in place of redis://"
        raise RungError("tls", "it speaks TLS, and the client does not", remedy)
    refuse_stranger(ladder, answer)


def _log_in(
    ladder: Ladder, connection: socket.socket, hello: bytes, user: str | None, password: str | None
) -> None:
    if not password:
        if hello.startswith(b"-NOAUTH"):
            remedy = "Put the password into the client's URL or settings"
            raise RungError("login", "it wants a password, and the client has none", remedy)
        ladder.reached("login", "no password is wanted")
        return
    arguments = ("AUTH", user, password) if user else ("AUTH", password)
    answer = _command(ladder, connection, *arguments)
    if "no password is set" in answer or "without any password" in answer:
        ladder.reached("login", "no password is wanted")  # newer clients are let in with one
        return
    if answer.startswith("-"):
        reason, remedy = _refusal(ladder, answer)
        raise RungError("login", reason, remedy)
    ladder.reached("login", f"as {user or 'default'}")


def _refusal(ladder: Ladder, answer: str) -> tuple[str, str]:
    if answer.startswith("-WRONGPASS") or "invalid password" in answer:
        return (
            "user name or password is wrong",
            "Correct user name and password in the client's URL",
        )
    return f"it answered AUTH with: {ladder.clean(answer[1:])}", "Mend what it says"


def _query(ladder: Ladder, connection: socket.socket, database: int) -> None:
    answer = _command(ladder, connection, "SELECT", str(database)) if database else "+OK"
    if answer.startswith("-"):
        remedy = "Correct the database's number in the URL"
        said = ladder.clean(answer[1:])
        raise RungError("query", f"database {database} cannot be selected: {said}", remedy)
    answer = _command(ladder, connection, "PING")
    if answer != "+PONG":
        remedy = "Mend what it says, in Redis or in the rights of its user"
        raise RungError(
            "query", f"it answered PING with: {ladder.clean(answer.lstrip('-'))}", remedy
        )
    ladder.reached("query", "PING was answered")


def _command(ladder: Ladder, connection: socket.socket, *words: str) -> str:
    encoded = [word.encode() for word in words]
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
    answer = talk(ladder, connection, b"*%d\r\n%s" % (len(parts), b"".join(parts)))
    return answer.decode("utf-8", "replace").strip()


def _credentials(keywords: Mapping[str, Any]) -> tuple[str | None, str | None]:
    provider = keywords.get("credential_provider")
    if provider is None:
        return keywords.get("username"), keywords.get("password")
    given = tuple(provider.get_credentials())
    return (None, given[0]) if len(given) == 1 else (given[0], given[1])


def _wants_tls(pool: Any) -> bool:
    classes = getattr(getattr(pool, "connection_class", None), "__mro__", ())
    return any(one.__name__ == "SSLConnection" for one in classes)


def _context(keywords: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=keywords.get("ssl_ca_certs"),
        capath=keywords.get("ssl_ca_path"),
        cadata=keywords.get("ssl_ca_data"),
    )
    demanded = keywords.get("ssl_cert_reqs", "required")
    verifies = demanded not in {"none", "optional", ssl.CERT_NONE, ssl.CERT_OPTIONAL, None}
    context.check_hostname = verifies and bool(keywords.get("ssl_check_hostname", True))
    if not verifies:
        context.verify_mode = ssl.CERT_NONE
    if keywords.get("ssl_certfile"):
        context.load_cert_chain(keywords["ssl_certfile"], keywords.get("ssl_keyfile"))
    return context
