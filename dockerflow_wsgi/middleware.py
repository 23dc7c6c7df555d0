"""`DockerflowMiddleware`: makes any WSGI application comply with Mozilla's Dockerflow.

Wrap the outermost app that a server process serves. For Flask apps, `dockerflow_wsgi.flask` also
knows the app's configuration, its user and its context. Not for ASGI apps.
"""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .checks import (
    CheckRegistry,
    check_database_connected,
    check_migrations_applied,
    check_redis_connected,
)
from .checks.registry import ChecksMixin
from .checks.runner import CheckRunner
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
from .errors import ConfigurationError
from .find_middleware import find_middleware
from .request_id import CONTEXT_KEY, RequestContext, RequestIDSource
from .response import SUMMARY_KEY, ResponseWrapper, prepare_file_wrapper
from .settings import SettingsReader, check_keywords
from .summary import SummaryLog
from .version import VersionFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from .checks import HeartbeatReport
    from .checks.runner import CheckContext
    from .endpoints import Endpoint
    from .settings import SettingKeywords, Settings
    from .summary import SummaryExtra
    from .version import VersionCallback

    class MiddlewareKeywords(SettingKeywords, total=False):
        """The keyword arguments of `DockerflowMiddleware` without its registry."""

        db: Any
        redis: Any
        migrate: Any
        on_heartbeat: Callable[[HeartbeatReport], object] | None
        check_context: CheckContext
        summary_extra: SummaryExtra | None


LOGGERS = ("request.summary", "dockerflow_wsgi", "dockerflow_wsgi.checks")


