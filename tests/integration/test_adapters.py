"""Responses end, and are logged, below adapters that never call ``close()``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import warnings
from http.client import HTTPException
from types import SimpleNamespace

import adapter_app
import pytest
import serverless_wsgi
from a2wsgi import WSGIMiddleware as A2wsgiMiddleware
from apig_wsgi import make_lambda_handler
from asgiref.wsgi import WsgiToAsgi
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from programs import ROOT, running
from waiting import wait_until
from wsgi import call, make_environ

from dockerflow_wsgi import get_request_id

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "starlette.middleware.wsgi is deprecated")
    from starlette.middleware.wsgi import WSGIMiddleware as StarletteMiddleware

PAGES = {
    "/list": b"list",
    "/generator": b"0 rid-1\n1 rid-1\n2 rid-1\n",
    "/flask": b"flask",
    "/broken": None,
    "/unclosable": None,
}
"""Each page's path and body; ``None`` where the body or its ``close()`` raises."""


async def fetch_asgi(app, path, request_id):
    """Request a page from an ASGI app, and return the body."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"x-request-id", request_id.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent = []
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return requests.pop() if requests else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent)


def asgi_client(app):
    """Return a function that requests pages, all in one task of one event loop."""

    def fetch(*requests):
        async def run():
            bodies = []
            for path, request_id in requests:
                with contextlib.suppress(RuntimeError):
                    bodies.append(await fetch_asgi(app, path, request_id))
                assert get_request_id() is None
            return bodies

        return asyncio.run(run())

    return fetch


def wsgi_client(fetch_one):
    """Return a function that requests pages in this thread."""

    def fetch(*requests):
        bodies = []
        for path, request_id in requests:
            with contextlib.suppress(RuntimeError):
                bodies.append(fetch_one(path, request_id))
        return bodies

    return fetch


def lambda_event(path, request_id):
    """Return the event of AWS's HTTP API for a request, format 2.0."""
    http = {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "localhost", "x-request-id": request_id},
        "requestContext": {"http": {**http, "userAgent": "test"}, "stage": "$default"},
        "isBase64Encoded": False,
    }


def fetch_serverless_wsgi(path, request_id):
    """Request a page by way of serverless-wsgi."""
    event = lambda_event(path, request_id)
    return serverless_wsgi.handle_request(adapter_app.application, event, SimpleNamespace())[
        "body"
    ].encode()


def fetch_apig_wsgi(path, request_id):
    """Request a page by way of apig-wsgi."""
    handler = make_lambda_handler(adapter_app.application)
    return handler(lambda_event(path, request_id), SimpleNamespace())["body"].encode()


def fetch_open_telemetry(path, request_id):
    """Request a page by way of OpenTelemetry's middleware around ours."""
    app = OpenTelemetryMiddleware(adapter_app.application, tracer_provider=TracerProvider())
    return call(app, make_environ(path, HTTP_X_REQUEST_ID=request_id))[1]


ADAPTERS = {
    "asgiref": lambda: asgi_client(WsgiToAsgi(adapter_app.application)),
    "Starlette": lambda: asgi_client(StarletteMiddleware(adapter_app.application)),
    "a2wsgi": lambda: asgi_client(A2wsgiMiddleware(adapter_app.application, workers=1)),
    "OpenTelemetry": lambda: wsgi_client(fetch_open_telemetry),
    "OpenTelemetry-asgiref": lambda: asgi_client(
        WsgiToAsgi(
            OpenTelemetryMiddleware(adapter_app.application, tracer_provider=TracerProvider())
        )
    ),
    "serverless-wsgi": lambda: wsgi_client(fetch_serverless_wsgi),
    "apig-wsgi": lambda: wsgi_client(fetch_apig_wsgi),
}


@pytest.fixture(params=ADAPTERS)
def fetch(request):
    """Return a function that requests pages through an adapter in this process."""
    return ADAPTERS[request.param]()


@pytest.mark.parametrize("path", PAGES)
def test_the_response_ends(fetch, listen, summaries, path):
    """A request has one summary and one ``close()``, and its thread then has no request ID."""
    closed = listen("adapter_app")
    *pages, outside = fetch((path, "rid-1"), ("/outside", "rid-2"))
    body = PAGES[path]
    assert pages == ([] if body is None else [body])
    (summary,) = summaries
    assert (summary.path, summary.code, summary.rid) == (path, 200, "rid-1")
    assert summary.getMessage() == (adapter_app.BROKEN if body is None else "")
    assert [record.rid for record in closed] == ["rid-1"]
    assert json.loads(outside) == [summary.served_by, None]


def test_a_body_that_open_telemetry_does_not_close(summaries):
    """A body that OpenTelemetry neither reads nor closes ends when it is dropped."""
    app = OpenTelemetryMiddleware(adapter_app.application, tracer_provider=TracerProvider())
    body = app(make_environ("/generator", HTTP_X_REQUEST_ID="rid-1"), lambda *_: None)
    body.close()
    del body
    assert [summary.rid for summary in summaries] == ["rid-1"]
    assert get_request_id() is None


@pytest.fixture(scope="module")
def uvicorn():
    """Serve the app with uvicorn's WSGI mode."""
    command = [
        *(sys.executable, "-m", "uvicorn", "--interface", "wsgi", "--factory", "--port", "0"),
        *("--app-dir", "tests/integration", "adapter_app:set_up_logging"),
    ]
    with running(command, cwd=ROOT) as program:
        line = program.wait_for("Uvicorn running on")
        program.port = int(line.split("http://127.0.0.1:")[1].split()[0])
        yield program


@pytest.mark.parametrize("path", PAGES)
def test_the_response_ends_in_uvicorns_wsgi_mode(uvicorn, path):
    """A request has one summary and one ``close()``, and its thread then has no request ID."""
    request_id = f"uvicorn-{path[1:]}"
    with contextlib.suppress(HTTPException):  # uvicorn cuts off the body of an app that raised
        uvicorn.get(path, **{"X-Request-ID": request_id})

    def logged(logger):
        return [fields for fields in uvicorn.logged(logger) if fields["rid"] == request_id]

    wait_until(lambda: logged("request.summary"))
    (summary,) = logged("request.summary")
    assert (summary["path"], summary["code"]) == (path, 200)
    assert len(logged("adapter_app")) == 1

    def has_no_request_id():
        return uvicorn.get("/outside").json() == [summary["served_by"], None]

    wait_until(has_no_request_id)
    assert len(logged("request.summary")) == 1
