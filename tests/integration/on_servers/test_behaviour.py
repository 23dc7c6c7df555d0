"""On every server, the endpoints respond, requests are logged, and nothing else changes."""

from __future__ import annotations

import json
import signal
import threading
import time
import uuid

from on_servers.running import running
from on_servers.wire import ENDPOINTS, Gate, Wire, comparable, request
from waiting import TIMEOUT_S

SLOW_CLIENTS = 100


class TestEndpoints:
    """The endpoints respond, with the documented methods and headers."""

    def test_endpoints(self, server):
        """The endpoints respond with the request's ID, and are logged at DEBUG."""
        for path, body in zip(
            ENDPOINTS,
            (
                b'{"source": "", "version": "1", "commit": "abc", "build": ""}\n',
                b'{"status": "ok", "checks": {"fine": "ok"}, "details": {}}\n',
                b"",
            ),
            strict=True,
        ):
            rid, response = server.ask("GET", path)
            assert (response.status, response.body) == (200, body)
            assert response.header("Content-Type") == "application/json"
            assert response.header("Content-Length") == str(len(body))
            assert response.header("Cache-Control") == "no-store"
            assert response.header("X-Request-ID") == rid
            assert server.log.wait_for("rid", rid)["Severity"] == 7

    def test_head(self, server):
        """A response to ``HEAD`` has no bytes after the headers."""
        for path in ENDPOINTS:
            with Wire(server.port) as wire:
                wire.send(request("HEAD", path, "Connection: close"))
                head, body = wire.rest().split(b"\r\n\r\n", 1)
            assert head.split()[1] == b"200"
            assert body == b""

    def test_head_has_the_headers_of_get(self, server):
        """A response to ``HEAD`` has the content length of the body that ``GET`` returns."""
        for path in ENDPOINTS:
            _rid, get = server.ask("GET", path)
            _rid, head = server.ask("HEAD", path)
            assert comparable(head)[:2] == comparable(get)[:2]

    def test_method_not_allowed(self, server):
        """A method other than ``GET``, ``HEAD`` and ``OPTIONS`` gets 405 and ``Allow``."""
        for path in ENDPOINTS:
            _rid, response = server.ask("POST", path, body=b"x=1")
            assert response.status == 405
            assert response.header("Allow") == "GET, HEAD, OPTIONS"


class TestApp:
    """The app's responses are the same as without the middleware."""

    def test_page_is_untouched(self, server):
        """A page is the same as without the middleware, except for the request ID."""
        rid, wrapped = server.ask("GET", "/p%C3%A4ge?q=1")
        _rid, bare = server.ask("GET", "/p%C3%A4ge?q=1", bare=True)
        assert wrapped.header("X-Request-ID") == rid
        shown, bare_shown = json.loads(wrapped.body), json.loads(bare.body)
        assert (
            shown["get_request_id"] == shown["dockerflow.request_id"] == shown["HTTP_X_REQUEST_ID"]
        )
        assert shown["get_request_id"] == rid
        assert bare.header("X-Request-ID") is None
        for key in (
            "PATH_INFO",
            "QUERY_STRING",
            "SCRIPT_NAME",
            "REQUEST_METHOD",
            "wsgi.url_scheme",
        ):
            assert shown[key] == bare_shown[key]
        summary = server.log.wait_for("rid", rid)
        assert (summary["Fields"]["code"], summary["Fields"]["path"]) == (200, "/päge")

    def test_request_id(self, server):
        """A request without an ID gets one, which the app, the response and the log have."""
        with Wire(server.port) as wire:
            wire.send(request("GET", "/", "Connection: close"))
            response = wire.read()
        rid = response.header("X-Request-ID")
        assert str(uuid.UUID(rid)) == rid
        assert json.loads(response.body)["get_request_id"] == rid
        assert server.log.wait_for("rid", rid)["Fields"]["path"] == "/"

    def test_streaming(self, server):
        """Each chunk is sent as soon as the app yields it, and sees the request's ID."""
        rid = str(uuid.uuid4())
        with Gate() as gate, Wire(server.port) as wire:
            wire.send(
                request("GET", f"/stream?{gate.query}", f"X-Request-ID: {rid}", "Connection: close")
            )
            response = wire.begin()
            for number in range(5):
                assert response.readline() == f"{number} {rid}\n".encode()
                if number < 4:
                    gate.open()
            assert response.read() == b""
        server.log.wait_for("closed", rid)
        server.log.wait_for("rid", rid)

    def test_file(self, server):
        """A file arrives complete, with the headers of the app without the middleware."""
        rid, wrapped = server.ask("GET", "/file")
        assert wrapped.body == server.file
        assert comparable(wrapped) == comparable(server.ask("GET", "/file", bare=True)[1])
        assert server.log.wait_for("rid", rid)["Fields"]["code"] == 200

    def test_app_raises_before_the_headers(self, server):
        """The client of an app that raises gets the same response as without the middleware."""
        rid, received = server.ask_for_bytes("/raises-before")
        assert received == server.ask_for_bytes("/raises-before", "X-Bare: 1")[1]
        assert received.split()[1:2] in ([b"500"], [])
        summary = server.log.wait_for("rid", rid)
        assert summary["Severity"] == 3
        assert summary["Fields"]["msg"] == "before the headers"
        assert summary["Fields"]["errno"] == 500

    def test_app_raises_after_the_headers(self, server):
        """The client gets the same bytes as without the middleware; the summary has the error."""
        rid, received = server.ask_for_bytes("/raises-after")
        _rid, bare = server.ask_for_bytes("/raises-after", "X-Bare: 1")
        shorter, longer = sorted((received, bare), key=len)
        assert longer.startswith(shorter)
        assert len(longer) == len(shorter) or server.kind.truncates
        summary = server.log.wait_for("rid", rid)
        assert summary["Severity"] == 3
        assert summary["Fields"]["msg"] == "after the headers"
        server.log.wait_for("closed", rid)


