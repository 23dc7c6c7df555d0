"""The steps of the checks, and the diagnosis of a database or a Redis that fails.

The diagnosis has DNS and TCP by sockets and TLS by `ssl`, then the error of the driver itself.
"""

from __future__ import annotations

import http.client
import inspect
import os
import re
import shlex
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from werkzeug.test import Client

from ..checks import (
    ERROR_CHECK_RAISED,
    ERROR_CHECK_RETURNED_NO_MESSAGE,
    ERROR_CHECK_TIMED_OUT,
    ERROR_UNUSABLE_MIGRATIONS,
    INFO_CANT_CHECK_MIGRATIONS,
    WARNING,
    WARNING_UNAPPLIED_MIGRATION,
    CheckMessage,
    CheckRegistry,
    CheckResult,
    Error,
    HeartbeatReport,
    check_database_connected,
    check_migrations_applied,
    check_redis_connected,
    level_to_text,
)
from ..endpoints import HEARTBEAT_PATH
from ..middleware import DockerflowMiddleware
from ..redaction import MASK, format_error, redact
from .diagnosis import (
    OverdueError,
    Send,
    StepResult,
    call_within,
    failed,
    lines_of_coroutine,
    lines_of_thread,
    passed,
    place_in_traceback,
    shown_path,
    skipped,
    warned,
)

_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_NAMES = {"postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB", "mssql": "SQL Server"}
_LABELS = {"dns": "DNS", "tcp": "TCP", "tls": "TLS"}
_REMEDIES = {
    ERROR_CHECK_RAISED: "Fix the reported problem, or return it as a message",
    ERROR_CHECK_TIMED_OUT: "Set a timeout below check_timeout for what the check waits for",
    ERROR_CHECK_RETURNED_NO_MESSAGE: "Return a list of messages from the check",
    ERROR_UNUSABLE_MIGRATIONS: "Correct the Alembic config, or its scripts",
    INFO_CANT_CHECK_MIGRATIONS: "Fix the database first",
}
_IDENTIFY_S = 1.0
TLS_SERVER = "a TLS server"

_LOGIN = "Correct user name and password in the URL"
_TRUST = "Renew the certificate, or trust its authority (SSL_CERT_FILE, sslrootcert)"
_MANY = "Close connections, or raise the server's max_connections"

# What the drivers report: the step that failed, and the remedy.
_DRIVER_ERRORS = {
    "certificate": ("tls", _TRUST),
    "not support ssl": ("tls", "Enable TLS in the server, or write sslmode=prefer into the URL"),
    "password authentication failed|wrongpass|invalid (username-)?password": ("login", _LOGIN),
    "access denied|no password is set|without any password": ("login", _LOGIN),
    "no password supplied|noauth|client already authenticated|authentication required": (
        *("login", "Put the password into the URL"),
    ),
    r"pg_hba\.conf": ("login", "Allow this host, user and database in pg_hba.conf"),
    "role .* does not exist": ("login", "Create the role, or correct the user name in the URL"),
    "database .* does not exist|unknown database": (
        *("login", "Create the database, or correct its name in the URL"),
    ),
    "too many clients|connection slots": ("login", _MANY),
    "starting up": ("login", "Wait until the server has started"),
    "shutting down": ("login", "Start the server again"),
    "db index": ("query", "Correct the number of the database in the URL"),
    "noperm": ("query", "Give the user of the URL the permission"),
}
_WRONG_SERVICE = re.compile(
    r"protocol error|but received|closed by server|unexpected eof|reset by peer|wrong.version"
    r"|record.layer|invalid response",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Service:
    """A backing service of a check.

    Attributes:
        kind: What is expected there, such as ``PostgreSQL``.
        address: A host and a port; empty if unknown.
        path: The path of a Unix socket.
        has_tls: Whether the client starts with TLS.
        password: What must not be shown.
        steps: The steps that passed, with a text.
    """

    kind: str
    address: tuple[str, int] | tuple[()] = ()
    path: str = ""
    has_tls: bool = False
    password: str = ""
    steps: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.address:
            return self.path or "its address"
        host, port = self.address
        host = f"{MASK}@{host.rpartition('@')[2]}" if "@" in host else host  # part of a password
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ServiceError(Exception):
    """A step to a service failed: its name, the reason and the remedy."""

    def __init__(self, step: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.step, self.reason, self.remedy = step, reason, remedy


def connect(service: Service, timeout_s: float) -> socket.socket:
    """Connect to a service: the steps ``dns`` and ``tcp``."""
    if service.path:
        return _connect_to(service, [(socket.AF_UNIX, service.path)], timeout_s)  # type: ignore[attr-defined,unused-ignore]
    host, port = service.address or ("", 0)
    if "@" in host:
        reason = "the URL's password contains '@': the text after it is taken for the host"
        raise ServiceError("dns", reason, "Write the '@' as %40, as urllib.parse.quote() does")
    remedy = f"Correct the host name {host!r}, or the resolver (/etc/resolv.conf)"
    resolve = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = call_within(resolve, timeout_s)
    except OverdueError:
        reason = f"no answer of the resolver within {timeout_s:g} s"
        raise ServiceError("dns", reason, remedy) from None
    except (OSError, UnicodeError) as error:
        reason = f"the name {host!r} cannot be resolved ({format_error(error)})"
        raise ServiceError("dns", reason, remedy) from None
    service.steps.append(("dns", ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))))
    return _connect_to(service, [(entry[0], entry[4]) for entry in found], timeout_s)


