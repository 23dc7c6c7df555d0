"""The steps of the checks, and the diagnosis of a database or a Redis that fails.

DNS and TCP are tried by sockets and TLS by `ssl`; then the driver's own error is the reason.
"""

from __future__ import annotations

import inspect
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from werkzeug.exceptions import NotFound
from werkzeug.test import Client

from .. import checks
from ..checks import CheckMessage, CheckRegistry, CheckResult, HeartbeatReport
from ..endpoints import HEARTBEAT_PATH
from ..middleware import DockerflowMiddleware
from ..redaction import MASK, format_error
from .diagnosis import (
    OverdueError,
    StepError,
    StepResult,
    call_within,
    failed,
    lines_of_coroutine,
    lines_of_thread,
    lines_of_traceback,
    passed,
    place_of,
    skipped,
    warned,
)

HTTP_SERVER, TLS_SERVER = "an HTTP server", "a TLS server"

_BACKENDS = {  # the name, and the default port
    "postgresql": ("PostgreSQL", "5432"),
    "mysql": ("MySQL", "3306"),
    "mariadb": ("MariaDB", "3306"),
    "redis": ("Redis", "6379"),
}
_IDENTIFY_S = 1.0
_REMEDIES = {
    checks.ERROR_CHECK_RAISED: "Fix the reported problem, or return it as a message",
    checks.ERROR_CHECK_TIMED_OUT: "Set a timeout below check_timeout for what the check waits for",
    checks.ERROR_CHECK_RETURNED_NO_MESSAGE: "Return a list of messages from the check",
    checks.ERROR_UNUSABLE_MIGRATIONS: "Correct the Alembic config, or its scripts",
    checks.WARNING_UNAPPLIED_MIGRATION: "Apply them: alembic upgrade head, or flask db upgrade",
}
_BUILT_IN_CHECKS = {
    *(checks.check_database_connected, checks.check_migrations_applied),
    checks.check_redis_connected,
}
_LOGIN = "Correct user name and password in the URL"
_NO_LOGIN = "Put the password into the URL"
_TRUST = "Renew the certificate, or trust its authority (SSL_CERT_FILE, sslrootcert)"

# What the drivers report: the step that failed, and the remedy.
_DRIVER_ERRORS = {
    "certificate": ("TLS", _TRUST),
    "not support ssl": ("TLS", "Enable TLS in the server, or write sslmode=prefer into the URL"),
    "password authentication failed|wrongpass|invalid (username-)?password": ("login", _LOGIN),
    "access denied|no password is set|without any password": ("login", _LOGIN),
    "no password supplied|already authenticated|authentication required": ("login", _NO_LOGIN),
    r"pg_hba\.conf": ("login", "Allow this host, user and database in pg_hba.conf"),
    "role .* does not exist": ("login", "Create the role, or correct the user name in the URL"),
    "database .* does not exist|unknown database": ("login", "Create it, or correct its name"),
    "too many clients|connection slots": ("login", "Close some, or raise max_connections"),
    "starting up": ("login", "Wait until the server has started"),
    "shutting down": ("login", "Start the server again"),
    "db index": ("query", "Correct the number of the database in the URL"),
    "noperm": ("query", "Give the user of the URL the permission"),
    "directory of the sqlite file": ("file", "Create the directory, or correct the path"),
    "sqlite file .* does not exist": ("file", "Apply the migrations, or correct the path"),
    "unable to open database file": ("file", "Let the user of the app own file and directory"),
}
_TCP_ERRORS = (  # the first one that fits: the reason, and the remedy
    (
        (TimeoutError, BlockingIOError),
        "no answer to the connection attempt within {timeout_s:g} s",
        "Allow it in firewalls and network policies, or check that the host is up",
    ),
    (
        ConnectionRefusedError,
        "connection refused: nothing listens there",
        "Start {kind}, or correct host and port",
    ),
    (FileNotFoundError, "there is no such socket", "Start {kind}, or correct the path"),
    (OSError, "no connection: {error}", "Correct the route, or the address"),
)
_WRONG_SERVICE = re.compile(
    r"protocol error|but received|closed by server|unexpected eof|reset by peer|wrong.version"
    r"|record.layer|invalid response",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Service:
    """A backing service of a check."""

    kind: str  # what is expected there, such as PostgreSQL
    address: tuple[str, int] | tuple[()] = ()  # empty if unknown
    path: str = ""  # of a Unix socket
    has_tls: bool = False  # the client starts with TLS
    steps: list[tuple[str, str]] = field(default_factory=list)  # that passed, with a text

    def __str__(self) -> str:
        if not self.address:
            return self.path
        host, port = self.address
        host = f"{MASK}@{host.rpartition('@')[2]}" if "@" in host else host  # part of a password
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect(service: Service, timeout_s: float) -> socket.socket:
    """Connect to a service: the steps ``dns`` and ``tcp``."""
    host, port = service.address or ("", 0)
    if not service.path:
        service.steps.append(("dns", _resolve(host, port, timeout_s)))
    try:
        if service.path:
            connection = _connect_to_unix_socket(service.path, timeout_s)
        else:
            connection = socket.create_connection((host, port), timeout_s)
    except OSError as error:
        found = next(one for one in _TCP_ERRORS if isinstance(error, one[0]))
        reason = found[1].format(timeout_s=timeout_s, error=error.strerror or format_error(error))
        raise StepError("TCP", reason, found[2].format(kind=service.kind)) from None
    service.steps.append(("tcp", f"connected to {service.path or connection.getpeername()[0]}"))
    return connection


def _connect_to_unix_socket(path: str, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)  # type: ignore[attr-defined,unused-ignore]
    connection.settimeout(timeout_s)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _resolve(host: str, port: int, timeout_s: float) -> str:
    if "@" in host:
        reason = "the URL's password contains '@': the text after it is taken for the host"
        raise StepError("DNS", reason, "Write the '@' as %40, as urllib.parse.quote() does")
    try:
        resolve = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = call_within(resolve, timeout_s)
    except (OverdueError, OSError, UnicodeError) as error:
        reason = f"the name {host!r} cannot be resolved ({format_error(error)})"
        remedy = f"Correct the host name {host!r}, or the resolver (/etc/resolv.conf)"
        raise StepError("DNS", reason, remedy) from None
    return ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))