class TestConnections:
    """Connections are used as without the middleware."""

    def test_client_hangs_up(self, server):
        """When a client disconnects, the app's body is closed and the summary logged."""
        rid = str(uuid.uuid4())
        with Wire(server.port) as wire:
            wire.send(request("GET", "/endless", f"X-Request-ID: {rid}"))
            assert wire.begin().read(200_000) == b"x" * 200_000
        server.log.wait_for("closed", rid)
        assert server.log.wait_for("rid", rid)["Fields"]["code"] == 200

    def test_keep_alive(self, server):
        """One connection serves several requests, each with its own ID."""
        with Wire(server.port) as wire:
            for path in ("/", "/__heartbeat__", "/raises-nothing", "/__lbheartbeat__", "/"):
                rid = str(uuid.uuid4())
                wire.send(request("GET", path, f"X-Request-ID: {rid}"))
                response = wire.read()
                assert response.header("X-Request-ID") == rid
                assert (response.header("Connection") or "").lower() != "close"
                server.log.wait_for("rid", rid)

    def test_pipelining(self, server):
        """Pipelined requests are answered in order, each with its own ID."""
        rids = [str(uuid.uuid4()) for _ in range(6)]
        paths = ["/", "/__version__", "/upload", "/__lbheartbeat__", "/file", "/__heartbeat__"]
        with Wire(server.port) as wire:
            wire.send(
                b"".join(
                    request("GET", path, f"X-Request-ID: {rid}")
                    for path, rid in zip(paths, rids, strict=True)
                )
            )
            assert [wire.read().header("X-Request-ID") for _ in rids] == rids

    def test_slow_clients(self, server):
        """A hundred clients that send their requests in two halves all get responses."""
        rids = [str(uuid.uuid4()) for _ in range(SLOW_CLIENTS)]
        wires = [Wire(server.port) for _ in rids]
        try:
            data = [
                request("GET", "/", f"X-Request-ID: {rid}", "Connection: close") for rid in rids
            ]
            for wire, sent in zip(wires, data, strict=True):
                wire.send(sent[:40])
            answered = []

            def finish(wire, sent):
                with wire:
                    wire.send(sent[40:])
                    answered.append(wire.read().header("X-Request-ID"))

            threads = [
                threading.Thread(target=finish, args=pair) for pair in zip(wires, data, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for wire in wires:
                wire.__exit__()
        assert sorted(answered) == sorted(rids)
        for rid in rids:
            server.log.wait_for("rid", rid)


class TestProcesses:
    """A server that stops or replaces its workers logs each request once."""

    def test_one_summary_each(self, kind):
        """Each request has exactly one summary when the server has stopped, also after errors."""
        with running(kind) as server:
            rids = []
            for _ in range(3):
                for path in ("/", "/file", "/upload", "/raises-before", *ENDPOINTS):
                    for method in ("GET", "HEAD", "POST"):
                        rid = str(uuid.uuid4())
                        rids.append(rid)
                        with Wire(server.port) as wire:
                            wire.send(
                                request(method, path, f"X-Request-ID: {rid}", "Connection: close")
                            )
                            wire.rest()
            for rid in rids:  # some servers stop before the last summaries are logged
                server.log.wait_for("rid", rid)
            server.stop()
            server.log.drain()
            counted = [line["Fields"]["rid"] for line in server.log.summaries()]
            assert [counted.count(rid) for rid in rids] == [1] * len(rids)
            assert server.log.broken == []

    def test_stop(self, kind):
        """SIGTERM ends the server and all of its processes."""
        with running(kind) as server:
            server.ask("GET", "/__heartbeat__")
            assert server.stop() in {0, -signal.SIGTERM}

    def test_recycling(self, kind):
        """A server that replaces its workers does not lose requests or summaries."""
        with running(kind, *kind.recycling) as server:
            processes = set()
            deadline = time.monotonic() + TIMEOUT_S
            while len(processes) < 3:  # some workers end only a second after their last request
                rid, response = server.ask("GET", "/")
                assert response.status == 200
                processes.add(server.log.wait_for("rid", rid)["Pid"])
                assert time.monotonic() < deadline, f"only {processes} served"
