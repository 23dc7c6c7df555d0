"""`Dockerflow`, the Flask extension: a thin layer on `dockerflow_wsgi.DockerflowMiddleware`.

It wraps ``app.wsgi_app``, and brings what only Flask knows: its configuration, its application
context, ``flask.g``, its signals and its user. It registers no URL rule and no blueprint.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ..checks import CheckRegistry
from ..checks.registry import ChecksMixin
from ..errors import ConfigurationError, call_safely, require_extra
from ..find_middleware import find_middleware
from ..middleware import DockerflowMiddleware
from ..redaction import format_error
from ..request_id import RequestIDSource
from ..response import ERROR_KEY, SUMMARY_KEY
from ..settings import (
    Settings,
    Source,
    environment_source,
    keyword_source,
    nested_source,
    prefixed_source,
    read_settings,
)
from .globals import globals_class
from .signals import heartbeat_failed, heartbeat_passed

with require_extra("flask"):
    from flask import (
        Flask,
        current_app,
        g,
        got_request_exception,
        has_request_context,
        request,
        session,
    )
    from werkzeug.exceptions import HTTPException, InternalServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Request
    from flask.ctx import _AppCtxGlobals
    from typing_extensions import Unpack

    from ..checks import HeartbeatReport
    from ..settings import BehaviourKeywords
    from ..version import VersionCallback

EXTENSION_KEY = "dockerflow"
GLOBALS_KEY = "dockerflow.flask.g"
_BEHIND = "_get_current_object"  # of a proxy of Werkzeug's
USER_KEY = "_login_user"  # where Flask-Login keeps the user that it has loaded, in flask.g


class HeartbeatFailure(InternalServerError):  # noqa: N818 - the published name
    """A failing heartbeat, as the exception that it is in Werkzeug's terms."""


@dataclass(frozen=True, slots=True)
class DockerflowState:
    """What an app has of its extension, in ``app.extensions["dockerflow"]``.

    Attributes:
        extension: The extension.
        middleware: What wraps the app.
    """

    extension: Dockerflow
    middleware: DockerflowMiddleware