def start_tls(
    service: Service, connection: socket.socket, *, verify: bool = False
) -> ssl.SSLSocket:
    """Start TLS on a connection: the step ``tls``."""
    context = ssl.create_default_context()
    if not verify:  # the driver verifies the certificate, by its own settings
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = service.address[0] if service.address else None
    try:
        wrapped = context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        reason = f"the certificate is not trusted: {error.verify_message or format_error(error)}"
        raise StepError("TLS", reason, _TRUST) from None
    except OSError as error:
        text = format_error(error)
        if _WRONG_SERVICE.search(text) or isinstance(error, TimeoutError):
            text = f"{service.kind} does not speak TLS there"
        remedy = f"Enable TLS in {service.kind}, or disable it in the URL"
        raise StepError("TLS", f"the TLS handshake failed: {text}", remedy) from None
    service.steps.append(("tls", wrapped.version() or "ok"))
    return wrapped


def identify(service: Service) -> str:
    """Find out what listens instead: a TLS or an HTTP server; or the first line that it sends."""
    other = replace(service, steps=[])
    with suppress(StepError), connect(other, _IDENTIFY_S) as connection:
        start_tls(other, connection).close()
        return TLS_SERVER
    line = ""
    with suppress(StepError, OSError), connect(other, _IDENTIFY_S) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        line = connection.recv(40).decode("ascii", "replace").partition("\n")[0].strip()
    if line.startswith("HTTP/"):
        return HTTP_SERVER
    is_redis = service.kind == "Redis" and line.startswith(("+", "-"))
    return f"something else ({line!r})" if line.isprintable() and line and not is_redis else ""


def diagnose(service: Service, text: str, timeout_s: float, *, is_overdue: bool) -> None:
    """Raise a `StepError` for the step to a service that is the reason for a check's text."""
    is_known = bool(service.address or service.path)
    if is_known:
        with connect(service, timeout_s) as connection:
            if service.has_tls:
                start_tls(service, connection).close()
    if error := driver_error(text):
        raise error
    is_wrong = _WRONG_SERVICE.search(text) is not None
    is_silent = is_overdue or re.search("timed? ?out", text.lower()) is not None
    if is_known and (is_wrong or is_silent):
        _diagnose_protocol(service, text, timeout_s, is_wrong=is_wrong)


