"""`find_middleware` finds a middleware in a chain of wrapped apps."""

from __future__ import annotations

import functools

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix
from wsgi import hello

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.find_middleware import find_bypassed, find_middleware
from dockerflow_wsgi.flask import Dockerflow


class Slotted:
    """A middleware that keeps its app in a slot."""

    __slots__ = ("app", "wsgi_app")

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        return self.app(environ, start_response)


class Layer:
    """A middleware that keeps its app in an attribute of any name."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __call__(self, _environ, _start_response):
        raise AssertionError("the app was called")


class TestFound:
    """A middleware is found wherever it is in the chain."""

    def test_the_app_itself(self):
        """The app may be the middleware."""
        middleware = DockerflowMiddleware(hello)
        assert find_middleware(middleware, DockerflowMiddleware) is middleware

    @pytest.mark.parametrize("name", ["wsgi_app", "app", "application", "wsgi"])
    def test_behind_other_middlewares(self, name):
        """The usual attribute names are followed, in slots and in instance attributes."""
        middleware = DockerflowMiddleware(hello)
        app = Slotted(Layer(**{name: Slotted(middleware)}))
        assert find_middleware(app, DockerflowMiddleware) is middleware

    def test_behind_a_decorator_and_in_flask(self):
        """Functions of `functools.wraps` and Flask apps are followed."""
        middleware, flask = DockerflowMiddleware(hello), Flask("shop")

        @functools.wraps(middleware)
        def decorated(environ, start_response):
            return middleware(environ, start_response)

        flask.wsgi_app = ProxyFix(decorated)
        assert find_middleware(flask, DockerflowMiddleware) is middleware

    def test_the_outermost_one(self):
        """The first match from the outside is returned."""
        outer = Slotted(Slotted(hello))
        assert find_middleware(outer, Slotted) is outer


class TestNotFound:
    """The result is `None` when the chain does not show a middleware."""

    @pytest.mark.parametrize("app", [hello, Layer(app="not an app"), Layer(app=None), None])
    def test_no_middleware(self, app):
        """A function, an attribute that is not callable, and `None` end the search."""
        assert find_middleware(app, DockerflowMiddleware) is None

    def test_a_circle(self):
        """Apps that wrap each other in a circle do not cause an endless loop."""
        circle = Layer()
        circle.app = circle
        assert find_middleware(circle, DockerflowMiddleware) is None


class TestWithoutSideEffects:
    """The search runs no code of the apps."""

    def test_a_lazy_app_is_not_loaded(self):
        """Neither `__getattr__` nor a property of the app is called."""
        called = []

        class Lazy:
            def __getattr__(self, name):
                called.append(name)

            @property
            def app(self):
                called.append("app")

            def __call__(self, environ, start_response):
                return hello(environ, start_response)

        assert find_middleware(Lazy(), DockerflowMiddleware) is None
        assert called == []

    def test_an_attribute_that_cannot_be_read_is_ignored(self):
        """A proxy that raises outside of its context counts as an app without the attribute."""

        class Unbound(Slotted):
            __slots__ = ()

            def __getattribute__(self, name):
                if name == "app":
                    raise RuntimeError("working outside of a context")
                return super().__getattribute__(name)

        assert find_middleware(Unbound(DockerflowMiddleware(hello)), DockerflowMiddleware) is None


class TestBypassed:
    """`find_bypassed` finds the middleware of a Flask app that requests do not reach."""

    def test_a_method_that_was_taken_before(self):
        """Requests to the method of the Flask app do not reach the middleware."""
        app = Flask("shop")
        taken = app.wsgi_app
        Dockerflow(app)
        assert find_middleware(ProxyFix(taken), DockerflowMiddleware) is None
        found = find_bypassed(ProxyFix(taken), DockerflowMiddleware)
        assert found == (app.wsgi_app, "shop")

    @pytest.mark.parametrize("app", [None, hello, Slotted(hello), Flask("shop"), Layer().__call__])
    def test_other_apps(self, app):
        """Without a method that was taken, or without a middleware, there is nothing to find."""
        assert find_bypassed(app, DockerflowMiddleware) == (None, "")
        assert find_bypassed(Flask("shop").wsgi_app, DockerflowMiddleware) == (None, "")
