"""Request IDs: which are accepted, and where they show."""

from __future__ import annotations

import re

import pytest
from wsgi import hello, make_environ, request

from dockerflow_wsgi import DockerflowMiddleware, get_request_id

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def serve(app=hello, environ=None, **settings):
    """Serve a request, and return the response and the environ that the app saw."""
    seen = {}

    def noting(environ, start_response):
        seen.update(environ, current=get_request_id())
        return app(environ, start_response)

    return request(DockerflowMiddleware(noting, **settings), **(environ or {})), seen


@pytest.mark.parametrize(
    "incoming",
    [
        "a",
        "x" * 200,
        "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8",
        "105445aa7843bc8bf206b12000100000/1;o=1",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "AZaz09._:;=+/@~-",
    ],
)
def test_an_incoming_id_is_used(summaries, incoming):
    """In the environ, in the code that runs, in the response and in the summary."""
    response, seen = serve(environ={"HTTP_X_REQUEST_ID": incoming})
    assert seen["dockerflow.request_id"] == incoming
    assert seen["HTTP_X_REQUEST_ID"] == incoming
    assert seen["current"] == incoming
    assert response.headers["X-Request-ID"] == incoming
    assert summaries[0].rid == incoming
    assert get_request_id() is None


@pytest.mark.parametrize(
    "incoming",
    [
        "",
        "x" * 201,
        "two words",
        "a,b",
        "a\n",
        "a\r\nSet-Cookie: b",
        "\u00e9",
        "<script>",
        '"quoted"',
        "{}",
        "a%20b",
        "\x00",
    ],
)
def test_an_unacceptable_id_is_ignored(listen, incoming):
    """It is neither trimmed nor used nor logged; a UUID takes its place, everywhere."""
    records = listen(None)
    app = DockerflowMiddleware(hello)
    environ = make_environ(HTTP_X_REQUEST_ID=incoming)
    headers = {}
    result = app(environ, lambda _status, got, _exc_info=None: headers.update(got))
    result.close()
    made = environ["dockerflow.request_id"]
    assert UUID4.fullmatch(made)
    assert environ["HTTP_X_REQUEST_ID"] == headers["X-Request-ID"] == made
    assert len(records) == 1
    if incoming:
        assert incoming not in map(str, vars(records[0]).values())


def test_an_untrusted_id_is_ignored():
    """With ``trust_request_id=False`` each request gets an ID of our own."""
    response, seen = serve(environ={"HTTP_X_REQUEST_ID": "incoming"}, trust_request_id=False)
    assert UUID4.fullmatch(seen["HTTP_X_REQUEST_ID"])
    assert response.headers["X-Request-ID"] == seen["HTTP_X_REQUEST_ID"]


def test_another_header_can_be_configured():
    """The environ has the ID under that header's key; the response's header stays."""
    response, seen = serve(
        environ={"HTTP_X_CORRELATION_ID": "abc", "HTTP_X_REQUEST_ID": "other"},
        request_id_header="X-Correlation-ID",
    )
    assert seen["dockerflow.request_id"] == seen["HTTP_X_CORRELATION_ID"] == "abc"
    assert seen["HTTP_X_REQUEST_ID"] == "other"
    assert response.headers["X-Request-ID"] == "abc"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HTTP_X_AMZN_TRACE_ID": "Root=1", "HTTP_X_REQUEST_ID": "b"}, "b"),
        ({"HTTP_X_AMZN_TRACE_ID": "Root=1", "HTTP_X_REQUEST_ID": "not ok"}, "Root=1"),
        ({"HTTP_X_AMZN_TRACE_ID": "Root=1"}, "Root=1"),
    ],
)
def test_several_headers_are_asked_in_order(environ, expected):
    """The first acceptable one counts; what it brought is also under the first header's key."""
    _response, seen = serve(environ=environ, request_id_header=["X-Request-ID", "X-Amzn-Trace-Id"])
    assert seen["dockerflow.request_id"] == seen["HTTP_X_REQUEST_ID"] == expected
    assert seen["HTTP_X_AMZN_TRACE_ID"] == "Root=1"


@pytest.mark.parametrize("name", ["X-Request-ID", "x-request-id"])
def test_the_apps_own_header_stays(name):
    """An app that sets the header itself knows why."""

    def app(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), (name, "mine")])
        return [b""]

    response, _seen = serve(app, environ={"HTTP_X_REQUEST_ID": "incoming"})
    assert [v for n, v in response.headers.items() if n.lower() == "x-request-id"] == ["mine"]


def test_the_echo_can_be_switched_off():
    """Then the response is the app's alone, and the endpoints do not tell it either."""
    response, _seen = serve(echo_request_id=False)
    assert "X-Request-ID" not in response.headers
    app = DockerflowMiddleware(hello, echo_request_id=False)
    assert "X-Request-ID" not in request(app, "/__lbheartbeat__").headers


def test_there_is_no_id_outside_a_request():
    """Nothing is served, nothing is told."""
    assert get_request_id() is None
