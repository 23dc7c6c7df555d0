"""The endpoints respond in front of an app of each framework, over a real server."""

from __future__ import annotations

import json
from typing import NamedTuple
from wsgiref.validate import validator

import pytest
from frameworks import django_app, pages
from frameworks.answer import ask
from probing import probe
from servers import wsgiref_server

from dockerflow_wsgi import DockerflowMiddleware


class Reply(NamedTuple):
    """The complete response of a server."""

    status: bytes
    head: bytes
    body: bytes


def get(port, path):
    """Send a request as HAProxy does, and read until the server closes the connection."""
    head, _, body = probe(port, path).partition(b"\r\n\r\n")
    return Reply(head.split(b"\r\n")[0].partition(b" ")[2], head, body)


def test_pages_and_probes_are_valid_wsgi(framework, summaries, version_directory, monkeypatch):
    """Pages and probes are valid WSGI on both sides of the middleware."""
    monkeypatch.setenv("DOCKERFLOW_VERSION_PATH", str(version_directory))
    with wsgiref_server(validator(framework.wrapped(validator))) as port:
        page = get(port, "/page")
        assert page.status == b"200 OK"
        assert page.body == pages.GREETING.encode()
        stream = get(port, "/stream")
        with open(pages.FILE, "rb") as file:
            assert get(port, "/file").body == file.read()
        assert json.loads(get(port, "/__version__").body)["build"] == "42"
    paths = ["/page", "/stream", "/file", "/__version__"]
    assert [summary.path for summary in summaries] == paths
    assert b"X-Request-ID: " + summaries[0].rid.encode() in page.head
    assert stream.body.count(summaries[1].rid.encode()) == 3


@pytest.mark.parametrize("path", ["/__lbheartbeat__", "/__heartbeat__"])
def test_a_plain_probe_is_answered(framework, path):
    """A probe without a ``Host``, as HAProxy sends it, is answered."""
    with wsgiref_server(framework.wrapped()) as port:
        assert get(port, path).status == b"200 OK"


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        pytest.param({"allowed_hosts": []}, b"400 Bad Request", id="ALLOWED_HOSTS"),
        pytest.param({"ssl_redirect": True}, b"301 Moved Permanently", id="SECURE_SSL_REDIRECT"),
    ],
)
def test_probes_that_django_would_refuse_are_answered(refusal, status):
    """Django's host check and its redirect to HTTPS do not affect probes."""
    app = DockerflowMiddleware(django_app.make_app(**refusal))
    with wsgiref_server(app) as port:
        assert get(port, "/page").status == status
        assert get(port, "/__lbheartbeat__").status == b"200 OK"
        assert get(port, "/__heartbeat__").status == b"200 OK"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_no_endpoint_calls_the_app(framework, method):
    """The middleware handles every method of an endpoint without calling the app."""

    def forbidden(_app):
        def app(_environ, _start_response):
            raise AssertionError("the app was called")

        return app

    answer = ask(framework.wrapped(forbidden), "/__heartbeat__", method)
    assert answer.status == ("405 Method Not Allowed" if method == "POST" else "200 OK")
