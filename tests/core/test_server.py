"""The middleware and the port of `serve_in_background`; tests/integration has the rest."""

from __future__ import annotations

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix
from wsgi import hello

from dockerflow_wsgi import (
    CheckRegistry,
    ConfigurationError,
    DockerflowMiddleware,
    serve_in_background,
)
from dockerflow_wsgi.server import get_middleware
from dockerflow_wsgi.settings import read_port


def test_a_registry_gets_a_middleware_with_the_options():
    """The options of the middleware can be passed with a registry."""
    registry = CheckRegistry()
    middleware = get_middleware(registry, check_timeout=2)
    assert middleware.registry is registry
    assert middleware.settings.check_timeout == 2


def test_the_middleware_of_an_app_is_found():
    """The app may be the middleware itself, or be wrapped in others."""
    middleware = DockerflowMiddleware(hello)
    assert get_middleware(middleware) is middleware
    assert get_middleware(ProxyFix(ProxyFix(middleware))) is middleware


def test_an_app_without_a_middleware_is_a_configuration_error():
    """The error suggests to wrap the app."""
    with pytest.raises(ConfigurationError, match="no DockerflowMiddleware: wrap it in one first"):
        serve_in_background(hello)


def test_other_objects_and_options_are_a_type_error():
    """Other objects, options with an app, and unknown options are refused."""
    with pytest.raises(TypeError, match="a CheckRegistry or a WSGI application, not a list"):
        serve_in_background([])
    with pytest.raises(TypeError, match="check_timeout: pass options to the app's own"):
        serve_in_background(DockerflowMiddleware(hello), check_timeout=1)
    with pytest.raises(TypeError, match="'timeout'"):
        serve_in_background(CheckRegistry(), timeout=1)


@pytest.mark.parametrize("port", ["eight", "80.5", "-1", "65536", "0x50"])
def test_a_wrong_port_is_a_configuration_error(monkeypatch, port):
    """The error has the source, the value and the accepted range."""
    monkeypatch.setenv("PORT", port)
    with pytest.raises(ConfigurationError) as caught:
        serve_in_background(CheckRegistry())
    expected = f"port = '{port}' (environment variable PORT): expected a port number"
    assert expected in str(caught.value)
    with pytest.raises(ConfigurationError, match="argument port"):
        serve_in_background(CheckRegistry(), port=port)


def test_the_port_is_8000_by_default(monkeypatch):
    """An argument wins over $PORT, and a blank $PORT counts as unset."""
    monkeypatch.setenv("PORT", " 8080 ")
    assert (read_port(None), read_port("9000"), read_port(0)) == (8080, 9000, 0)
    monkeypatch.setenv("PORT", " ")
    assert read_port(None) == 8000
    monkeypatch.delenv("PORT")
    assert read_port(None) == 8000