def _connect_to(service: Service, places: list[tuple[int, Any]], timeout_s: float) -> socket.socket:
    reason, remedy = "no address", "Correct the address"
    for family, place in places:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(timeout_s / len(places))
        try:
            connection.connect(place)
        except OSError as error:
            connection.close()
            if isinstance(error, (TimeoutError, BlockingIOError)):
                reason = f"no answer to the connection attempt within {timeout_s:g} s"
                remedy = "Allow it in firewalls and network policies, or check that the host is up"
            elif isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
                reason = "connection refused: nothing listens there"
                remedy = f"Start {service.kind}, or correct host and port"
                if isinstance(error, FileNotFoundError):
                    reason = "there is no such socket"
                    remedy = f"Start {service.kind}, or correct the path"
            else:
                reason = f"no connection: {error.strerror or format_error(error)}"
                remedy = "Correct the route, or the address"
        else:
            service.steps.append(("tcp", f"connected to {place if service.path else place[0]}"))
            return connection
    raise ServiceError("tcp", reason, remedy)


def start_tls(
    service: Service, connection: socket.socket, *, verify: bool = False
) -> ssl.SSLSocket:
    """Start TLS on a connection: the step ``tls``."""
    context = ssl.create_default_context()
    if not verify:  # the driver verifies the certificate, by its own settings
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        wrapped = context.wrap_socket(
            connection, server_hostname=service.address[0] if service.address else None
        )
    except ssl.SSLCertVerificationError as error:
        reason = f"the certificate is not trusted: {error.verify_message or format_error(error)}"
        remedy = "Renew the certificate, or trust its authority (SSL_CERT_FILE)"
        raise ServiceError("tls", reason, remedy) from None
    except OSError as error:
        reason = f"the TLS handshake failed: {service.kind} does not speak TLS there"
        if not _WRONG_SERVICE.search(format_error(error)) and not isinstance(error, TimeoutError):
            reason = f"the TLS handshake failed: {format_error(error)}"
        remedy = f"Enable TLS in {service.kind}, or disable it in the URL"
        raise ServiceError("tls", reason, remedy) from None
    service.steps.append(("tls", wrapped.version() or "ok"))
    return wrapped


def identify(service: Service) -> str:
    """Find out what listens instead: a TLS or an HTTP server; or the first line that it sends."""
    if not service.address:
        return ""
    other = replace(service, steps=[])
    with suppress(ServiceError), connect(other, _IDENTIFY_S) as connection:
        start_tls(other, connection).close()
        return TLS_SERVER
    client = http.client.HTTPConnection(*service.address, timeout=_IDENTIFY_S)
    try:
        client.putrequest("GET", "/", skip_host=True, skip_accept_encoding=True)
        client.endheaders()
        client.getresponse()
        return "an HTTP server"
    except http.client.RemoteDisconnected:
        return ""
    except http.client.BadStatusLine as error:
        line = format_error(error).strip()[:40]
        return "" if service.kind == "Redis" and line[:1] in "+-" else f"something else ({line!r})"
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        client.close()


def diagnose(service: Service, text: str, timeout_s: float, *, is_overdue: bool) -> None:
    """Find the step to a service that fails."""
    if service.kind == "SQLite":
        if failure := sqlite_failure(service.path):
            raise ServiceError("file", *failure)
        return
    is_known = bool(service.address or service.path)
    if is_known:
        with connect(service, timeout_s) as connection:
            if service.has_tls:
                start_tls(service, connection).close()
    for pattern, (step, remedy) in _DRIVER_ERRORS.items():
        if re.search(pattern, text, re.IGNORECASE):
            raise ServiceError(step, _driver_text(text, service.password), remedy)
    if is_known:
        _diagnose_protocol(service, text, timeout_s, is_overdue=is_overdue)


