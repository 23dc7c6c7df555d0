"""Looking into wrapped apps."""

from __future__ import annotations

import pytest
from wsgi import hello

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.nesting import find_inside


class Slotted:
    """A middleware that keeps its app in a slot."""

    __slots__ = ("app", "wsgi_app")

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        return self.app(environ, start_response)


class Wrapping:
    """A middleware that keeps its app in an attribute of any name."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __call__(self, _environ, _start_response):
        raise AssertionError("nobody calls it")


@pytest.mark.parametrize("name", ["wsgi_app", "app", "application", "wsgi"])
def test_it_is_found_through_other_middlewares(name):
    """However many there are, and wherever they keep what they wrap."""
    wanted = DockerflowMiddleware(hello)
    app = Slotted(Wrapping(**{name: Slotted(wanted)}))
    assert find_inside(app, DockerflowMiddleware) is wanted


def test_the_outermost_is_found():
    """It knows of those further in by itself."""
    wanted = DockerflowMiddleware(DockerflowMiddleware(hello))
    assert find_inside(wanted, DockerflowMiddleware) is wanted


def test_what_is_not_there_is_not_found():
    """Neither in a function, nor behind what is no app, nor in a circle."""
    circle = Wrapping()
    circle.app = circle
    for app in (hello, Wrapping(app="no app"), circle):
        assert find_inside(app, DockerflowMiddleware) is None


def test_an_app_that_loads_itself_lazily_is_not_loaded():
    """Nothing of the app's own runs."""
    asked = []  # an exception would not be seen: it counts as an app without the attribute

    class Lazy:
        def __getattr__(self, name):
            asked.append(name)

        @property
        def app(self):
            asked.append("app")

        def __call__(self, environ, start_response):
            return hello(environ, start_response)

    DockerflowMiddleware(Lazy())
    assert asked == []


def test_an_app_whose_attributes_cannot_be_read_hides_nothing():
    """As an object that stands for another one outside of its context; nothing is raised."""

    class Unbound(Slotted):
        __slots__ = ()

        def __getattribute__(self, name):
            if name == "app":
                raise RuntimeError("working outside of a context")
            return super().__getattribute__(name)

    assert find_inside(Unbound(DockerflowMiddleware(hello)), DockerflowMiddleware) is None
