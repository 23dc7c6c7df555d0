"""The frameworks, and how an app of each is wrapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frameworks import bottle_app, django_app, falcon_app, flask_app, plain_app, pyramid_app

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.flask import Dockerflow

if TYPE_CHECKING:
    from collections.abc import Callable


def around(app, middleware):
    """Wrap an app as README shows for any framework; the server gets the result."""
    dockerflow = DockerflowMiddleware(middleware(app))
    return dockerflow, dockerflow


def inside_flask(app, middleware):
    """Wrap a Flask app as Flask's documentation shows for any middleware."""
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
        name: Shown in the tests' names.
        make_app: Makes the app, with ``propagate`` for exceptions that reach the server.
        put: Wraps an app, with another middleware around the app; returns the app for the server,
            and what checks are registered with.
    """

    name: str
    make_app: Callable
    put: Callable = around

    def wrapped(self, middleware=lambda app: app, **options):
        """Make an app and wrap it, with another middleware in between."""
        return self.put(self.make_app(**options), middleware)[0]

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