def _diagnose_protocol(service: Service, text: str, timeout_s: float, *, is_overdue: bool) -> None:
    is_wrong = _WRONG_SERVICE.search(text) is not None
    is_silent = is_overdue or "time" in text.lower()
    other = identify(service) if is_wrong or is_silent else ""
    if other == TLS_SERVER and service.kind == "Redis" and not service.has_tls:
        remedy = "Use TLS in the client: rediss:// instead of redis://"
        raise ServiceError("tls", "it speaks TLS, and the client does not", remedy)
    if other or is_wrong:
        shown = other or f"something else ({_driver_text(text, service.password)})"
        remedy = f"Correct host and port: they must be those of {service.kind}"
        raise ServiceError("protocol", f"{shown} answers, not {service.kind}", remedy)
    if is_silent:
        reason = f"it accepts connections, but did not answer within {timeout_s:g} s"
        remedy = f"Check whether {service.kind} is stopped or overloaded, and restart it"
        raise ServiceError("protocol", reason, remedy)


def _driver_text(text: str, password: str) -> str:
    """Shorten the text of a driver to what the server reports, without the password."""
    text = redact(" ".join(text.partition("(Background on")[0].split()))
    for mark in ("FATAL:", "ERROR:"):
        text = text.rpartition(mark)[2]
    return (text.replace(password, MASK) if len(password) >= 4 else text).strip()


def _service_of_redis(client: Any) -> Service | None:
    pool = getattr(client, "connection_pool", None)
    keywords = getattr(pool, "connection_kwargs", None)
    if not isinstance(keywords, Mapping) or not ({"host", "path"} & keywords.keys()):
        return None  # a cluster, a sentinel, or something that only has ping()
    classes = getattr(getattr(pool, "connection_class", None), "__mro__", ())
    has_tls = any(one.__name__ == "SSLConnection" for one in classes)
    password = str(keywords.get("password") or "")
    if keywords.get("path"):
        return Service("Redis", path=str(keywords["path"]), password=password)
    address = str(keywords["host"]), int(keywords.get("port") or 6379)
    return Service("Redis", address, has_tls=has_tls, password=password)


def _service_of_database(backend: str, keywords: Mapping[str, Any]) -> Service:
    """Make a service of the keywords that SQLAlchemy calls the driver with."""
    kind, is_postgres = _NAMES.get(backend, backend), backend == "postgresql"
    host = str(keywords.get("hostaddr") or keywords.get("host") or "")
    port = str(keywords.get("port") or "")
    if is_postgres:
        host = host or os.environ.get("PGHOST") or "/var/run/postgresql"
        port = port or os.environ.get("PGPORT") or ""
    port = port or str(_PORTS.get(backend, ""))
    service = Service(kind, password=str(keywords.get("password") or keywords.get("passwd") or ""))
    if "," in host + port or {"dsn", "conninfo", "service"} & keywords.keys():
        return service  # several hosts, or known to the driver only
    if is_postgres and host.startswith("/"):
        service.path = f"{host}/.s.PGSQL.{port}"
    elif path := keywords.get("unix_socket") or keywords.get("unix_sock"):
        service.path = str(path)
    elif host and port.isdigit():
        service.address = (host, int(port))
    return service


def _services_of_url(text: str) -> list[Service]:
    if not text.startswith("sqlite"):
        return []  # the check's own connection is not seen
    from sqlalchemy import make_url

    return _services_of_sqlite(make_url(text))


def _services_of_sqlite(url: Any) -> list[Service]:
    path = sqlite_file(url.database or "", url.query)
    return [Service("SQLite", path=os.path.abspath(path))] if path else []


def sqlite_file(database: str, query: Mapping[str, Any]) -> str:
    """Return the path of the file of a SQLite URL; empty for a database in memory."""
    if not database.startswith("file:"):
        return "" if database == ":memory:" else database
    path, _, inner = f"{database}?{urlencode(query, doseq=True)}"[len("file:") :].partition("?")
    path = unquote(path.partition("#")[0]).removeprefix("//localhost")
    path = path[2:] if path.startswith("///") else path
    return "" if path == ":memory:" or "memory" in parse_qs(inner).get("mode", []) else path