class DockerflowMiddleware(ChecksMixin):
    """Answers Dockerflow's endpoints before a WSGI app, and logs every request.

    ``/__version__``, ``/__heartbeat__`` and ``/__lbheartbeat__`` are answered before the app, so
    that its host checks, redirects, sessions and logins do not affect probers. Every other
    request reaches the app unchanged, and its response reaches the server unchanged. Each request
    gets an ID and one ``request.summary`` log record.

    Construction opens no connection, starts no thread and reads no file.

    Args:
        app: The WSGI application.
        registry: The checks; by default a new registry.
        db: A SQLAlchemy ``Engine``, or an object with an ``engine``; registers
            `checks.check_database_connected`.
        redis: A client with ``ping()``; registers `checks.check_redis_connected`.
        migrate: An ``alembic.config.Config`` or a ``flask_migrate.Migrate``; registers
            `checks.check_migrations_applied`, which uses ``db`` if there is one.
        on_heartbeat: Called with the `checks.HeartbeatReport` of each run of the checks.
            Exceptions are logged.
        check_context: Returns a context manager that each check runs in, such as Flask's
            ``app.app_context``.
        summary_extra: Called with the environ at the end of a response; returns a mapping of
            further summary fields. A value of ``None`` removes a field. Exceptions are logged.
        **settings: The settings of `dockerflow_wsgi.settings.Settings`. A setting ``x`` that is
            not given here is read from the environment variable ``DOCKERFLOW_X``.

    Attributes:
        app: The wrapped application.
        registry: The checks.
        settings: The settings.
        settings_reader: The reader of the settings, with its warnings.
        check_context: As given.
        endpoints: The endpoint of each path.
        version_endpoint: The endpoint ``/__version__``.
        request_ids: Assigns the ID of a request.
        summary_log: Logs the summaries.

    Raises:
        ConfigurationError: Settings have wrong values, or the app is wrapped already.
        TypeError: A keyword is not a setting, or an object is of a wrong kind, such as a URL
            instead of an engine.
        ValueError: The registry has another check with the name of a built-in one.

    Environ keys, set before the app is called: ``dockerflow.request_id``, the request's ID;
    ``dockerflow.summary``, a dict whose items become fields of the request's summary;
    ``HTTP_X_REQUEST_ID``, or the key of the configured header, with the same ID.

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
        check_context: CheckContext | None = None,
        summary_extra: SummaryExtra | None = None,
        **settings: Unpack[SettingKeywords],
    ) -> None:
        check_keywords(settings)
        _check_app(app)
        for name, hook in {
            "on_heartbeat": on_heartbeat,
            "check_context": check_context,
            "summary_extra": summary_extra,
        }.items():
            _require(name, hook, "callable", hook is None or callable(hook))
        for name in LOGGERS:  # logging.config disables those of a middleware that was built before
            logging.getLogger(name).disabled = False
        self.app = app
        self.registry = CheckRegistry() if registry is None else registry
        _require("registry", registry, "a CheckRegistry", isinstance(self.registry, CheckRegistry))
        self._register_built_in_checks(db, redis, migrate)
        self.version_endpoint = VersionEndpoint(VersionFile(()))
        self.check_context = check_context
        self._on_heartbeat = on_heartbeat
        self._summary_extra = summary_extra
        self._keywords, self._environment = settings, os.environ.copy()
        self.settings_reader = self._read_sources()
        self._configure(self.settings_reader.settings())

    def _read_sources(self) -> SettingsReader:
        reader = SettingsReader()
        reader.read_keywords(self._keywords)
        reader.read_environment(self._environment)
        return reader

    def _configure(self, settings: Settings) -> None:
        self.settings = settings
        self.version_endpoint.file = VersionFile(settings.version_path)
        self.endpoints = self._make_endpoints()
        self._endpoints_by_path = {
            path + slash: endpoint
            for path, endpoint in self.endpoints.items()
            for slash in ("", "/")
            if not settings.disabled
        }
        self.request_ids = RequestIDSource(
            settings.request_id_header, trust=settings.trust_request_id
        )
        self.summary_log = SummaryLog(
            logging.getLogger("request.summary"),
            self._summary_extra,
            with_querystring=settings.summary_log_querystring,
        )

    def _make_endpoints(self) -> dict[str, Endpoint]:
        settings = self.settings
        runner = CheckRunner(
            self.registry,
            timeout_s=settings.check_timeout,
            ttl_s=settings.heartbeat_ttl,
            failed_level=settings.heartbeat_failed_level,
            silenced=settings.silenced_checks,
            on_report=self._on_heartbeat,
            context=self.check_context or nullcontext,
        )
        endpoints: dict[str, Endpoint] = {
            VERSION_PATH: self.version_endpoint,
            LBHEARTBEAT_PATH: LbHeartbeatEndpoint(),
            HEARTBEAT_PATH: HeartbeatEndpoint(
                runner,
                failed_status_code=settings.heartbeat_failed_status_code,
                details=settings.heartbeat_details,
                version=self.version_endpoint,
            ),
        }
        if settings.error_endpoint:
            endpoints[ERROR_PATH] = ErrorEndpoint()
        return endpoints

    def prepare(self) -> None:
        """Do nothing; an adapter for a framework may override it to read late settings."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request, as PEP 3333 describes it.

        Args:
            environ: The request.
            start_response: The server's callable that starts the response.

        Returns:
            The body.
        """
        endpoint = self._endpoints_by_path.get(environ.get("PATH_INFO", ""))
        outer: RequestContext | None = environ.get(CONTEXT_KEY)
        if outer is not None and outer.is_running:  # mounted in an app that is wrapped as well
            return (endpoint or self.app)(environ, start_response)
        request_id = self.request_ids.assign(environ)
        if self.settings.disabled:
            environ[SUMMARY_KEY] = {}
            return self.app(environ, start_response)
        log = self.summary_log.log if endpoint is None else self.summary_log.log_endpoint
        echo = self.settings.echo_request_id
        response = ResponseWrapper(environ, start_response, request_id, echo, log)
        try:
            if endpoint is None:
                prepare_file_wrapper(environ)
                return response.wrap_body(self.app(environ, response.start_response))
            body = endpoint(environ, response.start_response)
        except BaseException as error:
            response.record_error(error)
            response.end()
            raise
        response.end()
        return body

    def version_callback(self, func: VersionCallback) -> VersionCallback:
        """Get the version object from a function instead of ``version.json``; a decorator.

        Args:
            func: Called with ``version_path`` for each request to ``/__version__``; returns a
                mapping, or ``None`` if there is no version.

        Returns:
            The function.
        """
        self.version_endpoint.callback = func
        return func

    def _register_built_in_checks(self, db: object, redis: object, migrate: object) -> None:
        # Only obviously wrong objects are refused: others may be proxies that are not ready yet.
        for name, service, attribute, expected in (
            ("db", db, "engine", "an engine, as create_engine() makes it"),
            ("redis", redis, "ping", "a client with ping(), such as redis.Redis()"),
            ("migrate", migrate, "db", "an alembic.config.Config"),
        ):
            is_module = isinstance(service, ModuleType) and not hasattr(service, attribute)
            _require(name, service, expected, not (isinstance(service, str) or is_module))
        if db is not None:
            self.registry.init_check(check_database_connected, db)
        if redis is not None:
            self.registry.init_check(check_redis_connected, redis)
        if migrate is not None:
            self.registry.init_check(check_migrations_applied, migrate, db=db)


def _check_app(app: object) -> None:
    _require("app", app, "a WSGI application", callable(app))
    inner = find_middleware(app, DockerflowMiddleware)
    if inner is not None:
        around = "" if inner is app else f"a {type(app).__name__} around "
        raise ConfigurationError([f"app is {around}a DockerflowMiddleware: wrap an app only once"])


def _require(name: str, value: object, expected: str, is_right: bool) -> None:
    if not is_right:  # without the value, which may have a password
        kind = type(value).__name__
        given = f"the module {value.__name__!r}" if isinstance(value, ModuleType) else f"a {kind}"
        raise TypeError(f"{name} must be {expected}, not {given}")
