"""`FlaskMiddleware`: the middleware of a Flask app, which also reads ``app.config``."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..endpoints import ERROR_PATH
from ..errors import call_safely, log_redacted
from ..middleware import DockerflowMiddleware
from ..settings import Settings, SettingsReader, log_warnings
from .signals import send_heartbeat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Flask

    from ..endpoints import Endpoint


class FlaskMiddleware(DockerflowMiddleware):
    """Wraps ``app.wsgi_app``; `dockerflow_wsgi.flask.Dockerflow` makes one per app.

    Args:
        flask_app: The app.
        **options: The options of `DockerflowMiddleware`.

    Attributes:
        error_endpoint: The endpoint ``/__error__``, which responds inside Flask; ``None`` if it is
            off.
    """

    error_endpoint: Endpoint | None

    def __init__(self, flask_app: Flask, **options: Any) -> None:
        self._flask_app = flask_app
        self._lock = threading.Lock()
        self._is_prepared = False
        self._has_warned = False
        super().__init__(
            flask_app.wsgi_app,
            on_heartbeat=partial(send_heartbeat, flask_app),
            check_context=flask_app.app_context,
            **options,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request; before the first one, read the app's configuration again."""
        self.prepare()
        return super().__call__(environ, start_response)

    def prepare(self) -> None:
        """Read the app's configuration again, once, because it may be set after the extension."""
        if self._is_prepared:
            return
        with self._lock:
            if not self._is_prepared:
                call_safely("app.config", self._read_config_again, default=None)
                self._is_prepared = True

    def warn_of_bypass(self) -> None:
        """Warn once that requests reach the app without this middleware, except in tests."""
        if not (self._has_warned or self._flask_app.testing):
            self._has_warned = True
            text = (
                f"A request reached the Flask app {self._flask_app.name!r} without passing "
                "Dockerflow's middleware, so it has no summary: app.wsgi_app was used before "
                "Dockerflow(app) wrapped it. Create the extension first; with Connexion, call "
                "connexion_app.add_wsgi_middleware(lambda _: app.wsgi_app) after it"
            )
            log_warnings([text])

    def _read_sources(self) -> SettingsReader:
        reader = super()._read_sources()
        app = self._flask_app
        root, nested = app.root_path, app.config.get("DOCKERFLOW")
        reader.read_prefixed(app.config, 'app.config["{}"]')
        reader.read_nested({} if nested is None else nested, 'app.config["DOCKERFLOW"]')
        reader.read_keywords({"version_path": [os.path.dirname(root), root, "/app"]})
        return reader

    def _read_config_again(self) -> None:
        reader = self._read_sources()
        log_warnings(new for new in reader.warnings if new not in self.settings_reader.warnings)
        self.settings_reader = reader
        if reader.problems:
            text = "app.config was changed after Dockerflow(app); the earlier values are kept: "
            text += "; ".join(reader.problems)
            log_redacted(logging.getLogger("dockerflow_wsgi"), logging.ERROR, text)
        settings = replace(self.settings if reader.problems else Settings(), **reader.values)
        if settings != self.settings:
            self._configure(settings)

    def _make_endpoints(self) -> dict[str, Endpoint]:
        endpoints = super()._make_endpoints()
        self.error_endpoint = endpoints.pop(ERROR_PATH, None)
        if self.settings.disabled:
            self.error_endpoint = None
        return endpoints