def _diagnose_protocol(service: Service, text: str, timeout_s: float, *, is_wrong: bool) -> None:
    other = identify(service)
    if other == TLS_SERVER and service.kind == "Redis" and not service.has_tls:
        remedy = "Use TLS in the client: rediss:// instead of redis://"
        raise StepError("TLS", "it speaks TLS, and the client does not", remedy)
    if other or is_wrong:
        remedy = f"Correct host and port: they must be those of {service.kind}"
        reason = f"{other or f'something else ({text})'} answers, not {service.kind}"
        raise StepError("protocol", reason, remedy)
    reason = f"it accepts connections, but did not answer within {timeout_s:g} s"
    remedy = f"Check whether {service.kind} is stopped or overloaded, and restart it"
    raise StepError("protocol", reason, remedy)


def driver_error(text: str) -> StepError | None:
    """Return what a driver's text means; ``None`` if that is not known."""
    for pattern, (step, remedy) in _DRIVER_ERRORS.items():
        if re.search(pattern, text, re.IGNORECASE):
            for mark in ("FATAL:", "ERROR:"):  # PostgreSQL; before it is the address
                text = text.rpartition(mark)[2].strip()
            return StepError(step, text, remedy)
    return None


def is_built_in(check: Callable[..., Any]) -> bool:
    """Return whether a check is a built-in one, with its argument."""
    return isinstance(check, partial) and check.func in _BUILT_IN_CHECKS


def services_of(check: Callable[..., Any]) -> list[Service]:
    """Return the services of a built-in check, to be called in its context.

    Those of a database are appended when the engine connects.
    """
    services: list[Service] = []
    if not (isinstance(check, partial) and is_built_in(check)):
        return services
    given = database = check.args[0]
    if check.func is checks.check_redis_connected:
        pool = getattr(given, "connection_pool", None)
        keywords = getattr(pool, "connection_kwargs", None) or {}
        classes = getattr(getattr(pool, "connection_class", None), "__mro__", ())
        has_tls = any(one.__name__ == "SSLConnection" for one in classes)
        if {"host", "path"} & keywords.keys():  # else a cluster or a sentinel
            services.append(_service_of("redis", keywords, has_tls=has_tls))
        return services
    if check.func is checks.check_migrations_applied:
        database = check.keywords.get("db") or getattr(given, "db", None)  # of Flask-Migrate
    engines = getattr(database, "engines", None) or {"": getattr(database, "engine", database)}
    for engine in engines.values():
        dialect = getattr(engine, "dialect", None)
        if dialect is not None and not dialect.is_async and dialect.name != "sqlite":
            _note_connection(engine, services)
    return services


def _note_connection(engine: Any, services: list[Service]) -> None:
    """Append the service that an engine connects to next, ``connect_args`` included."""
    from sqlalchemy import event

    def note(dialect: Any, _record: object, _arguments: object, keywords: Any) -> None:
        services.append(_service_of(dialect.name, keywords))

    event.listen(engine, "do_connect", note, once=True)


def _service_of(backend: str, keywords: Mapping[str, Any], *, has_tls: bool = False) -> Service:
    """Make a service of the keywords that a driver connects with."""
    kind, default_port = _BACKENDS.get(backend, (backend, ""))
    host = str(keywords.get("hostaddr") or keywords.get("host") or "")
    port = str(keywords.get("port") or "")
    if backend == "postgresql":
        host = host or os.environ.get("PGHOST") or "/var/run/postgresql"
        port = port or os.environ.get("PGPORT") or ""
    port = port or default_port
    if "," in host + port or {"dsn", "conninfo", "service"} & keywords.keys():
        return Service(kind)  # several hosts, or known to the driver only
    path = str(keywords.get("path") or keywords.get("unix_socket") or "")
    if host.startswith("/"):
        path = f"{host}/.s.PGSQL.{port}"
    is_known = not path and host and port.isdigit()
    return Service(kind, (host, int(port)) if is_known else (), path, has_tls)


