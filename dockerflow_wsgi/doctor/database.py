"""The steps to a database: DNS, TCP, TLS, protocol, login, query."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from functools import partial
from inspect import getclosurevars, isfunction
from typing import Any

from ..redaction import format_error
from .connecting import connected, refuse_stranger, talk
from .ladder import Address, Ladder, RungError
from .sqlite import climb_sqlite
from .strangers import SSL_REQUEST
from .tls import wrap_tls

_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_NAMES = {"postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB", "mssql": "SQL Server"}
_SOMEWHERE = "its address"
_MUST_ENCRYPT = {"require", "verify-ca", "verify-full"}

# What servers say, and what to do then.
_REMEDIES = (
    ("password authentication failed", "Correct user name and password in the URL"),
    ("no password supplied", "Put the password into the URL"),
    ("access denied", "Correct user name and password in the URL, or grant the user access"),
    ("pg_hba.conf", "Allow this host, user and database in the server's pg_hba.conf"),
    ("not support ssl", "Switch ssl on in the server, or write sslmode=prefer into the URL"),
    ("certificate", "Renew the certificate, or trust its authority (sslrootcert)"),
    ("role ", "Create the role, or correct the user name in the URL"),
    ("database ", "Create the database, or correct its name in the URL"),
    ("unknown database", "Create the database, or correct its name in the URL"),
    ("too many clients", "Close connections, or raise the server's max_connections"),
    ("connection slots", "Close connections, or raise the server's max_connections"),
    ("starting up", "Wait until the server has started"),
    ("shutting down", "Start the server again"),
)


def climb_database(engine: Any, timeout_s: float) -> Ladder | None:
    """Climb to the database of an engine.

    Args:
        engine: A synchronous SQLAlchemy engine.
        timeout_s: How long each step may take, in seconds.

    Returns:
        The ladder; ``None`` if the engine does not tell where its database is.
    """
    url = getattr(engine, "url", None)
    if url is None or hasattr(engine, "sync_engine"):
        return None
    keywords = _keywords(engine)
    backend: str = url.get_backend_name()
    if backend == "sqlite":
        return climb_sqlite(engine, timeout_s) if keywords is not None else None
    address = _address(url, keywords, backend) if keywords is not None else None
    secrets = (url.password, *((keywords or {}).get(name) for name in ("password", "passwd")))
    ladder = Ladder(_NAMES.get(backend, backend), address or _SOMEWHERE, timeout_s, secrets)
    return ladder.climb(partial(_climb, engine=engine, backend=backend, keywords=keywords or {}))


def _climb(ladder: Ladder, engine: Any, backend: str, keywords: Mapping[str, Any]) -> None:
    if backend == "postgresql" and isinstance(ladder.address, Address):
        _meet_postgres(ladder, keywords, ladder.address)
    elif isinstance(ladder.address, Address):
        _meet(ladder)
    pool = engine.pool.recreate()  # connects as the app does, and leaves the app's pool alone
    try:
        log_in = partial(_log_in, ladder, pool)
        connection = ladder.within("login", log_in, "See why it lets nobody in")
        ladder.reached("login", f"as {engine.url.username}" if engine.url.username else "ok")
        ask = partial(_query, ladder, connection)
        ladder.within("query", ask, "See what blocks it: locks, or its disk")
        ladder.reached("query", "SELECT 1 was answered")
    finally:
        pool.dispose()


def _log_in(ladder: Ladder, pool: Any) -> Any:
    try:
        return pool.connect()
    except Exception as error:  # noqa: BLE001 - each driver has its own
        raise RungError("login", ladder.clean(_said(error)), _remedy(error)) from None


def _query(ladder: Ladder, connection: Any) -> None:
    try:
        connection.cursor().execute("SELECT 1")
    except Exception as error:  # noqa: BLE001 - each driver has its own
        raise RungError("query", ladder.clean(_said(error)), _remedy(error)) from None
    finally:
        connection.close()


def _meet(ladder: Ladder) -> None:
    with connected(ladder):
        pass


def _meet_postgres(ladder: Ladder, keywords: Mapping[str, Any], address: Address) -> None:
    """Ask for TLS, as libpq does first, which tells a PostgreSQL from anything else."""
    mode = keywords.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
    with connected(ladder) as connection:
        answer = talk(ladder, connection, SSL_REQUEST)  # one byte, and nothing after it
        if answer not in {b"S", b"N"}:
            refuse_stranger(ladder, answer)
        ladder.reached("protocol", "it is a PostgreSQL")
        if address.path or mode == "disable":
            return
        if answer == b"S":
            wrap_tls(ladder, connection, _context(mode, keywords), address.host).close()
        elif mode in _MUST_ENCRYPT:
            remedy = "Switch ssl on in the server, or write sslmode=prefer into the URL"
            raise RungError("tls", f"sslmode={mode}, and the server speaks no TLS", remedy)


def _context(mode: str, keywords: Mapping[str, Any]) -> ssl.SSLContext:
    authority = keywords.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    cafile = None if authority == "system" else authority
    context = ssl.create_default_context(cafile=cafile)
    context.check_hostname = mode == "verify-full"
    if mode not in {"verify-ca", "verify-full"}:
        context.verify_mode = ssl.CERT_NONE
    return context


def _keywords(engine: Any) -> Mapping[str, Any] | None:
    """Find what the driver is called with: the URL's parts, updated by ``connect_args``.

    SQLAlchemy keeps them in the function alone that it makes for the pool.

    Returns:
        The keywords; ``None`` for a ``creator`` of the app's own, which only itself knows.
    """
    creator = getattr(engine.pool, "_creator", None)
    keywords = getclosurevars(creator).nonlocals.get("cparams") if isfunction(creator) else None
    return keywords if isinstance(keywords, Mapping) else None


def _address(url: Any, keywords: Mapping[str, Any], backend: str) -> Address | None:
    """Find where the database is; ``None`` if it is told otherwise, or is at several hosts."""
    host = str(keywords.get("hostaddr") or keywords.get("host") or url.host or "")
    port = str(keywords.get("port") or url.port or "")
    path = keywords.get("unix_socket") or keywords.get("unix_sock")
    if backend == "postgresql":
        host = host or os.environ.get("PGHOST") or "/var/run/postgresql"
        port = port or os.environ.get("PGPORT") or ""
    port = port or str(_PORTS.get(backend, ""))
    if "," in host or {"dsn", "conninfo", "service"} & keywords.keys():
        return None
    if path or host.startswith("/"):
        file = f"{host}/.s.PGSQL.{port}"
        return Address(path=str(path) if path else file if backend == "postgresql" else host)
    return Address(host, int(port)) if host and port.isdigit() else None


def _said(error: Exception) -> str:
    text = format_error(error)
    for sign in ("FATAL:", "ERROR:"):
        text = text.rpartition(sign)[2]
    return text.strip() or type(error).__name__


def _remedy(error: Exception) -> str:
    text = _said(error).lower()
    return next((remedy for sign, remedy in _REMEDIES if sign in text), "Mend what the server says")
