"""Uses every public name like a user with a strict type checker; checked, never run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask

from dockerflow_wsgi import (
    CheckRegistry,
    ConfigurationError,
    DockerflowMiddleware,
    checks,
    get_request_id,
    request_id_context,
    serve_in_background,
)
from dockerflow_wsgi.django import (
    check_caches,
    check_databases,
    check_migrations,
    check_system,
    connections_closed,
)
from dockerflow_wsgi.flask import Dockerflow, HeartbeatFailure
from dockerflow_wsgi.flask import checks as flask_checks
from dockerflow_wsgi.flask.signals import heartbeat_failed, heartbeat_passed
from dockerflow_wsgi.logging import (
    JsonLogFormatter,
    MozlogFormatter,
    MozlogHandler,
    RequestIdLogFilter,
)
from dockerflow_wsgi.version import get_version

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class TeamFormatter(MozlogFormatter):
    """Adds a key to each line."""

    def convert_record(self, record: logging.LogRecord) -> dict[str, Any]:
        """Convert a record."""
        return {**super().convert_record(record), "Team": "acme"}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve a page."""
    environ["dockerflow.summary"]["uid"] = "ada"
    start_response("200 OK", [("Content-Type", "text/plain")])
    request_id: str | None = get_request_id()
    return [(request_id or "").encode()]


def log_report(report: checks.HeartbeatReport) -> None:
    """Print a report."""
    level: int = report.level
    statuses: Mapping[str, str] = report.checks
    results: Iterable[checks.CheckResult] = report.results
    print(level, report.status, statuses, [result.duration_s for result in results])


def may_see(environ: WSGIEnvironment) -> bool:
    """Return whether the client sees details."""
    return environ.get("REMOTE_ADDR") == "127.0.0.1"


def wrap(engine: object, client: object, config: object) -> DockerflowMiddleware:
    """Wrap the app, with every argument."""
    registry = CheckRegistry()
    try:
        wrapped = DockerflowMiddleware(
            app,
            registry=registry,
            db=engine,
            redis=client,
            migrate=config,
            on_heartbeat=log_report,
            check_context=None,
            summary_extra=lambda environ: {"host": environ.get("HTTP_HOST", "")},
            version_path="/app",
            silenced_checks=["acme.W001"],
            check_timeout=None,
            heartbeat_ttl=1.5,
            heartbeat_failed_level="error",
            heartbeat_failed_status_code=503,
            heartbeat_details=may_see,
            request_id_header=["X-Request-ID", "traceparent"],
            trust_request_id=True,
            echo_request_id=False,
            summary_log_querystring=True,
            error_endpoint=True,
            disabled=False,
        )
    except ConfigurationError as error:
        raise SystemExit(str(error)) from error
    wrapped.init_check(checks.check_redis_connected, client, name="sessions")

    @wrapped.check
    def plain() -> list[checks.CheckMessage]:
        return [checks.Warning("slow", hint="buy disks", id="acme.W001")]

    @wrapped.check(name="search")
    async def asynchronous() -> checks.Error | None:
        return None

    @wrapped.version_callback
    def version(root: str) -> dict[str, Any] | None:
        return get_version(root)

    for check in (plain, asynchronous, version):
        assert callable(check)
    return wrapped


@request_id_context()
def work(request_id: str | None) -> int:
    """Run a background job, with the ID of the request that enqueued it."""
    with request_id_context(request_id) as current:
        return len(current)


def wrap_django() -> DockerflowMiddleware:
    """Wrap a Django app, with every check for Django."""
    wrapped = DockerflowMiddleware(app, check_context=connections_closed)
    wrapped.check(check_databases)
    wrapped.check(check_migrations)
    wrapped.check(partial(check_migrations, database="archive"), name="archive_migrations")
    wrapped.check(check_caches)
    wrapped.check(partial(check_system, deploy=True), name="system")
    return wrapped


class Client:
    """A substitute for a Redis client."""

    def ping(self) -> bool:
        """Return whether the server answers."""
        return True


def found() -> list[checks.CheckMessage]:
    """Use every kind of message, and every built-in check."""
    texts = [checks.level_to_text(level) for level in checks.STATUSES]
    messages: list[checks.CheckMessage] = [
        checks.Debug(texts[0]),
        checks.Info("i"),
        checks.Error("e", id=checks.ERROR_CHECK_RAISED),
        checks.Critical("c"),
        checks.CheckMessage("m", level=checks.WARNING),
    ]
    messages += checks.check_database_connected(object())
    messages += checks.check_redis_connected(Client())
    messages += checks.check_migrations_applied(object())
    return [message for message in messages if message.is_serious(checks.CRITICAL)]


class TenantDockerflow(Dockerflow):
    """Sets the user and adds the tenant to the summary."""

    def user_id(self) -> str:
        """Return the user's ID."""
        return "ada"

    def summary_extra(self) -> dict[str, Any]:
        """Add a field."""
        return {**super().summary_extra(), "tenant": "acme"}


flask_app = Flask(__name__)
dockerflow = TenantDockerflow(silenced_checks=["acme.W001"], check_timeout=2)
dockerflow.init_app(flask_app)


@dockerflow.check
def flask_check() -> list[flask_checks.CheckMessage]:
    """Return no message."""
    return []


@heartbeat_passed.connect_via(flask_app)
@heartbeat_failed.connect_via(flask_app)
def receive(sender: Flask, level: int, report: checks.HeartbeatReport, **_more: Any) -> None:
    """Receive a signal."""
    if level >= checks.ERROR:
        raise HeartbeatFailure(f"{sender.name}: {report.status}")


def set_up_logging() -> None:
    """Log as mozlog."""
    handler = MozlogHandler(name="acme")
    handler.setFormatter(JsonLogFormatter(logger_name="acme", severity=True))
    handler.setFormatter(TeamFormatter())
    handler.addFilter(RequestIdLogFilter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)


serve_in_background(dockerflow, port=0).stop()
with serve_in_background(CheckRegistry(), port=0, check_timeout=2) as server:
    port: int | None = server.port
    server.stop()
