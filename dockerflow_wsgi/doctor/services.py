"""The steps of the checks, and the diagnosis of a database or a Redis that fails.

DNS and TCP are tried by sockets and TLS by `ssl`; then the driver's own error is the reason.
"""

from __future__ import annotations

import inspect
import re
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import checks
from ..checks import CheckMessage, CheckRegistry, CheckResult
from ..checks.runner import CheckRunner
from ..import_string import place_of
from ..redaction import MASK, format_error
from .diagnosis import StepError, StepResult, failed, passed, skipped, warned
from .user_code import OverdueError, call_within, lines_of_coroutine, lines_of_thread

if TYPE_CHECKING:
    from ..middleware import DockerflowMiddleware

_BACKENDS = {  # the name, and the default port
    "postgresql": ("PostgreSQL", 5432),
    "mysql": ("MySQL", 3306),
    "mariadb": ("MariaDB", 3306),
    "redis": ("Redis", 6379),
}
_IDENTIFY_S = 1.0
_TLS_SERVER = "a TLS server"
_REMEDIES = {
    checks.ERROR_CHECK_TIMED_OUT: "Set a timeout below check_timeout for what the check waits for",
    checks.ERROR_CANNOT_CONNECT_REDIS: "Correct the URL, or start Redis",
    checks.ERROR_DB_API_EXCEPTION: "Correct the URL, or start or create the database",
}
_LOGIN = "Correct user name and password in the URL"
_NO_DATABASE = "Create the database, or correct its name"
_NO_LOGIN = "Put the password into the URL"
_TRUST = "Renew the certificate, or trust its authority (SSL_CERT_FILE, sslrootcert)"

# What the drivers report: the step that failed, and the remedy.
_DRIVER_ERRORS = {
    "certificate": ("TLS", _TRUST),
    "not support ssl": ("TLS", "Enable TLS in the server, or write sslmode=prefer into the URL"),
    "password authentication failed|wrongpass|invalid (username-)?password": ("login", _LOGIN),
    "access denied|no password is set|without any password": ("login", _LOGIN),
    "no password supplied|already authenticated|authentication required": ("login", _NO_LOGIN),
    "database .* does not exist|unknown database": ("login", _NO_DATABASE),
    "fatal:": ("login", "Correct the URL, or the server's configuration"),  # PostgreSQL
    "db index": ("query", "Correct the number of the database in the URL"),
    "noperm|no permissions": ("query", "Give the user of the URL the permission"),
}
_WRONG_SERVICE = re.compile(
    r"protocol error|but received|closed by server|unexpected eof|reset by peer|wrong.version"
    r"|record.layer|invalid response",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Service:
    """A service that a check, or ``--url``, connects to."""

    kind: str  # the expected one, such as PostgreSQL
    host: str = ""  # empty if unknown
    port: int = 0
    has_tls: bool = False  # the client starts with TLS

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind} at {host}:{self.port}" if host else self.kind


def resolve(service: Service, timeout_s: float) -> str:
    """Return the addresses of a service's host; may raise a `StepError`."""
    find = partial(socket.getaddrinfo, service.host, service.port, type=socket.SOCK_STREAM)
    try:
        found = call_within(find, timeout_s)
    except (OverdueError, OSError, UnicodeError) as error:
        reason = f"the name {service.host!r} cannot be resolved ({format_error(error)})"
        remedy = "Correct the host name, or the resolver (/etc/resolv.conf)"
        if "@" in service.host:
            remedy = "Write the '@' in the password as %40, as urllib.parse.quote() does"
        raise StepError("DNS", reason, remedy) from None
    return ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect(service: Service, timeout_s: float) -> socket.socket:
    """Connect to a service; may raise a `StepError`."""
    try:
        return socket.create_connection((service.host, service.port), timeout_s)
    except TimeoutError:
        reason = f"no answer to the connection attempt within {timeout_s:g} s"
        remedy = "Allow it in firewalls and network policies, or check that the host is up"
    except OSError as error:
        reason = (error.strerror or format_error(error)).lower()
        remedy = f"Start {service.kind}, or correct host and port"
    raise StepError("TCP", reason, remedy)


