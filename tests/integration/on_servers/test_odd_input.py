"""On every server, odd input has the same effect as on the app without the middleware."""

from __future__ import annotations

import itertools
import json
import uuid

import pytest
from on_servers.wire import ENDPOINTS, Wire, comparable, request


def exchange(server, *lines, bare=False, body=b""):
    """Send lines unchanged, and return the request's ID and all bytes of the response."""
    rid = str(uuid.uuid4())
    head = [*lines, f"X-Request-ID: {rid}", "Connection: close", *["X-Bare: 1"] * bare, "", ""]
    with Wire(server.port) as wire:
        wire.send("\r\n".join(head).encode("latin-1") + body)
        return rid, wire.rest()


def status_of(received):
    """Return the status code of a response's bytes; ``None`` if there was none."""
    return int(received.split()[1]) if received.startswith(b"HTTP/") else None


@pytest.fixture(autouse=True)
def still_serves(server):
    """Check after each test that the server responds, and that each line of its log is JSON."""
    yield
    rid, response = server.ask("GET", "/__heartbeat__")
    assert response.status == 200
    server.log.wait_for("rid", rid)
    assert server.log.broken == []


ODD_TARGETS = [
    "http://example.com/page?q=1",
    "*",
    "//__heartbeat__",
    "/%5f%5fheartbeat%5f%5f/",
    "/__heartbeat__/",
    "/%ff%fe/%00",
    "/caf\xe9",
    "/a%2Fb;c?d=%ff&e=\xe9",
    "/../x/./y",
    "/" + "long" * 900,
]


def read_environ(received):
    """Return the environ that the app has sent; ``None`` if the app was not called."""
    body = received.partition(b"\r\n\r\n")[2]
    shown = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1]) if b"{" in body else {}
    return shown if "PATH_INFO" in shown else None


def test_odd_targets(server):
    """The app gets the same path as without the middleware, or the server refuses both."""
    for method, target in itertools.product(("GET", "OPTIONS"), ODD_TARGETS):
        line = f"{method} {target} HTTP/1.1"
        _rid, bare = exchange(server, line, "Host: localhost", bare=True)
        rid, wrapped = exchange(server, line, "Host: localhost")
        assert status_of(wrapped) == status_of(bare), line
        expected = read_environ(bare)
        if expected is None:
            continue  # the server has refused the target
        path = expected["PATH_INFO"]
        if path.removesuffix("/") in ENDPOINTS:  # also "//", which some servers normalize
            assert b"cache-control: no-store" in wrapped.lower(), line
        else:
            shown = read_environ(wrapped)
            for key in ("PATH_INFO", "QUERY_STRING", "SCRIPT_NAME"):
                assert shown.get(key) == expected.get(key), line
        path = path.encode("latin-1").decode("utf-8", "replace")
        logged = server.log.wait_for("rid", rid)["Fields"]["path"]
        assert logged == path or path.startswith(logged.removesuffix("...")), line
        assert len(logged) == len(path) or len(logged) > 800, line


def test_absolute_form(server):
    """An absolute-form target finds the endpoint if the server extracts the path (RFC 9112)."""
    _rid, received = exchange(
        server, "GET http://localhost/__lbheartbeat__ HTTP/1.1", "Host: localhost"
    )
    assert status_of(received) == 200
    assert b"cache-control: no-store" in received.lower()


def test_percent_encoded_endpoint(server):
    """A percent-encoded path finds the endpoint, because servers decode the path."""
    _rid, response = server.ask("GET", "/%5f%5fheartbeat%5f%5f")
    assert json.loads(response.body)["status"] == "ok"


def test_plain_http_1_0(server):
    """A probe by HTTP/1.0 without headers, as HAProxy sends it, is answered."""
    for path in ENDPOINTS:
        with Wire(server.port) as wire:
            wire.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert status_of(wire.rest()) == 200


def test_large_header(server):
    """A header of 7.9 kB reaches the app unchanged, or is refused as without the middleware."""
    value = "v" * 7900
    _rid, bare = server.ask("GET", "/", f"X-Large: {value}", bare=True)
    rid, wrapped = server.ask("GET", "/", f"X-Large: {value}", f"User-Agent: {value[:100]}")
    assert wrapped.status == bare.status
    if wrapped.status == 200:
        assert json.loads(wrapped.body)["HTTP_X_LARGE"] == value
        assert server.log.wait_for("rid", rid)["Fields"]["agent"] == value[:100]


def test_odd_request_ids(server):
    """With several or forged IDs, the app, the response and the log have the same ID."""
    for lines in (
        ["X-Request-ID: one", "X-Request-ID: two"],
        ["X-Request-ID: one", "X_Request_ID: two"],
        ["X_Request_ID: two"],
        ["X-Request-ID: " + "x" * 201],
        ["X-Request-ID: caf\xe9"],
        ["X-Request-ID:"],
        ['X-Request-ID: {"a": 1}'],
    ):
        with Wire(server.port) as wire:
            wire.send(request("GET", "/", *lines, "Connection: close"))
            received = wire.rest()
        if status_of(received) == 400:
            continue  # the server refuses such a header
        assert status_of(received) == 200
        shown = read_environ(received)
        rid = shown["dockerflow.request_id"]
        assert rid == shown["HTTP_X_REQUEST_ID"] == shown["get_request_id"]
        assert f"x-request-id: {rid}\r\n" in received.decode("latin-1").lower()
        assert server.log.wait_for("rid", rid)


def test_body_on_a_probe(server):
    """The body of a probe is not read, and does not affect the next request."""
    rid, response = server.ask("GET", "/__heartbeat__", body=b"x" * 100_000)
    assert (response.status, json.loads(response.body)["status"]) == (200, "ok")
    server.log.wait_for("rid", rid)


def test_chunked_upload(server):
    """A chunked upload reaches the app in the same way as without the middleware."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(data), data) for data in (b"a" * 5000, b"b" * 70000))
    lines = ("POST /upload HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked")
    answers = []
    for bare in (True, False):
        _rid, received = exchange(server, *lines, bare=bare, body=chunks + b"0\r\n\r\n")
        answers.append((status_of(received), received.rpartition(b"\r\n\r\n")[2]))
    assert answers[0] == answers[1]


def test_upload(server):
    """An upload with a length reaches the app completely."""
    body = b"ab" * 150_000
    _rid, wrapped = server.ask("POST", "/upload", body=body)
    assert wrapped.body.startswith(b"300000 ")
    assert comparable(wrapped) == comparable(server.ask("POST", "/upload", body=body, bare=True)[1])
