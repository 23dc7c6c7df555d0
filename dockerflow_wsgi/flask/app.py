"""`Dockerflow`, the Flask extension: a thin layer on `dockerflow_wsgi.DockerflowMiddleware`.

It wraps ``app.wsgi_app``, and supports ``app.config``, the application context, ``flask.g``,
signals and Flask-Login. Use the middleware for other WSGI apps.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ..checks import CheckRegistry
from ..checks.registry import ChecksMixin
from ..endpoints import ERROR_PATH, HEARTBEAT_PATH, LBHEARTBEAT_PATH, VERSION_PATH
from ..errors import ConfigurationError, call_safely, require_extra
from ..find_middleware import find_middleware
from ..middleware import DockerflowMiddleware
from ..request_id import CONTEXT_KEY, ENVIRON_KEY
from ..response import ResponseWrapper
from ..settings import check_keywords
from .flask_middleware import FlaskMiddleware
from .testing import closing_client_class
from .user import loaded_user_id

with require_extra("flask"):
    from flask import (
        Blueprint,
        Flask,
        abort,
        current_app,
        got_request_exception,
        has_request_context,
        request,
    )
    from flask.globals import app_ctx
    from werkzeug.exceptions import HTTPException, InternalServerError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import WSGIEnvironment
    from typing_extensions import Unpack
    from werkzeug.wrappers import Response

    from ..endpoints import Endpoint
    from ..settings import BehaviourKeywords
    from ..version import VersionCallback

EXTENSION_KEY = "dockerflow"
MIDDLEWARE_KEY = "dockerflow.middleware"
_PATHS = {"version": VERSION_PATH, "heartbeat": HEARTBEAT_PATH, "lbheartbeat": LBHEARTBEAT_PATH}


class HeartbeatFailure(InternalServerError):  # noqa: N818 - the published name
    """A failing heartbeat as one of Werkzeug's exceptions."""


