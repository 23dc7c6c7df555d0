"""The frameworks under test, and functions that wrap their apps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frameworks import bottle_app, django_app, falcon_app, flask_app, plain_app, pyramid_app

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.flask import Dockerflow

if TYPE_CHECKING:
    from collections.abc import Callable


def around(app, middleware):
    """Wrap an app as in README; the server gets the wrapped app."""
    dockerflow = DockerflowMiddleware(middleware(app))
    return dockerflow, dockerflow


def inside_flask(app, middleware):
    """Wrap ``app.wsgi_app`` as in Flask's documentation; the server gets the Flask app."""
    app.wsgi_app = dockerflow = DockerflowMiddleware(middleware(app.wsgi_app))
    return app, dockerflow


def extension(app, middleware):
    """Use the Flask extension."""
    app.wsgi_app = middleware(app.wsgi_app)
    return app, Dockerflow(app)


@dataclass(frozen=True)
class Framework:
    """A framework, and one way to wrap its apps.

    Attributes:
        name: The name, which is shown in the tests' names.
        make_app: Makes the app; with ``propagate``, exceptions reach the server.
        wrap: Wraps an app, with another middleware in between; returns the app for the server, and
            the object that has the checks.
    """

    name: str
    make_app: Callable
    wrap: Callable = around

    def wrapped(self, middleware=lambda app: app, **options):
        """Make an app and wrap it, with another middleware in between."""
        return self.wrap(self.make_app(**options), middleware)[0]

    def __str__(self):
        return self.name


FRAMEWORKS = (
    Framework("plain", plain_app.make_app),
    Framework("Django", django_app.make_app),
    Framework("Pyramid", pyramid_app.make_app),
    Framework("Bottle", bottle_app.make_app),
    Framework("Falcon", falcon_app.make_app),
    Framework("Flask", flask_app.make_app, inside_flask),
    Framework("Flask-extension", flask_app.make_app, extension),
)
