"""`DockerflowMiddleware`: makes any WSGI application comply with Mozilla's Dockerflow.

Use it around the outermost application that one server process serves. Not for ASGI
applications; and where a framework's own adapter exists (`dockerflow_wsgi.flask`), that one
knows more: its configuration, its user, its application context.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from . import request_id as request_ids
from . import summary
from .body import expect_file, watch
from .checks import (
    CheckRegistry,
    check_database_connected,
    check_migrations_applied,
    check_redis_connected,
)
from .checks.registry import RegistersChecks
from .checks.runner import CheckRunner
from .config import Settings, environment_source, keyword_source, read_settings
from .endpoints import (
    ERROR_PATH,
    HEARTBEAT_PATH,
    LBHEARTBEAT_PATH,
    VERSION_PATH,
    ErrorEndpoint,
    HeartbeatEndpoint,
    LbHeartbeatEndpoint,
    VersionEndpoint,
)
from .exchange import Exchange
from .request_id import RequestIDSource
from .summary import SummaryLog
from .version import VersionFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from .checks import HeartbeatReport
    from .checks.outcome import CheckContext
    from .config import SettingKeywords
    from .summary import SummaryExtra
    from .version import VersionCallback


class DockerflowMiddleware(RegistersChecks):
    """Answers Dockerflow's endpoints in front of a WSGI app, and logs every request.

    ``/__version__``, ``/__heartbeat__`` and ``/__lbheartbeat__`` are answered before the
    app, so that none of its host checks, redirects, sessions or logins gets in a prober's
    way. Every other request reaches the app, and its response the server, as they are. Each
    request gets an ID and one ``request.summary`` log record.

    Building it opens no connection, starts no thread and reads no file.

    Args:
        app: The WSGI application.
        registry: Where checks are registered; by default a new one.
        db: A SQLAlchemy ``Engine``, or an object with an ``engine``; registers
            `checks.check_database_connected`.
        redis: A client with ``ping()``; registers `checks.check_redis_connected`.
        migrate: An ``alembic.config.Config`` or a ``flask_migrate.Migrate``; registers
            `checks.check_migrations_applied`, which asks ``db`` if there is one.
        on_heartbeat: Called with the `checks.HeartbeatReport` of each heartbeat run. What it
            raises is logged.
        check_context: Makes a context manager that each check runs in, on its thread; such as
            Flask's ``app.app_context``.
        summary_extra: Called with the environ when a response is over; returns a mapping of
            further fields for its summary. What it raises is logged.
        **settings: The settings of `dockerflow_wsgi.config.Settings`. A setting ``x`` that is
            not given here is taken from the environment variable ``DOCKERFLOW_X``.

    Attributes:
        app: The wrapped application.
        registry: The checks.
        settings: The settings as they were read.

    Raises:
        ConfigurationError: Settings have wrong values; the text names them all.
        TypeError: A keyword is no setting, or an object is of a wrong kind, such as a URL in
            place of an engine.
        ValueError: A built-in check is in the ``registry`` already, for another object.

    Environ keys, set before the app is called: ``dockerflow.request_id``, the request's ID;
    ``dockerflow.summary``, a dict whose items the app may set to get them into the request's
    summary; and ``HTTP_X_REQUEST_ID``, or the configured header's, with the same ID.

    Example:
        >>> def app(environ, start_response):
        ...     start_response("200 OK", [("Content-Type", "text/plain")])
        ...     return [b"hello"]
        >>> wrapped_app = DockerflowMiddleware(app, version_path="/app")
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        registry: CheckRegistry | None = None,
        db: Any = None,
        redis: Any = None,
        migrate: Any = None,
        on_heartbeat: Callable[[HeartbeatReport], object] | None = None,
        check_context: CheckContext = nullcontext,
        summary_extra: SummaryExtra | None = None,
        **settings: Unpack[SettingKeywords],
    ) -> None:
        _require("app", app, "a WSGI application", callable(app))
        _require("on_heartbeat", on_heartbeat, "callable", _is_hook(on_heartbeat))
        _require("check_context", check_context, "callable", callable(check_context))
        _require("summary_extra", summary_extra, "callable", _is_hook(summary_extra))
        self.app = app
        self.settings = read_settings([keyword_source(settings), environment_source(os.environ)])
        if registry is None:  # wrapped twice by mistake, the checks must not get lost
            registry = app.registry if isinstance(app, DockerflowMiddleware) else CheckRegistry()
        self.registry = registry
        _require("registry", registry, "a CheckRegistry", isinstance(self.registry, CheckRegistry))
        self._register_built_in_checks(db, redis, migrate)
        self._is_disabled = self.settings.disabled
        self._echo = self.settings.echo_request_id
        self._request_ids = RequestIDSource(
            self.settings.request_id_header, trust=self.settings.trust_request_id
        )
        self._log_summary = SummaryLog(
            summary_extra, with_querystring=self.settings.summary_log_querystring
        ).write
        self._version = VersionEndpoint(VersionFile(self.settings.version_path))
        self._endpoints = self._make_endpoints(self.settings, on_heartbeat, check_context)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request, as PEP 3333 has it.

        Args:
            environ: The request.
            start_response: The server's.

        Returns:
            The body.
        """
        if self._is_disabled:
            return self.app(environ, start_response)
        endpoint = self._endpoints.get(environ.get("PATH_INFO", ""))
        app = endpoint or self.app
        if request_ids.ENVIRON_KEY in environ:
            return app(environ, start_response)  # a middleware further out looks after it

        environ[summary.ENVIRON_KEY] = {}
        expect_file(environ)
        exchange = Exchange(
            environ,
            start_response,
            self._request_ids.assign(environ),
            is_probe=endpoint is not None,
            echo=self._echo,
            on_end=self._log_summary,
        )
        try:
            iterable = app(environ, exchange.start_response)
        except BaseException as error:
            exchange.fail(error)
            exchange.end()
            raise
        return watch(iterable, exchange)

    def version_callback(self, func: VersionCallback) -> VersionCallback:
        """Ask a function for the version object in place of ``version.json``; a decorator.

        Args:
            func: Called with ``version_path`` for each request to ``/__version__``; returns a
                mapping, or ``None`` if there is no version.

        Returns:
            The function itself.
        """
        self._version.callback = func
        return func

    def _register_built_in_checks(self, db: object, redis: object, migrate: object) -> None:
        # Not more is asked of them: they may be proxies that are not ready yet.
        _require("db", db, "an engine, as create_engine() makes it", not isinstance(db, str))
        _require("redis", redis, "a client with ping()", not isinstance(redis, str))
        _require("migrate", migrate, "an alembic.config.Config", not isinstance(migrate, str))
        if db is not None:
            self.registry.init_check(check_database_connected, db)
        if redis is not None:
            self.registry.init_check(check_redis_connected, redis)
        if migrate is not None:
            self.registry.init_check(check_migrations_applied, migrate, db=db)

    def _make_endpoints(
        self,
        settings: Settings,
        on_heartbeat: Callable[[HeartbeatReport], object] | None,
        check_context: CheckContext,
    ) -> dict[str, WSGIApplication]:
        runner = CheckRunner(
            self.registry,
            timeout_s=settings.check_timeout,
            ttl_s=settings.heartbeat_ttl,
            failed_level=settings.heartbeat_failed_level,
            silenced=settings.silenced_checks,
            on_report=on_heartbeat,
            context=check_context,
        )
        endpoints: dict[str, WSGIApplication] = {
            VERSION_PATH: self._version,
            LBHEARTBEAT_PATH: LbHeartbeatEndpoint(),
            HEARTBEAT_PATH: HeartbeatEndpoint(
                runner,
                failed_status_code=settings.heartbeat_failed_status_code,
                details=settings.heartbeat_details,
            ),
        }
        if settings.error_endpoint:
            endpoints[ERROR_PATH] = ErrorEndpoint()
        return endpoints


def _is_hook(hook: object) -> bool:
    return hook is None or callable(hook)


def _require(name: str, value: object, expected: str, is_right: bool) -> None:
    if not is_right:  # the value itself may hold a password
        raise TypeError(f"{name} must be {expected}, not a {type(value).__name__}")
