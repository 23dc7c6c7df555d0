"""Other middlewares work inside and outside the middleware, with each framework."""

from __future__ import annotations

import logging
from functools import partial
from wsgiref.validate import validator

import pytest
import sentry_sdk
from frameworks import pages
from frameworks.answer import ask, assert_summary
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from whitenoise import WhiteNoise

from dockerflow_wsgi import ConfigurationError, DockerflowMiddleware, get_request_id


def dispatcher(app):
    """Mount an app at the root of a dispatcher that has another app."""
    return DispatcherMiddleware(app, {"/other": NotFound()})


def open_telemetry(app):
    """Trace an app without an exporter."""
    return OpenTelemetryMiddleware(app, tracer_provider=TracerProvider())


def between(framework, middleware, **options):
    """Make an app with another middleware inside the middleware."""
    return framework.wrapped(middleware, **options)


def around(framework, middleware, **options):
    """Make an app with another middleware outside the middleware."""
    return middleware(framework.wrapped(**options))


ORDERS = [between, around]
MIDDLEWARES = [
    pytest.param(ProxyFix, id="ProxyFix"),
    pytest.param(WhiteNoise, id="WhiteNoise"),
    pytest.param(dispatcher, id="Dispatcher"),
    pytest.param(SentryWsgiMiddleware, id="Sentry"),
    pytest.param(open_telemetry, id="OpenTelemetry"),
]
PATHS = ("/page", "/stream", "/file", "/cookies", "/error")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("middleware", [*MIDDLEWARES, pytest.param(validator, id="validator")])
def test_pages_with_a_middleware_inside(ask_both, middleware, path):
    """Each page is the same with another middleware inside, with one ID and one summary."""
    ask_both(path, middleware=middleware)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_pages_with_a_middleware_outside(framework, summaries, middleware, path):
    """Each page is the same with another middleware outside, with one ID and one summary."""
    expected = ask(middleware(framework.make_app()), path)
    answer = ask(around(framework, middleware), path)
    assert answer.as_unwrapped() == expected.as_unwrapped()
    (summary,) = summaries
    assert_summary(summary, answer, path)
    assert get_request_id() is None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_probes_are_answered(framework, summaries, middleware, order):
    """The endpoints answer with another middleware on either side."""
    app = order(framework, middleware)
    for path in ("/__lbheartbeat__", "/__heartbeat__"):
        answer = ask(app, path)
        assert answer.status == "200 OK"
        assert answer.get("Cache-Control") == "no-store"
    assert [summary.levelno for summary in summaries] == [logging.DEBUG] * 2


@pytest.mark.parametrize("order", ORDERS)
def test_proxy_fix_changes_redirects(framework, order):
    """A redirect leads to the host and the prefix of the client's request."""
    headers = {
        "HTTP_X_FORWARDED_HOST": "acme.test",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_PREFIX": "/shop",
    }
    app = order(framework, partial(ProxyFix, x_host=1, x_prefix=1))
    location = ask(app, "/redirect", **headers).get("Location")
    assert location in {"https://acme.test/shop/page", "/shop/page"}
    assert ask(app, "/__heartbeat__", **headers).status == "200 OK"


@pytest.mark.parametrize(("order", "expected"), [(between, ["/logo.txt"]), (around, [])])
def test_whitenoise_serves_its_files(framework, summaries, tmp_path, order, expected):
    """WhiteNoise's files have summaries inside the middleware, and none outside."""
    (tmp_path / "logo.txt").write_text("logo")

    app = order(framework, partial(WhiteNoise, root=tmp_path))
    assert ask(app, "/logo.txt").body == b"logo"
    assert [summary.path for summary in summaries] == expected


@pytest.fixture
def sentry_events():
    """Collect Sentry's events, without integrations that patch other packages."""
    events = []
    sentry_sdk.init(
        "https://key@127.0.0.1/1",
        auto_enabling_integrations=False,
        default_integrations=False,
        auto_session_tracking=False,
        before_send=lambda event, _hint: events.append(event),
    )
    yield events
    sentry_sdk.get_global_scope().set_client(None)


