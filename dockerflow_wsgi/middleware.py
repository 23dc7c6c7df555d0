"""`DockerflowMiddleware`: makes any WSGI application comply with Mozilla's Dockerflow.

Wrap the outermost app that a server process serves. For Flask apps, `dockerflow_wsgi.flask` also
knows the app's configuration, its user and its context. Not for ASGI apps.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from .checks import (
    CheckRegistry,
    check_database_connected,
    check_migrations_applied,
    check_redis_connected,
)
from .checks.registry import ChecksMixin
from .endpoints import VERSION_PATH, VersionEndpoint, make_endpoints
from .errors import ConfigurationError
from .find_middleware import find_middleware
from .request_id import CONTEXT_KEY, RequestContext, RequestIDSource
from .response import FILE_WRAPPER_KEY, SUMMARY_KEY, ResponseWrapper, prepare_file_wrapper
from .settings import environment_source, keyword_source, read_settings
from .summary import SummaryLog
from .version import VersionFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from .checks import HeartbeatReport
    from .checks.run import CheckContext
    from .endpoints import Endpoint
    from .settings import SettingKeywords
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
    that its host checks, redirects, sessions and logins do not concern probers. Every other
    request reaches the app unchanged, and so does its response the server. Each request gets an
    ID and one ``request.summary`` log record.

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
        version_endpoint: The endpoint ``/__version__``.
        endpoints: The endpoint of each path.
        check_context: As given.

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
        self.settings = read_settings([keyword_source(settings), environment_source(os.environ)])
        self.registry = CheckRegistry() if registry is None else registry
        _require("registry", registry, "a CheckRegistry", isinstance(self.registry, CheckRegistry))
        self._register_built_in_checks(db, redis, migrate)
        self.check_context = check_context
        self.version_endpoint = VersionEndpoint(VersionFile(self.settings.version_path))
        self.endpoints = {
            VERSION_PATH: self.version_endpoint,
            **make_endpoints(
                self.settings,
                self.registry,
                on_heartbeat=on_heartbeat,
                check_context=check_context,
                version=self.version_endpoint,
            ),
        }
        self._endpoints_by_path = {
            path + slash: endpoint
            for path, endpoint in self.endpoints.items()
            for slash in ("", "/")
        }
        self._is_disabled = self.settings.disabled
        if self._is_disabled:
            self._endpoints_by_path.clear()
        self._echo = self.settings.echo_request_id
        self._assign_request_id = RequestIDSource(
            self.settings.request_id_header, trust=self.settings.trust_request_id
        ).assign
        summary_log = SummaryLog(
            logging.getLogger("request.summary"),
            summary_extra,
            with_querystring=self.settings.summary_log_querystring,
        )
        self._log_summary = summary_log.log
        self._log_endpoint = summary_log.log_endpoint

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request, as PEP 3333 describes it.

        Args:
            environ: The request.
            start_response: The server's.

        Returns:
            The body.
        """
        endpoint = self._endpoints_by_path.get(environ.get("PATH_INFO", ""))
        outer: RequestContext | None = environ.get(CONTEXT_KEY)
        if outer is not None and outer.is_running:  # mounted in an app that is wrapped as well
            return (endpoint or self.app)(environ, start_response)
        request_id = self._assign_request_id(environ)
        if endpoint is not None:
            return self._respond(endpoint, environ, start_response, request_id)

        if self._is_disabled:
            environ[SUMMARY_KEY] = {}
            return self.app(environ, start_response)
        if type(environ.get(FILE_WRAPPER_KEY)) is not type:
            prepare_file_wrapper(environ)
        response = ResponseWrapper(
            environ, start_response, request_id, self._echo, self._log_summary
        )
        try:
            return response.wrap_body(self.app(environ, response.start_response))
        except BaseException as error:
            response.record_error(error)
            response.end()
            raise

    def _respond(
        self,
        endpoint: Endpoint,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        request_id: str,
    ) -> list[bytes]:
        response = ResponseWrapper(
            environ, start_response, request_id, self._echo, self._log_endpoint
        )
        try:
            return endpoint(environ, response.start_response)
        except BaseException as error:
            response.record_error(error)
            raise
        finally:
            response.end()

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
        # Only what is certainly wrong is refused: the objects may be proxies that are not ready.
        _require("db", db, "an engine, as create_engine() makes it", not isinstance(db, str))
        _require("redis", redis, "a client with ping()", not isinstance(redis, str))
        _require("migrate", migrate, "an alembic.config.Config", not isinstance(migrate, str))
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
        raise TypeError(f"{name} must be {expected}, not a {type(value).__name__}")