class CheckSteps:
    """The steps of the checks: one heartbeat of a middleware with the same settings and checks.

    Neither the hooks of the app nor its signals are called.
    """

    def __init__(
        self, middleware: DockerflowMiddleware, timeout_s: float, skip: Collection[str]
    ) -> None:
        settings = middleware.settings
        self.middleware = middleware
        self.names = () if "checks" in skip else middleware.registry.names
        self.timeout_s = min(settings.check_timeout or timeout_s, timeout_s)
        self._step_s = timeout_s
        self._functions = middleware.registry.functions
        self._services: dict[str, list[Service]] = {}
        self._threads: dict[str, int] = {}
        self._coroutines: dict[str, Any] = {}
        self._reports: list[HeartbeatReport] = []
        registry = CheckRegistry()
        for name in self.names:
            if name not in skip and f"check:{name}" not in skip:
                registry.check(partial(self._call, name), name)
        self._heartbeat = DockerflowMiddleware(
            NotFound(),
            registry=registry,
            on_heartbeat=self._reports.append,
            check_context=middleware.check_context or nullcontext,
            check_timeout=self.timeout_s,
            heartbeat_ttl=0,
            silenced_checks=settings.silenced_checks,
            heartbeat_failed_level=settings.heartbeat_failed_level,
        )

    def run(self) -> HeartbeatReport:
        """Run the checks once, for `results` too; a check that still runs is joined."""
        Client(self._heartbeat).get(HEARTBEAT_PATH)
        return self._reports[-1]

    def results(self) -> Iterator[StepResult]:
        """Yield the result of each check, in the order of registration."""
        report = self._reports.pop() if self._reports else self.run()
        self._reports.clear()
        results = {result.name: result for result in report.results}
        for name in self.names:
            found = results.get(name)
            step = skipped() if found is None else self._step_result(found)
            duration_s = found.duration_s if found else 0.0
            yield replace(step, name=f"check:{name}", duration_s=duration_s)

    def _call(self, name: str) -> Any:
        """Call a check, and note where it runs and what it connects to."""
        self._threads[name] = threading.get_ident()
        self._services[name] = services_of(self._functions[name])
        returned = self._functions[name]()
        if inspect.iscoroutine(returned):
            self._coroutines[name] = returned
        return returned

    def _step_result(self, found: CheckResult) -> StepResult:
        failed_level = self.middleware.settings.heartbeat_failed_level
        messages = [f"{message.id or found.name}: {message.msg}" for message in found.messages]
        details = {"level": checks.level_to_text(found.level), "messages": messages}
        first = "".join(f": {text}" for text in messages[:1])
        worst = max(found.messages, key=lambda message: message.level, default=None)
        if worst is not None and found.level >= min(checks.WARNING, failed_level):
            text, remedy = self._reason(found, worst)
            make = failed if found.level >= failed_level else warned
            return make(text, remedy, **details)
        if worst is not None and worst.id == checks.INFO_CANT_CHECK_MIGRATIONS:
            return replace(skipped(f"could not ask{first}"), details=details)
        return passed(f"ok in {found.duration_s:.2f} s{first}", **details)

    def _reason(self, found: CheckResult, worst: CheckMessage) -> tuple[str, str]:
        """Return the reason for a check's worst message, and the remedy."""
        is_overdue = found.duration_s >= 0.9 * self.timeout_s
        for service in self._services.get(found.name, []):
            try:
                diagnose(service, worst.msg, self._step_s, is_overdue=is_overdue)
            except StepError as error:
                where = f"{service.kind} at {service}" if str(service) else service.kind
                return f"{where}: {error.step}: {error.reason}", error.remedy
        remedy = _REMEDIES.get(worst.id or "", "Fix the reported problem")
        known = driver_error(worst.msg) if is_built_in(self._functions[found.name]) else None
        remedy = worst.hint or (known.remedy if known else remedy)
        if worst.id == checks.ERROR_CHECK_TIMED_OUT:
            lines = lines_of_coroutine(self._coroutines.get(found.name))
            lines = lines or lines_of_thread(self._threads.get(found.name))
            where = f"; it was at {lines[-1]}" if lines else ""
            return f"{worst.id}: not done after {self.timeout_s:g} s{where}", remedy
        place = place_of(lines_of_traceback(found.traceback or ""))
        text = f"{worst.id or found.name}: {worst.msg}"
        return f"{place}: {text}" if place else text, remedy