def start_tls(service: Service, timeout_s: float, *, verify: bool = False) -> ssl.SSLSocket:
    """Connect to a service with TLS; may raise a `StepError`."""
    context = ssl.create_default_context()
    if not verify:  # the driver verifies the certificate, by its own settings
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(connect(service, timeout_s), server_hostname=service.host)
    except OSError as error:
        remedy = f"Enable TLS in {service.kind}, or disable it in the URL"
        if isinstance(error, ssl.SSLCertVerificationError):
            remedy = _TRUST
        elif isinstance(error, TimeoutError):
            remedy += f"; or check whether {service.kind} is stopped"
        reason = f"the TLS handshake failed: {format_error(error)}"
        raise StepError("TLS", reason, remedy) from None


def _identify(service: Service) -> str:
    """Return `_TLS_SERVER` or the first line that a service sends; empty if unknown."""
    with suppress(StepError), start_tls(service, _IDENTIFY_S):
        return _TLS_SERVER
    with suppress(StepError, OSError), connect(service, _IDENTIFY_S) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(40).partition(b"\n")[0].decode("ascii", "replace").strip()
    return ""


def diagnose(service: Service, text: str, timeout_s: float, *, is_overdue: bool) -> None:
    """Raise a `StepError` for the step to a service that is the reason for a check's text."""
    if service.host:
        resolve(service, timeout_s)
        (start_tls if service.has_tls else connect)(service, timeout_s).close()
    for pattern, (step, remedy) in _DRIVER_ERRORS.items():
        if re.search(pattern, text, re.IGNORECASE):
            reason = text.rpartition("FATAL:")[2].strip()  # PostgreSQL has the address before it
            raise StepError(step, reason, remedy)
    is_wrong = _WRONG_SERVICE.search(text) is not None
    if not (is_wrong or is_overdue or re.search("timed? ?out", text.lower())):
        return
    other = _identify(service) if service.host else ""
    if other == _TLS_SERVER and service.kind == "Redis" and not service.has_tls:
        remedy = "Use TLS in the client: rediss:// instead of redis://"
        raise StepError("TLS", "it speaks TLS, and the client does not", remedy)
    is_redis = service.kind == "Redis" and other.startswith(("+", "-"))
    if is_wrong or (other and not is_redis):
        remedy = f"Correct host and port: they must be those of {service.kind}"
        reason = f"something else answers, not {service.kind}: {other or text}"
        raise StepError("protocol", reason, remedy)
    accepts = "accepts connections, but " if service.host else ""
    reason = f"it {accepts}did not answer in time"
    remedy = f"Check whether {service.kind} is stopped or overloaded, and restart it"
    raise StepError("protocol", reason, remedy)


def services_of(check: Callable[..., Any]) -> list[Service]:
    """Return the services of a built-in check; those of databases are appended when it connects.

    Call this in the context of the check, just before it.
    """
    services: list[Service] = []
    built_in = (checks.check_redis_connected, checks.check_database_connected)
    if not isinstance(check, partial) or check.func not in built_in:
        return services
    given = check.args[0]
    if check.func is checks.check_redis_connected:
        pool = getattr(given, "connection_pool", None)
        keywords = getattr(pool, "connection_kwargs", None) or {}
        classes = getattr(getattr(pool, "connection_class", None), "__mro__", ())
        has_tls = any(one.__name__ == "SSLConnection" for one in classes)
        service = _service_of("redis", keywords, has_tls=has_tls)
        return [service] if service.host else []  # of a sentinel or a cluster

    def note(dialect: Any, _record: object, _arguments: object, keywords: Any) -> None:
        services.append(_service_of(dialect.name, keywords))

    engines = getattr(given, "engines", None) or {"": getattr(given, "engine", given)}
    for engine in engines.values():
        dialect = getattr(engine, "dialect", None)
        if dialect is not None and dialect.name in _BACKENDS and not dialect.is_async:
            from sqlalchemy import event

            event.listen(engine, "do_connect", note, once=True)  # when connect_args are known
    return services