@pytest.mark.parametrize("path", ["/error", "/breaks"])
@pytest.mark.parametrize("order", ORDERS)
def test_sentry_reports_an_exception_once(framework, summaries, sentry_events, order, path):
    """Sentry and the summary have an exception once each, also in the middle of a stream."""
    app = order(framework, SentryWsgiMiddleware, propagate=True)
    with pytest.raises(ValueError, match="broken view"):
        ask(app, path)
    assert [event["exception"]["values"][-1]["value"] for event in sentry_events] == ["broken view"]
    assert [summary.getMessage() for summary in summaries] == ["broken view"]


def open_telemetry_with_spans():
    """Return OpenTelemetry's middleware and its exporter."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return partial(OpenTelemetryMiddleware, tracer_provider=provider), spans


@pytest.mark.parametrize("order", ORDERS)
def test_open_telemetrys_span_ends_with_the_stream(framework, summaries, order):
    """A request has one span, which ends with the stream, and one summary."""
    traced, spans = open_telemetry_with_spans()
    app = order(framework, traced)
    answer = ask(app, "/stream")
    (span,) = spans.get_finished_spans()
    assert span.attributes["http.status_code"] == 200
    assert_summary(summaries[0], answer, "/stream")
    assert answer.body.count(summaries[0].rid.encode()) == 3


@pytest.mark.parametrize("path", ["/error", "/breaks"])
@pytest.mark.parametrize("order", ORDERS)
def test_open_telemetrys_span_ends_with_an_exception(framework, summaries, order, path):
    """The span and the summary have the exception."""
    traced, spans = open_telemetry_with_spans()
    app = order(framework, traced, propagate=True)
    with pytest.raises(ValueError, match="broken view"):
        ask(app, path)
    (span,) = spans.get_finished_spans()
    assert [event.attributes["exception.message"] for event in span.events] == ["broken view"]
    assert [summary.getMessage() for summary in summaries] == ["broken view"]


def below(prefix, app):
    """Mount an app below a prefix of a dispatcher that has another app."""
    return DispatcherMiddleware(NotFound(), {prefix: app})


def test_mounted_below_a_prefix(framework, summaries):
    """All paths, also of the endpoints, are relative to the mount point; links have the prefix."""
    app = below("/shop", framework.wrapped())
    assert ask(app, "/shop/page").body == pages.GREETING.encode()
    assert ask(app, "/shop/redirect").get("Location") in {
        "http://127.0.0.1/shop/page",
        "/shop/page",
    }
    assert ask(app, "/shop/__heartbeat__").status == "200 OK"
    assert [summary.path for summary in summaries] == ["/page", "/redirect", "/__heartbeat__"]
    assert ask(app, "/__heartbeat__").status == "404 NOT FOUND"


def test_around_a_dispatcher(framework, summaries):
    """The endpoints of a wrapped dispatcher are at the root; other paths reach the app."""
    app = DockerflowMiddleware(below("/shop", framework.make_app()))
    assert ask(app, "/__heartbeat__").status == "200 OK"
    assert ask(app, "/shop/page").body == pages.GREETING.encode()
    assert ask(app, "/shop/__heartbeat__").status.startswith("404 ")
    paths = [summary.path for summary in summaries]
    assert paths == ["/__heartbeat__", "/shop/page", "/shop/__heartbeat__"]


@pytest.mark.parametrize("path", [*PATHS, "/__lbheartbeat__"])
def test_wrapped_twice_unnoticed(framework, summaries, path):
    """A request has one summary and one ID even if a function hides the second middleware."""
    expected = ask(framework.wrapped(), path)
    summaries.records.clear()
    wrapped = framework.wrapped()

    def hide(environ, start_response):
        return wrapped(environ, start_response)

    answer = ask(DockerflowMiddleware(hide), path)
    assert answer.as_unwrapped() == expected.as_unwrapped()
    (summary,) = summaries
    assert_summary(summary, answer, path)


@pytest.mark.parametrize("middleware", [pytest.param(lambda app: app, id="none"), *MIDDLEWARES])
def test_wrapping_twice_is_an_error(framework, middleware):
    """A second middleware is refused, also with another middleware between the two."""
    with pytest.raises(ConfigurationError, match="DockerflowMiddleware: wrap an app only once"):
        DockerflowMiddleware(middleware(framework.wrapped()))