class Dockerflow(ChecksMixin):
    """Makes Flask apps comply with Dockerflow.

    One extension can serve several apps. Its checks run for each app, in the context of that app.

    Args:
        app: The app to initialize; if it is omitted, call `init_app` later.
        db: A Flask-SQLAlchemy extension, or a SQLAlchemy engine; its connection is checked.
        redis: A Redis client, or a Flask-Redis extension; its connection is checked.
        migrate: A Flask-Migrate extension, or an Alembic config; its migrations are checked.
        silenced_checks: IDs of check messages that neither count nor are logged.
        version_path: The directory of ``version.json``; by default the parent of the app's root
            path, else the root path, else ``/app``.
        registry: The registry of the checks, for modules that register checks without access to the
            extension; by default a new one.
        **settings: The other settings of `dockerflow_wsgi.settings.Settings`. A setting ``x`` that
            is not given here is read from the environment variable ``DOCKERFLOW_X``, from
            ``app.config["DOCKERFLOW_X"]`` or from ``app.config["DOCKERFLOW"]["x"]``. The app's
            configuration is read by `init_app`, and again before the first request.

    Attributes:
        registry: The registry of the checks of all apps.
        logger: The logger ``dockerflow_wsgi``.
        summary_logger: The logger ``request.summary``.

    Raises:
        ConfigurationError: Settings have wrong values, or the app has a Dockerflow already.
        TypeError: A keyword is not a setting, or an object has a wrong type.

    Example:
        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> dockerflow = Dockerflow(app)
    """

    def __init__(
        self,
        app: Flask | None = None,
        db: Any = None,
        redis: Any = None,
        migrate: Any = None,
        silenced_checks: Iterable[str] | None = None,
        version_path: str | os.PathLike[str] | None = None,
        *,
        registry: CheckRegistry | None = None,
        **settings: Unpack[BehaviourKeywords],
    ) -> None:
        self._settings: dict[str, Any] = {
            "silenced_checks": silenced_checks,
            "version_path": version_path,
            **settings,
        }
        check_keywords(settings)
        self._services = {"db": db, "redis": redis, "migrate": migrate}
        self.registry = CheckRegistry() if registry is None else registry
        self.logger = logging.getLogger("dockerflow_wsgi")
        self.summary_logger = logging.getLogger("request.summary")
        self._version_callback: VersionCallback | None = None
        self._apps: WeakSet[Flask] = WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make an app comply with Dockerflow.

        Args:
            app: The app, before its first request.

        Raises:
            ConfigurationError: Settings have wrong values, or the app has a Dockerflow already.
            TypeError: An object has a wrong type.
        """
        _check_app(app)
        middleware = FlaskMiddleware(
            app, registry=self.registry, **self._services, **self._settings
        )
        if self._version_callback is not None:
            middleware.version_callback(self._version_callback)
        app.register_blueprint(_make_blueprint())
        app.url_value_preprocessor(partial(_start_request, middleware))
        app.teardown_request(partial(_finish_request, self))
        got_request_exception.connect(_record_failure, app)
        app.test_client_class = closing_client_class(app.test_client_class)
        app.wsgi_app = middleware  # type: ignore[method-assign]
        app.extensions[EXTENSION_KEY] = self
        app.extensions[MIDDLEWARE_KEY] = middleware
        self._apps.add(app)

    def get_middleware(self, app: Flask | None = None) -> DockerflowMiddleware:
        """Return the middleware of an app, for example to read its ``settings``.

        Args:
            app: The app; can be omitted if the extension has only one.

        Raises:
            ConfigurationError: The extension does not have the app, or ``app`` is omitted and the
                extension does not have exactly one.
        """
        apps = list(self._apps) if app is None else [app]
        if len(apps) > 1:
            raise ConfigurationError([f"the extension has {len(apps)} apps: pass one of them"])
        if not apps or apps[0] not in self._apps:
            name = "" if app is None else f" {app.name!r}"
            raise ConfigurationError([f"the extension has no app{name}: call init_app(app) first"])
        middleware: FlaskMiddleware = apps[0].extensions[MIDDLEWARE_KEY]
        middleware.prepare()
        return middleware

    def version_callback(self, func: VersionCallback) -> VersionCallback:
        """Register a function that returns the version object instead of ``version.json``.

        This method can be used as a decorator.

        Args:
            func: A function that is called with ``version_path``, and returns a mapping, or
                ``None`` for a 404.

        Returns:
            The function.
        """
        self._version_callback = func
        for app in self._apps:
            app.extensions[MIDDLEWARE_KEY].version_callback(func)
        return func

    def summary_extra(self) -> dict[str, Any]:
        """Return the summary of the current request; override it to add or remove fields.

        It is called once, at the end of the request, in the request's context. If it raises, only
        ``errno``, ``code``, ``method``, ``rid`` and ``t`` are logged.

        Returns:
            All fields, with those of ``environ["dockerflow.summary"]``. The returned fields are
            logged, with ``code`` and the final ``t``.
        """
        environ = request.environ
        response = _get_response(environ)
        fields = _get_middleware().summary_log.request_fields(environ, response)
        if not fields["uid"]:
            fields["uid"] = call_safely("user_id", self.user_id, default=None) or ""
        return fields

    def user_id(self) -> str | None:
        """Return the ID of the current request's user; override it for other login systems.

        Returns:
            The ID of Flask-Login's user if the app has loaded the user in this request, otherwise
            ``None``. This method does not load the user.
        """
        return loaded_user_id() if hasattr(current_app, "login_manager") else None


def _check_app(app: object) -> None:
    if not isinstance(app, Flask):
        raise TypeError(f"app must be a Flask app, not a {type(app).__name__}")
    if EXTENSION_KEY in app.extensions:
        raise ConfigurationError(
            [f"the app {app.name!r} has a Dockerflow already: call init_app(app) only once"]
        )
    if find_middleware(app.wsgi_app, DockerflowMiddleware) is not None:
        problem = f"app.wsgi_app of {app.name!r} is wrapped in a DockerflowMiddleware already"
        raise ConfigurationError([f"{problem}: remove that one, or Dockerflow(app)"])


def _make_blueprint() -> Blueprint:
    """Make the views, which respond if ``app.wsgi_app`` was used before it was wrapped."""
    blueprint = Blueprint("dockerflow", __name__)
    for name, path in _PATHS.items():
        blueprint.add_url_rule(
            path,
            name,
            _make_view(name, path),
            methods=["GET", "HEAD", "OPTIONS"],
            provide_automatic_options=False,
            strict_slashes=False,
        )
    return blueprint


def _make_view(name: str, path: str) -> Callable[[], Response]:
    def view() -> Response:
        middleware = _get_middleware()
        if middleware.settings.disabled:
            abort(404)
        return _respond(middleware.endpoints[path])

    view.__name__ = name
    return view


def _respond(endpoint: Endpoint) -> Response:
    response = current_app.response_class.from_app(endpoint, request.environ)
    if _get_middleware().settings.echo_request_id:
        response.headers.setdefault("X-Request-ID", request.environ[ENVIRON_KEY])
    return response


def _start_request(middleware: FlaskMiddleware, *_endpoint_and_values: object) -> None:
    """Set the request ID in ``flask.g``, and serve ``/__error__``, before any before_request."""
    environ = request.environ
    request_id = environ.get(ENVIRON_KEY)
    if request_id is None:
        middleware.warn_of_bypass()
        request_id = middleware.request_ids.assign(environ)
    own = app_ctx.g
    if getattr(own, "request_id", None) == getattr(own, "_request_id", None):
        own.request_id = request_id  # unless the app has set it
    own._request_id = request_id  # noqa: SLF001 - the name in python-dockerflow
    response = _get_response(environ)
    if response is not None:
        response.summary = {}
        response.error = None  # of an earlier call, by a layer between the middleware and Flask
    endpoint = middleware.error_endpoint
    if endpoint is not None and environ.get("PATH_INFO") in (ERROR_PATH, f"{ERROR_PATH}/"):
        abort(_respond(endpoint))


def _finish_request(extension: Dockerflow, _error: BaseException | None) -> None:
    """Make the summary in the request's context; ``code`` and ``t`` are added later."""
    response = _get_response(request.environ)
    if response is None:
        return
    if response.summary is not None and not hasattr(app_ctx.g, "_request_id"):
        return  # a copy of the context, with another "g"; the request is not over
    level = logging.INFO if response.error is None else logging.ERROR
    if extension.summary_logger.isEnabledFor(level):
        summary = call_safely(
            "summary_extra", lambda: dict(extension.summary_extra()), default={"msg": None}
        )
        if response.error is not None:
            summary.setdefault("msg", None)  # do not add a removed message again
        response.summary = summary


def _record_failure(_app: Flask, exception: BaseException, **_extra: object) -> None:
    # Some extensions also send the signal for a 404, or outside a request.
    code = exception.code if isinstance(exception, HTTPException) else None
    response = _get_response(request.environ) if has_request_context() else None
    if response is not None and (code is None or code >= 500):
        response.record_error(exception)


def _get_middleware() -> FlaskMiddleware:
    middleware: FlaskMiddleware = current_app.extensions[MIDDLEWARE_KEY]
    middleware.prepare()
    return middleware


def _get_response(environ: WSGIEnvironment) -> ResponseWrapper | None:
    response = getattr(environ.get(CONTEXT_KEY), "response", None)
    return response if isinstance(response, ResponseWrapper) else None
