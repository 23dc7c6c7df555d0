"""`DockerflowMiddleware`: makes any WSGI application comply with Mozilla's Dockerflow.

Use it around the outermost application that one server process serves. Not for ASGI
applications; and where a framework's own adapter exists (`dockerflow_wsgi.flask`), that one
knows more: its configuration, its user, its application context.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .checks import (
    CheckRegistry,
    check_database_connected,
    check_migrations_applied,
    check_redis_connected,
)
from .checks.registry import RegistersChecks
from .config import (
    NAMES,
    Source,
    environment_source,
    keyword_source,
    read_settings,
)
from .endpoints import LBHEARTBEAT, VersionEndpoint, make_endpoints, needs_no_record
from .exchange import RESPONSE_HEADER, Exchange
from .file_wrapper import ENVIRON_KEY as FILE_WRAPPER_KEY
from .file_wrapper import expect_file
from .hooks import Hooks
from .nesting import find_inside
from .request_id import ENVIRON_KEY as REQUEST_ID_KEY
from .request_id import RequestIDSource, get_current, set_current
from .summary import ENVIRON_KEY as SUMMARY_KEY
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

    Around an app that is wrapped already, by mistake, it takes over what it is not given itself:
    the checks, settings, hooks and version callback of the middleware inside, unless that one is
    disabled. With a registry of its own it takes over nothing.

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
            Flask's ``app.app_context``. By default there is none.
        summary_extra: Called with the environ when a response is over; returns a mapping of
            further fields for its summary. What it raises is logged.
        **settings: The settings of `dockerflow_wsgi.config.Settings`. A setting ``x`` that is
            not given here is taken from the environment variable ``DOCKERFLOW_X``.

    Attributes:
        app: The wrapped application.
        registry: The checks.
        settings: The settings as they were read.
        hooks: The functions that it calls.
        version_endpoint: Answers ``/__version__``.
        endpoints: The WSGI app of each path that is answered here.

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
        check_context: CheckContext | None = None,
        summary_extra: SummaryExtra | None = None,
        **settings: Unpack[SettingKeywords],
    ) -> None:
        _require("app", app, "a WSGI application", callable(app))
        _require("on_heartbeat", on_heartbeat, "callable", _is_hook(on_heartbeat))
        _require("check_context", check_context, "callable", _is_hook(check_context))
        _require("summary_extra", summary_extra, "callable", _is_hook(summary_extra))
        self.app = app
        inner = _inner(app) if registry is None else None
        self.settings = read_settings([keyword_source(settings), _other_source(inner)])
        self.registry = _registry_of(inner) if registry is None else registry
        _require("registry", registry, "a CheckRegistry", isinstance(self.registry, CheckRegistry))
        self._register_built_in_checks(db, redis, migrate)
        hooks = Hooks(on_heartbeat, check_context, summary_extra)
        self.hooks: Hooks = hooks if inner is None else hooks.filled_from(inner.hooks)
        self._is_disabled = self.settings.disabled
        self._echo = self.settings.echo_request_id
        self._assign_request_id = RequestIDSource(
            self.settings.request_id_header, trust=self.settings.trust_request_id
        ).assign
        self._log_summary = SummaryLog(
            self.hooks.summary_extra, with_querystring=self.settings.summary_log_querystring
        ).write
        if inner is None or settings.get("version_path") is not None:
            self.version_endpoint = VersionEndpoint(VersionFile(self.settings.version_path))
        else:
            self.version_endpoint = inner.version_endpoint
        self.endpoints = make_endpoints(
            self.settings, self.hooks, self.registry, self.version_endpoint
        )

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
        path = environ.get("PATH_INFO", "")
        endpoint = self.endpoints.get(path)
        app = endpoint or self.app
        if REQUEST_ID_KEY in environ:
            return app(environ, start_response)  # a middleware further out looks after it

        request_id = self._assign_request_id(environ)
        if endpoint is LBHEARTBEAT and needs_no_record(environ):
            return self._answer_lbheartbeat(environ, start_response, path, request_id)
        environ[SUMMARY_KEY] = {}
        if type(environ.get(FILE_WRAPPER_KEY)) is not type:  # with most servers it is a class
            expect_file(environ)
        exchange = Exchange(  # by position: names would take 0.15 us
            environ,
            start_response,
            path,
            request_id,
            endpoint is not None,
            self._echo,
            self._log_summary,
        )
        try:
            iterable = app(environ, exchange.start_response)
        except BaseException as error:
            exchange.fail(error)
            exchange.close()
            raise
        return exchange.watch(iterable)

    def _answer_lbheartbeat(
        self, environ: WSGIEnvironment, start_response: StartResponse, path: str, request_id: str
    ) -> list[bytes]:
        # Without an exchange, which only a server that fails has need of: 1.3 us in place of 3.5.
        ok = LBHEARTBEAT.ok
        headers = [*ok.headers, (RESPONSE_HEADER, request_id)] if self._echo else [*ok.headers]
        outer = get_current()
        cell = [request_id]
        set_current(cell)
        try:
            start_response(ok.status, headers)
        except BaseException as error:
            exchange = Exchange(
                environ, start_response, path, request_id, True, self._echo, self._log_summary
            )
            exchange.fail(error)
            exchange.close()
            raise
        finally:
            cell.clear()
            if outer:
                set_current(outer)
        return []

    def version_callback(self, func: VersionCallback) -> VersionCallback:
        """Ask a function for the version object in place of ``version.json``; a decorator.

        Args:
            func: Called with ``version_path`` for each request to ``/__version__``; returns a
                mapping, or ``None`` if there is no version.

        Returns:
            The function itself.
        """
        self.version_endpoint.callback = func
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


def _inner(app: object) -> DockerflowMiddleware | None:
    inner = find_inside(app, DockerflowMiddleware)
    return None if inner is None or inner.settings.disabled else inner


def _other_source(inner: DockerflowMiddleware | None) -> Source:
    """Return where settings come from that are not given: from further in, if we are there."""
    if inner is None:
        return environment_source(os.environ)
    found = {name: getattr(inner.settings, name) for name in NAMES}
    return Source(found, "{} of the middleware inside".format)


def _registry_of(inner: DockerflowMiddleware | None) -> CheckRegistry:
    return CheckRegistry() if inner is None else inner.registry


def _is_hook(hook: object) -> bool:
    return hook is None or callable(hook)


def _require(name: str, value: object, expected: str, is_right: bool) -> None:
    if not is_right:  # the value itself may hold a password
        raise TypeError(f"{name} must be {expected}, not a {type(value).__name__}")