class Dockerflow(ChecksMixin):
    """Makes Flask apps comply with Dockerflow.

    One extension serves any number of apps, each with a state of its own; checks registered
    with it run for each, in that app's context.

    Args:
        app: The app to initialize; without it, call `init_app` later.
        db: A Flask-SQLAlchemy extension, or a SQLAlchemy engine; its connection is checked.
        redis: A Redis client, or a Flask-Redis extension; its connection is checked.
        migrate: A Flask-Migrate extension, or an Alembic config; its migrations are checked.
        silenced_checks: IDs of check messages that neither count nor are logged.
        version_path: The directory of ``version.json``; by default the parent of the app's
            root path, else the root path, else ``/app``.
        **settings: The other settings of `dockerflow_wsgi.settings.Settings`. A setting ``x`` that
            is not given here is taken from the environment variable ``DOCKERFLOW_X``, from
            ``app.config["DOCKERFLOW_X"]`` or from ``app.config["DOCKERFLOW"]["x"]``.

    Attributes:
        registry: The checks, for all apps.

    Raises:
        ConfigurationError: Settings have wrong values, or the app has a Dockerflow already.
        TypeError: A keyword is not a setting, or an object is of a wrong kind.

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
        **settings: Unpack[BehaviourKeywords],
    ) -> None:
        given = {"silenced_checks": silenced_checks, "version_path": version_path, **settings}
        self._keywords = keyword_source(given)
        self._services = {"db": db, "redis": redis, "migrate": migrate}
        self.registry = CheckRegistry()
        self._version_callback: VersionCallback | None = None
        self._middlewares: WeakSet[DockerflowMiddleware] = WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make an app comply with Dockerflow.

        Args:
            app: The app.

        Raises:
            ConfigurationError: Settings have wrong values, or the app has a Dockerflow already.
            TypeError: An object is of a wrong kind.
        """
        if not isinstance(app, Flask):
            raise TypeError(f"app must be a Flask app, not a {type(app).__name__}")
        if EXTENSION_KEY in app.extensions:
            raise ConfigurationError(
                [f"the app {app.name!r} has a Dockerflow already: call init_app(app) only once"]
            )
        if find_middleware(app.wsgi_app, DockerflowMiddleware) is not None:
            problem = f"app.wsgi_app of {app.name!r} is wrapped in a DockerflowMiddleware already"
            raise ConfigurationError([f"{problem}: remove that one, or Dockerflow(app)"])
        settings = read_settings([self._keywords, *_sources(app)])
        middleware = DockerflowMiddleware(
            app.wsgi_app,
            registry=self.registry,
            on_heartbeat=lambda report: self._send_signal(app, report),
            check_context=app.app_context,
            **self._services,
            **{field.name: getattr(settings, field.name) for field in fields(Settings)},
        )
        app.wsgi_app = middleware  # type: ignore[method-assign]
        app.extensions[EXTENSION_KEY] = DockerflowState(self, middleware)
        self._middlewares.add(middleware)
        if self._version_callback is not None:
            middleware.version_callback(self._version_callback)
        request_ids = RequestIDSource(settings.request_id_header, trust=settings.trust_request_id)
        app.app_ctx_globals_class = globals_class(app.app_ctx_globals_class, request_ids)
        if not settings.disabled:
            self._connect(app)

    def version_callback(self, func: VersionCallback) -> VersionCallback:
        """Ask a function for the version object in place of ``version.json``; a decorator.

        Args:
            func: Called with ``version_path``; returns a mapping, or ``None`` if there is no
                version.

        Returns:
            The function itself.
        """
        self._version_callback = func
        for middleware in self._middlewares:
            middleware.version_callback(func)
        return func

    def summary_extra(self) -> dict[str, Any]:
        """Return further fields for the summary of the current request; may be overridden.

        Called at the end of the request, in its context.

        Returns:
            The fields; here the user's ID as ``uid``.
        """
        return {"uid": call_safely("user_id", self.user_id, default=None) or ""}

    def user_id(self) -> str | None:
        """Return the ID of the current request's user; may be overridden.

        Returns:
            Flask-Login's, if it has loaded the user in this request already (none is loaded for
            it); else ``None``.
        """
        user = getattr(_get_g(), USER_KEY, None)
        if user is None or user.is_anonymous:
            return None
        # To ask the user itself may send a query: a commit expires SQLAlchemy's objects. But where
        # there is a request_loader, the user may be another one than the session's.
        login_manager = getattr(current_app, "login_manager", None)
        has_loader = getattr(login_manager, "_request_callback", None) is not None
        known = (None if has_loader else session.get("_user_id")) or user.get_id()
        return None if known is None else str(known)

    def _connect(self, app: Flask) -> None:
        # The first and the last of the app's functions; they take a third of the time of signals.
        app.before_request_funcs.setdefault(None, []).insert(0, _start)
        app.teardown_request_funcs.setdefault(None, []).insert(0, self._finish)
        got_request_exception.connect(_note_failure, app)

    def _finish(self, _error: BaseException | None) -> None:
        globals_ = _get_g()
        if USER_KEY not in getattr(globals_, "__dict__", ()) and self._is_as_made():
            return  # the uid is empty, as it is without us: saves 3 us
        environ = _get_request().environ
        fields_of_request = environ.get(SUMMARY_KEY)
        is_a_copy = environ.get(GLOBALS_KEY, globals_) is not globals_
        if fields_of_request is not None and not is_a_copy:
            call_safely("summary_extra", self._extend, fields_of_request, default=None)

    def _is_as_made(self) -> bool:
        """Tell whether the fields are asked of nothing else, a subclass or what a test put in."""
        return (
            type(self) is Dockerflow
            and len(self.__dict__) == _ATTRIBUTES
            and Dockerflow.summary_extra is _summary_extra
            and Dockerflow.user_id is _user_id
        )

    def _extend(self, fields_of_request: dict[str, Any]) -> None:
        for name, value in (self.summary_extra() or {}).items():
            fields_of_request.setdefault(name, value)

    def _send_signal(self, app: Flask, report: HeartbeatReport) -> None:
        signal = heartbeat_failed if report.has_failed else heartbeat_passed
        receivers = [] if signal.is_muted else list(signal.receivers_for(app))
        if not receivers:
            return
        with app.app_context():
            for receiver in receivers:
                call_safely(
                    f"A receiver of {signal.name}",
                    lambda receiver=receiver: receiver(app, level=report.level, report=report),
                    default=None,
                )


_summary_extra, _user_id = Dockerflow.summary_extra, Dockerflow.user_id
_ATTRIBUTES = len(vars(Dockerflow()))  # when none was put in the place of a method

# What two of Flask's proxies stand for; asking that takes a fraction of the time.
_get_g: Callable[[], _AppCtxGlobals] = getattr(g, _BEHIND)
_get_request: Callable[[], Request] = getattr(request, _BEHIND)


def _sources(app: Flask) -> list[Source]:
    root, nested = app.root_path, app.config.get("DOCKERFLOW")
    default = {"version_path": [os.path.dirname(root), root, "/app"]}
    return [
        replace(environment_source(os.environ), warnings=()),  # the middleware logs them
        prefixed_source(app.config, 'app.config["{}"]'),
        nested_source({} if nested is None else nested, 'app.config["DOCKERFLOW"]'),
        Source(default, "the default of {}".format),
    ]


def _start() -> None:
    environ = _get_request().environ
    # Copies of the context (copy_current_request_context) have a "g" of their own.
    environ[GLOBALS_KEY] = _get_g()
    environ.pop(ERROR_KEY, None)  # of a try before this one


def _note_failure(_app: Flask, exception: BaseException, **_extra: object) -> None:
    # Some extensions send the signal for a 404 too, or outside of any request.
    code = exception.code if isinstance(exception, HTTPException) else None
    if has_request_context() and (code is None or code >= 500):
        request.environ[ERROR_KEY] = format_error(exception)