def sqlite_failure(path: str) -> tuple[str, str] | None:
    """Return why SQLite cannot use a file, and the remedy; ``None`` if it can."""

    def may(place: str, mode: int) -> bool:
        return os.access(place, mode, effective_ids=os.access in os.supports_effective_ids)

    directory = os.path.dirname(os.path.abspath(path))
    own = "Let the user of the app own the directory: SQLite writes its journal there"
    if not os.path.isdir(directory):
        return f"there is no directory {directory}", "Create the directory, or correct the URL"
    if not os.path.exists(path):
        remedy = "Create it by applying the migrations, mount its volume, or correct the path"
        return "there is no such file", remedy
    if not os.path.isfile(path):
        return "it is not a file", "Correct the path in the URL"
    if not may(path, os.R_OK | os.W_OK):
        return "it cannot be read and written", "Let the user of the app own the file"
    return None if may(directory, os.W_OK | os.X_OK) else (f"{directory} cannot be written", own)


class CheckSteps:
    """The steps of the checks: one heartbeat of a middleware with the same settings and checks.

    Neither the hooks of the app nor its signals are called.

    Attributes:
        middleware: The middleware of the app.
        names: The names of the checks.
        timeout_s: Seconds that the heartbeat may take.
    """

    def __init__(
        self,
        middleware: DockerflowMiddleware,
        timeout_s: float,
        skip: frozenset[str],
        send: Send,
    ) -> None:
        settings = middleware.settings
        self.middleware = middleware
        self.names = () if "checks" in skip else middleware.registry.names
        self.timeout_s = min(settings.check_timeout or timeout_s, timeout_s)
        self._step_s = timeout_s
        self._send = send
        self._functions = middleware.registry.functions
        self._services: dict[str, list[Service]] = {name: [] for name in self.names}
        self._threads: dict[str, int] = {}
        self._coroutines: dict[str, Any] = {}
        self._running: list[str] = []
        self._reports: list[HeartbeatReport] = []
        registry = CheckRegistry()
        for name, function in self._functions.items():
            if name in self.names and not skip & {name, f"check:{name}"}:
                registry.check(partial(self._call, name, function), name)
        self._heartbeat = DockerflowMiddleware(
            NotFound(),
            registry=registry,
            on_heartbeat=self._reports.append,
            check_context=middleware.check_context or nullcontext,
            check_timeout=self.timeout_s,
            heartbeat_ttl=0,
            silenced_checks=settings.silenced_checks,
            heartbeat_failed_level=settings.heartbeat_failed_level,
            heartbeat_failed_status_code=settings.heartbeat_failed_status_code,
        )

    def restart(self) -> None:
        """Forget the report, so that the checks run again; one that still runs is joined."""
        self._reports.clear()

    def report(self) -> HeartbeatReport:
        """Return the report of the heartbeat, which runs once."""
        if not self._reports:
            Client(self._heartbeat).get(HEARTBEAT_PATH)
        return self._reports[0]

    def results(self) -> Iterator[StepResult]:
        """Yield the result of each check, in the order of registration."""
        results = {result.name: result for result in self.report().results}
        for name in self.names:
            found = results.get(name)
            step = skipped() if found is None else self._step_result(found)
            duration_s = found.duration_s if found else 0.0
            yield replace(step, name=f"check:{name}", duration_s=duration_s)

    def _call(self, name: str, function: Callable[[], Any]) -> Any:
        """Call a check, and note where it runs and which addresses it connects to."""
        self._threads[name] = threading.get_ident()
        self._running.append(name)
        self._send({"running": self._running})
        try:
            with ExitStack() as stack:
                for service in self._watch(name, function, stack):
                    if service.kind == "SQLite" and not os.path.exists(service.path):
                        return Error(f"there is no database file {service.path}")
                returned = function()
                if inspect.isgenerator(returned):
                    returned = list(returned)
                if inspect.iscoroutine(returned):
                    self._coroutines[name] = returned
                return returned
        finally:
            self._running.remove(name)
            self._send({"running": self._running})

    def _watch(self, name: str, function: Any, stack: ExitStack) -> list[Service]:
        """Note the services of a built-in check; those of an engine when it connects."""
        kind = function.func if isinstance(function, partial) else None
        services = self._services[name]
        services.clear()
        if kind is check_redis_connected:
            services += filter(None, [_service_of_redis(function.args[0])])
        elif kind in {check_database_connected, check_migrations_applied}:
            given, database = function.args[0], function.keywords.get("db")
            if kind is check_database_connected:
                database = given
            elif database is None and hasattr(given, "get_main_option"):  # an Alembic config
                services += _services_of_url(given.get_main_option("sqlalchemy.url") or "")
            elif database is None:
                database = getattr(given, "db", None)  # of Flask-Migrate
            default = {"": getattr(database, "engine", database)}
            for engine in (getattr(database, "engines", None) or default).values():
                stack.enter_context(_noting_connections(engine, services))
        return services

    def _step_result(self, found: CheckResult) -> StepResult:
        settings = self.middleware.settings
        messages = [f"{message.id or found.name}: {message.msg}" for message in found.messages]
        details: dict[str, Any] = {"level": level_to_text(found.level), "messages": messages}
        worst = max(found.messages, key=lambda message: message.level, default=None)
        if worst is None or found.level < min(WARNING, settings.heartbeat_failed_level):
            return self._passed(found, worst, messages, details)
        if found.traceback:
            details["place"] = place_in_traceback(found.traceback)
        place = f"{details['place']}: " if details.get("place") else ""
        own = f"{place}{worst.id or found.name}: {worst.msg}"
        message, remedy = self._diagnosis(found, worst, details) or (
            own,
            worst.hint or self.remedy(found.name, worst),
        )
        make = failed if found.level >= settings.heartbeat_failed_level else warned
        return make(message, remedy, **details)

    def _passed(
        self,
        found: CheckResult,
        worst: CheckMessage | None,
        messages: list[str],
        details: dict[str, Any],
    ) -> StepResult:
        deadline_s = self.middleware.settings.check_timeout
        shown = "".join(f": {text}" for text in messages[:1])
        if worst is not None and worst.id == INFO_CANT_CHECK_MIGRATIONS:
            return replace(skipped(f"could not ask{shown}"), details=details)
        if deadline_s is not None and found.duration_s > deadline_s / 2:
            text = (
                f"took {found.duration_s:.2f} s, more than half of its deadline of {deadline_s:g} s"
            )
            return warned(f"{text}{shown}", "Make it faster, or raise check_timeout", **details)
        return passed(f"ok in {found.duration_s:.2f} s{shown}", **details)

    def _diagnosis(
        self, found: CheckResult, worst: CheckMessage, details: dict[str, Any]
    ) -> tuple[str, str] | None:
        is_overdue = found.duration_s >= 0.9 * self.timeout_s
        services = []
        for service in self._services[found.name]:
            shown = {"service": service.kind, "address": str(service), "steps": service.steps}
            services.append(shown)
            try:
                diagnose(service, worst.msg, self._step_s, is_overdue=is_overdue)
            except ServiceError as error:
                details["services"] = [{**shown, "failed": error.step}]
                step = _LABELS.get(error.step, error.step)
                return f"{service.kind} at {service}: {step}: {error.reason}", error.remedy
        details["services"] = services
        if worst.id != ERROR_CHECK_TIMED_OUT:
            return None
        coroutine = self._coroutines.get(found.name)
        lines = lines_of_coroutine(coroutine) or lines_of_thread(self._threads.get(found.name))
        details["stack"] = lines
        where = f"; it was at {lines[-1]}" if lines else ""
        text = f"{worst.id}: not done after {self.timeout_s:g} s{where}"
        return text, self.remedy(found.name, worst)

    def remedy(self, name: str, message: CheckMessage) -> str:
        """Return what to do about a message of a check."""
        if message.id != WARNING_UNAPPLIED_MIGRATION:
            return _REMEDIES.get(message.id or "", "Fix the reported problem")
        function = self._functions[name]
        migrate = function.args[0] if isinstance(function, partial) and function.args else None
        if hasattr(migrate, "get_config"):
            return "Apply them: flask db upgrade"
        path = getattr(migrate, "config_file_name", None)
        option = f"-c {shlex.quote(shown_path(os.path.abspath(path)))} " if path else ""
        return f"Apply them: alembic {option}upgrade head"


class NotFound:
    """A WSGI app that has no pages."""

    def __call__(self, _environ: object, start_response: Any) -> list[bytes]:
        """Answer 404."""
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return []


@contextmanager
def _noting_connections(engine: Any, services: list[Service]) -> Iterator[None]:
    """Append a service for each address that an engine connects to, ``connect_args`` included."""
    url = getattr(engine, "url", None)
    if url is None or hasattr(engine, "sync_engine"):
        yield
        return
    from sqlalchemy import event

    def note(_dialect: object, _record: object, _arguments: object, keywords: Any) -> None:
        service = _service_of_database(url.get_backend_name(), keywords)
        if all(str(one) != str(service) for one in services):
            services.append(service)

    if url.get_backend_name() == "sqlite":
        services += _services_of_sqlite(url)
        yield
        return
    event.listen(engine, "do_connect", note)
    try:
        yield
    finally:
        event.remove(engine, "do_connect", note)