def _service_of(backend: str, keywords: Mapping[str, Any], *, has_tls: bool = False) -> Service:
    """Make a service of the keywords that a driver connects with.

    The host is unknown if it is the driver's default, a Unix socket or a list of hosts.
    """
    kind, default_port = _BACKENDS[backend]
    host, port = str(keywords.get("host") or ""), str(keywords.get("port") or default_port)
    if host.startswith("/") or "," in host or not port.isdigit():
        host = ""
    if "@" in host:  # the end of a password with an unquoted "@" is taken for the host
        host = f"{MASK}@{host.rpartition('@')[2]}"
    return Service(kind, host, int(port) if host else 0, has_tls)


class CheckSteps:
    """The steps of the checks: one heartbeat of a middleware with the same settings and checks.

    Neither the hooks of the app nor its signals are called.
    """

    def __init__(
        self, middleware: DockerflowMiddleware, timeout_s: float, skip: Collection[str]
    ) -> None:
        settings = middleware.settings
        self.names = middleware.registry.names
        self._check_s = min(settings.check_timeout or timeout_s, timeout_s)
        self._step_s = timeout_s
        self._failed_level = settings.heartbeat_failed_level
        self._functions = middleware.registry.functions
        self._services: dict[str, list[Service]] = {}  # by the check that connects to them
        self._threads: dict[str, int] = {}  # by the check that runs there
        self._coroutines: dict[str, Any] = {}  # by the check that awaits it
        registry = CheckRegistry()
        for name in self.names:
            if f"check:{name}" not in skip:
                registry.check(partial(self._call, name), name)
        self._runner = CheckRunner(
            registry,
            timeout_s=self._check_s,
            ttl_s=0,
            failed_level=self._failed_level,
            silenced=settings.silenced_checks,
            on_report=None,
            context=middleware.check_context or nullcontext,
        )

    def results(self) -> Iterator[StepResult]:
        """Run the checks, and yield the result of each, in the order of registration."""
        results = {result.name: result for result in self._runner.report().results}
        for name in self.names:
            step = skipped()
            if found := results.get(name):
                step = replace(self._step_result(found), duration_s=found.duration_s)
            yield replace(step, name=f"check:{name}")

    def _call(self, name: str) -> Any:
        """Call a check, and note its thread and its services."""
        self._threads[name] = threading.get_ident()
        self._services[name] = services_of(self._functions[name])
        returned = self._functions[name]()
        if inspect.iscoroutine(returned):
            self._coroutines[name] = returned
        return returned

    def _step_result(self, found: CheckResult) -> StepResult:
        messages = [f"{message.id or found.name}: {message.msg}" for message in found.messages]
        details = {"level": checks.level_to_text(found.level), "messages": messages}
        first = "".join(f": {text}" for text in messages[:1])
        worst = max(found.messages, key=lambda message: message.level, default=None)
        if worst is not None and found.level >= min(checks.WARNING, self._failed_level):
            text, remedy = self._reason(found, worst)
            make = failed if found.level >= self._failed_level else warned
            return make(text, remedy, **details)
        if worst is not None and worst.id == checks.INFO_CANT_CHECK_MIGRATIONS:
            return skipped(f"could not ask{first}", **details)
        return passed(f"ok in {found.duration_s:.2f} s{first}", **details)

    def _reason(self, found: CheckResult, worst: CheckMessage) -> tuple[str, str]:
        """Return the reason for a check's worst message, and the remedy."""
        is_overdue = found.duration_s >= 0.9 * self._check_s
        for service in self._services.get(found.name, ()):
            try:
                diagnose(service, worst.msg, self._step_s, is_overdue=is_overdue)
            except StepError as error:
                return f"{service}: {error.step}: {error.reason}", error.remedy
        remedy = worst.hint or _REMEDIES.get(worst.id or "", "Fix the reported problem")
        if worst.id == checks.ERROR_CHECK_TIMED_OUT and found.name in self._threads:
            lines = lines_of_coroutine(self._coroutines.get(found.name))
            lines = lines or lines_of_thread(self._threads[found.name])
            where = f"; it was at {lines[-1]}" if lines else ""
            return f"{worst.id}: not done after {self._check_s:g} s{where}", remedy
        return f"{place_of(found.traceback or '')}{worst.id or found.name}: {worst.msg}", remedy
