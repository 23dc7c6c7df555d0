"""`serve_in_background` serves the endpoints of a process that has no HTTP server."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import ExitStack
from select import select

import pytest
from probing import heartbeat, lbheartbeat_status, probe, talk
from programs import run_python
from servers import free_port
from waiting import TIMEOUT_S, wait_until
from werkzeug.middleware.proxy_fix import ProxyFix
from wsgi import hello

from dockerflow_wsgi import CheckRegistry, DockerflowMiddleware, checks, serve_in_background
from dockerflow_wsgi.server import MAX_SLOW_THREADS, MAX_THREADS, MAX_WAITING


@pytest.fixture
def registry():
    """Make a registry with one check that passes."""
    registry = CheckRegistry()
    registry.check(lambda: [], name="fine")
    return registry


@pytest.fixture
def serve():
    """Return a function that serves on loopback, at any port, until the end of the test."""
    with ExitStack() as stack:

        def start(registry, *, host="127.0.0.1", port=0, **options):
            return stack.enter_context(
                serve_in_background(registry, host=host, port=port, **options)
            )

        yield start


@pytest.fixture
def gate(registry):
    """Register a check that waits until the gate is open."""
    gate = threading.Event()
    gate.is_reached = threading.Event()

    @registry.check(name="waits")
    def waits():
        gate.is_reached.set()
        gate.wait(TIMEOUT_S)

    yield gate
    gate.set()


class TestEndpoints:
    """The three endpoints of a registry or an app are served, and nothing else."""

    def test_the_three_endpoints_are_served_and_nothing_else(
        self, registry, serve, version_directory
    ):
        """A registry's endpoints are served; the 404 of other paths names them."""
        port = serve(registry, version_path=version_directory).port
        assert probe(port, "/__lbheartbeat__").startswith(b"HTTP/1.0 200 OK\r\n")
        assert b'"checks": {"fine": "ok"}' in probe(port, "/__heartbeat__/")
        assert b'"commit": "abc"' in probe(port, "/__version__")
        nothing = probe(port, "/")
        assert nothing.startswith(b"HTTP/1.0 404 Not Found\r\n")
        assert (
            b"/ is not served here, only /__version__, /__lbheartbeat__, /__heartbeat__" in nothing
        )
        assert b"405 Method Not Allowed" in probe(port, "/__heartbeat__", "POST")

    @pytest.mark.parametrize("path", ["/__lbheartbeat__", "/__heartbeat__", "/__version__", "/"])
    def test_head_has_no_body(self, registry, serve, path):
        """A response to HEAD has the length of GET's body."""
        port = serve(registry).port
        head, _, body = probe(port, path, "HEAD").partition(b"\r\n\r\n")
        assert b"Content-Length: " in head
        assert body == b""

    def test_an_apps_endpoints_are_served_and_no_page(self, serve):
        """The app may be wrapped in other middlewares; its checks run, and its pages are a 404."""
        app = DockerflowMiddleware(hello)
        app.check(lambda: checks.Error("no"), name="own")
        port = serve(ProxyFix(app)).port
        assert heartbeat(port)[1]["checks"] == {"own": "error"}
        assert probe(port, "/").startswith(b"HTTP/1.0 404 Not Found")

    def test_options_are_passed_to_the_middleware(self, registry, serve):
        """Settings and hooks are passed to the registry's middleware."""
        reports = []
        registry.check(lambda: checks.Warning("slow"), name="slow")
        port = serve(registry, heartbeat_failed_level="error", on_heartbeat=reports.append).port
        assert heartbeat(port)[0] == 200
        assert [report.status for report in reports] == ["warning"]

    def test_when_disabled_nothing_is_served(self, registry, serve, listen, monkeypatch):
        """With ``DOCKERFLOW_DISABLED``, nothing listens, neither for a registry nor for an app."""
        records = listen("dockerflow_wsgi")
        monkeypatch.setenv("DOCKERFLOW_DISABLED", "1")
        assert serve(registry).port is None
        assert "Dockerflow is disabled: no endpoints" in records[0].getMessage()
        assert serve(DockerflowMiddleware(hello)).port is None

    def test_an_endpoint_that_raises_is_logged_and_answered_with_500(self, serve, listen, capfd):
        """The traceback of an endpoint is in the log, and nothing is on stderr."""
        records = listen("dockerflow_wsgi", logging.ERROR)
        app = DockerflowMiddleware(hello, error_endpoint=True)
        assert b" 500 Internal Server Error\r\n" in probe(serve(app).port, "/__error__")
        assert "RuntimeError: /__error__ raises" in records[-1].exc_text
        assert capfd.readouterr().err == ""

    def test_the_environ_describes_the_server(self, serve):
        """The environ has the client and the server, and no environment variable."""
        seen = {}
        app = DockerflowMiddleware(
            hello, heartbeat_details=lambda environ: not seen.update(environ)
        )
        port = serve(app).port
        probe(port, "/__heartbeat__?a=b")
        assert (seen["wsgi.multithread"], seen["QUERY_STRING"]) == (True, "a=b")
        assert (seen["REMOTE_ADDR"], seen["SERVER_PORT"]) == ("127.0.0.1", str(port))
        assert "PATH" not in seen


class TestAddress:
    """An address that cannot be listened on is an error in the log, and the worker continues."""

    def test_the_default_port_is_the_environments(self, registry, serve, monkeypatch):
        """Without an argument, the port is ``$PORT``."""
        port = free_port()
        monkeypatch.setenv("PORT", f" {port} ")
        assert serve(registry, port=None).port == port

    def test_a_port_of_another_process_is_an_error_in_the_log(self, registry, listen):
        """The error has the port, a command that finds the process, and the remedy."""
        records = listen("dockerflow_wsgi")
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            server = serve_in_background(registry, host="127.0.0.1", port=port)
            assert server.port is None
            server.stop()
        (record,) = records
        assert record.levelno == logging.ERROR
        text = record.getMessage()
        assert f"port {port} is taken;  ss -ltnp 'sport = :{port}'  shows by which process" in text
        assert "Give each process its own port (PORT=..., port=...)" in text

    def test_a_second_server_at_the_same_port_is_an_error_in_the_log(self, registry, serve, listen):
        """A port of this process is reported in the same way, and its server is not affected."""
        port = serve(registry).port
        records = listen("dockerflow_wsgi", logging.ERROR)
        assert serve(registry, port=port).port is None
        assert f"port {port} is taken" in records[0].getMessage()
        assert lbheartbeat_status(port) == 200

    def test_a_host_of_another_machine_is_an_error_in_the_log(self, registry, serve, listen):
        """The error has the address and the remedy."""
        records = listen("dockerflow_wsgi")
        assert serve(registry, host="192.0.2.1").port is None  # for documentation (RFC 5737)
        assert "cannot listen at 192.0.2.1 port 0" in records[0].getMessage()
        assert "Use an address of this machine" in records[0].getMessage()

    @pytest.mark.parametrize("host", ["é..b", f"{'x' * 64}.test", "a\0b"])
    def test_an_invalid_host_is_an_error_in_the_log(self, registry, serve, listen, host):
        """A host that cannot be a name is reported, and does not stop the worker."""
        records = listen("dockerflow_wsgi")
        assert serve(registry, host=host).port is None
        assert f"cannot listen at {host} port 0" in records[0].getMessage()

    def test_a_password_in_the_host_is_not_logged(self, registry, serve, listen):
        """A URL with a password, given as the host, is logged without the password."""
        records = listen("dockerflow_wsgi")
        assert serve(registry, host="redis://:s3cr3t@db").port is None
        assert "cannot listen at redis://:***@db port 0" in records[0].getMessage()

    def test_without_threads_the_worker_continues(self, registry, serve, listen, monkeypatch):
        """If no thread can be started, the error is logged, and the port is free again."""
        records = listen("dockerflow_wsgi")

        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert serve(registry).port is None
        assert "cannot start a thread: can't start new thread" in records[0].getMessage()
        assert lbheartbeat_status(serve(registry).port) == 200

    def test_ipv6(self, registry, serve):
        """The host can be ``::1`` or ``::``, which also accepts IPv4."""
        try:
            with socket.socket(socket.AF_INET6) as other:
                other.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"there is no IPv6 on this machine: {error}")
        assert serve(registry, host="::1").port
        assert lbheartbeat_status(serve(registry, host="::").port) == 200


class TestStop:
    """`stop` ends the server; responses in progress are completed."""

    def test_stop_is_quick(self, registry):
        """`stop` wakes the thread that listens instead of waiting for its next poll."""
        started_s = time.monotonic()
        for _ in range(40):  # 0.1 s, or 20 s with a wait for the poll
            serve_in_background(registry, host="127.0.0.1", port=0).stop()
        assert time.monotonic() - started_s < 10

    def test_stop_frees_the_port(self, registry):
        """The port is free after the end of the context and after `stop`, which may be repeated."""
        with serve_in_background(registry, host="127.0.0.1", port=0) as server:
            port = server.port
        assert server.port is None
        assert lbheartbeat_status(port) is None
        server.stop()
        with serve_in_background(registry, host="127.0.0.1", port=port) as again:
            assert again.port == port

    def test_stop_waits_for_responses_in_progress_and_not_for_idle_clients(
        self, registry, serve, gate
    ):
        """A heartbeat that was requested before `stop` is still answered."""
        server = serve(registry)
        with (
            socket.create_connection(("127.0.0.1", server.port)) as idle,
            ask(server.port) as asking,
        ):
            assert gate.is_reached.wait(TIMEOUT_S)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            assert idle.recv(1) == b""
            stopping.join(0.2)
            assert stopping.is_alive()
            gate.set()
            assert b" 200 OK\r\n" in read(asking)
            stopping.join()

    def test_a_request_may_stop_the_server(self, serve):
        """`stop` in a request does not wait for the response of that request."""
        app = DockerflowMiddleware(hello)
        app.version_callback(lambda _root: server.stop() or {"commit": "abc"})
        server = serve(app)
        assert b'"commit": "abc"' in probe(server.port, "/__version__")
        wait_until(lambda: server.port is None)

    def test_its_thread_has_a_name_and_ends_with_the_server(self, registry, serve):
        """The thread is called "dockerflow server", as profilers show it, and `stop` ends it."""
        before = set(threading.enumerate())
        server = serve(registry)
        started = set(threading.enumerate()) - before
        (thread,) = [thread for thread in started if thread.name == "dockerflow server"]
        server.stop()
        assert not thread.is_alive()


def ask(port, path="/__heartbeat__"):
    """Send a request, and return the connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return connection


def read(connection):
    """Read until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


class TestClients:
    """Slow, idle and invalid clients do not delay probers."""

    @pytest.mark.parametrize("sent", [b"", b"GET /__heart", b"GET / HTTP/1.0\r\nHost: a\r\n"])
    def test_an_incomplete_request_times_out(self, registry, serve, listen, monkeypatch, sent):
        """The client of an incomplete request gets a 408, and no error is logged."""
        records = listen("dockerflow_wsgi", logging.INFO)
        monkeypatch.setattr("dockerflow_wsgi.server._IO_TIMEOUT_S", 0.05)
        with socket.create_connection(("127.0.0.1", serve(registry).port), TIMEOUT_S) as slow:
            slow.sendall(sent)
            assert read(slow).startswith(b"HTTP/1.0 408 Request Timeout\r\n")
        assert [record.levelno for record in records] == [logging.INFO]  # the address

    def test_a_request_may_arrive_in_pieces(self, registry, serve):
        """A slow client is served when its request is complete."""
        with socket.create_connection(("127.0.0.1", serve(registry).port), TIMEOUT_S) as slow:
            for piece in (b"GET /__lbheart", b"beat__ HTTP/1.1\r\n", b"Host: a\r\n\r", b"\n"):
                slow.sendall(piece)
                time.sleep(0.02)
            assert b" 200 OK\r\n" in read(slow)

    def test_every_response_frees_its_thread(self, registry, serve):
        """More requests than there are threads are served, one after the other."""
        port = serve(registry).port
        for _ in range(MAX_THREADS + 1):
            assert heartbeat(port)[0] == 200

    def test_probers_are_served_when_threads_can_be_started_again(
        self, registry, serve, monkeypatch
    ):
        """A prober without a thread is disconnected, and does not count as one in progress."""
        port = serve(registry).port
        start = threading.Thread.start

        def fail(thread):
            if thread.name == "dockerflow probe":
                raise RuntimeError("can't start new thread")
            start(thread)

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", fail)
            for _ in range(MAX_THREADS + 1):
                with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as refused:
                    refused.sendall(b"GET /__lbheartbeat__ HTTP/1.0\r\n\r\n")
                    assert refused.recv(1) == b""
        assert lbheartbeat_status(port) == 200

    def test_idle_and_slow_clients_do_not_delay_probers(self, registry, serve, monkeypatch):
        """Clients without a complete request have no thread, and the oldest ones are dropped."""
        monkeypatch.setattr("dockerflow_wsgi.server._IO_TIMEOUT_S", 10 * TIMEOUT_S)
        port = serve(registry).port
        before = threading.active_count()
        with ExitStack() as stack:
            idle = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                for _ in range(2 * MAX_WAITING)
            ]
            for connection in idle[1::2]:
                connection.sendall(b"GET /__heart")
            assert lbheartbeat_status(port) == 200
            assert heartbeat(port)[0] == 200
            assert threading.active_count() <= before + 4  # of the response and its check
            idle[0].settimeout(TIMEOUT_S)
            assert idle[0].recv(1) == b"H"
            idle[-2].sendall(b"GET /__lbheartbeat__ HTTP/1.0\r\n\r\n")
            assert b" 200 OK\r\n" in read(idle[-2])

    @pytest.mark.parametrize("path", ["/__heartbeat__", "/__version__"])
    def test_hanging_requests_leave_threads_for_lbheartbeat(self, registry, serve, gate, path):
        """A check or a version callback may hang; requests above the limit are refused quickly."""
        app = DockerflowMiddleware(hello, registry=registry, check_timeout=TIMEOUT_S)
        app.version_callback(lambda _root: {"released": gate.wait(TIMEOUT_S)})
        port = serve(app).port
        with ExitStack() as stack:
            waiting = [stack.enter_context(ask(port, path)) for _ in range(2 * MAX_THREADS)]
            refused = []
            while len(waiting) > MAX_SLOW_THREADS:
                answered = select(waiting, [], [], TIMEOUT_S)[0]
                assert answered
                refused += [read(connection) for connection in answered]
                waiting = [connection for connection in waiting if connection not in answered]
            assert lbheartbeat_status(port) == 200
            gate.set()
            served = [read(connection) for connection in waiting]
        assert all(b" 200 OK\r\n" in answer for answer in served)
        assert all(b" 503 Service Unavailable\r\n" in answer for answer in refused)

    @pytest.mark.parametrize(
        ("sent", "answer"),
        [
            (b"\x16\x03\x01\x02\x00\x01\n\n", b"400"),  # a TLS handshake
            (b"GET /" + 70_000 * b"x" + b" HTTP/1.0\r\n\r\n", b"431"),
            (b"GET / HTTP/1.0\r\n" + 200 * b"X: y\r\n" + b"\r\n", b"431"),
            (b"GET\r\n\r\n", b"400"),
            (b"GET /__lbheartbeat__\r\n\r\n", b"400"),  # HTTP/0.9
            (b"", b""),
        ],
    )
    def test_an_invalid_request_gets_an_error_and_nothing_is_on_stderr(
        self, registry, serve, capfd, sent, answer
    ):
        """The client of an invalid request gets an error status, and the next prober is served."""
        port = serve(registry).port
        assert answer in talk(port, sent)
        assert lbheartbeat_status(port) == 200
        assert capfd.readouterr().err == ""


# From Python 3.12 on, a fork in a process with threads is a DeprecationWarning.
STRICT = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
SETUP = """
import os, psutil, signal, socket, threading
from dockerflow_wsgi import CheckRegistry, serve_in_background
from probing import heartbeat, lbheartbeat_status, listening_ports
registry = CheckRegistry()
def serve(port=0):
    return serve_in_background(registry, host="127.0.0.1", port=port)
def in_child(function):
    child = os.fork()
    if not child:
        signal.alarm(60)  # a child that hangs must not outlive the test
        try:
            function()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


class TestForks:
    """A forked child has no endpoints of its parent, and can serve others."""

    def test_a_child_does_not_hold_the_port_and_can_serve_another_one(self):
        """A forked child does not answer for its parent, and can have separate endpoints."""
        code = """
parent = serve()
port = parent.port
def child():
    print(parent.port, listening_ports(psutil.Process()), flush=True)
    parent.stop()
    with serve() as own:
        print(lbheartbeat_status(own.port), listening_ports(psutil.Process()) == [own.port])
    print(own.port, listening_ports(psutil.Process()), flush=True)
in_child(child)
print(heartbeat(port)[0])
"""
        assert run_python(SETUP + code, *STRICT) == ["None []", "200 True", "None []", "200"]

    def test_a_child_can_serve_from_any_thread(self):
        """The lock that a fork takes is free in the child."""
        code = """
parent = serve()
def child():
    own = []
    thread = threading.Thread(target=lambda: own.append(serve()), daemon=True)
    thread.start()
    thread.join(20)
    print([lbheartbeat_status(server.port) for server in own], flush=True)
in_child(child)
"""
        assert run_python(SETUP + code, *STRICT) == ["[200]"]

    def test_a_child_closes_the_connections_of_its_parents_probers(self):
        """A fork during a response closes the connection in the child only."""
        code = """
asked, forked = threading.Event(), threading.Event()
registry.check(lambda: asked.set() or forked.wait(20) and None, name="waits")
port = serve().port
def child():
    found = psutil.Process().net_connections(kind="tcp")
    print([connection for connection in found if connection.laddr.port == port], flush=True)
prober = threading.Thread(target=lambda: print(heartbeat(port)[0]))
prober.start()
asked.wait()
in_child(child)
forked.set()
prober.join()
"""
        assert run_python(SETUP + code, *STRICT) == ["[]", "200"]

    def test_a_child_that_outlives_the_server_does_not_keep_the_port(self):
        """The port is free when the parent has stopped, even if a child is still running."""
        code = """
read, write = os.pipe()
server = serve()
port = server.port
if not os.fork():
    os.close(write)
    os.read(read, 1)
    os._exit(0)
server.stop()
print(lbheartbeat_status(port))
with serve(port) as again:
    print(again.port == port)
os.close(write)
os.wait()
"""
        assert run_python(SETUP + code, *STRICT) == ["None", "True"]

    def test_each_of_many_forked_workers_is_served(self):
        """Forks are safe while another thread of the parent starts and stops servers."""
        code = """
stopped = threading.Event()
def starts_and_stops():
    while not stopped.is_set():
        serve().stop()
thread = threading.Thread(target=starts_and_stops)
thread.start()
def child():
    print(listening_ports(psutil.Process()), end=" ")
    with serve() as own:
        print(lbheartbeat_status(own.port), flush=True)
for _ in range(30):
    in_child(child)
stopped.set()
thread.join()
"""
        assert run_python(SETUP + code, *STRICT) == 30 * ["[] 200"]

    def test_the_server_does_not_keep_the_process_alive(self):
        """Neither a heartbeat that hangs nor a silent client keeps the process alive."""
        code = """
release = threading.Event()
asked = threading.Event()
registry.check(lambda: asked.set() or release.wait(600), name="hangs")
server = serve()
idle = socket.create_connection(("127.0.0.1", server.port))
idle.sendall(b"GET /__heartbeat__ HTTP/1.0\\r\\n\\r\\n")
asked.wait()
idle.detach()
print("end")
"""
        assert run_python(SETUP + code, *STRICT) == ["end"]

    def test_parent_and_child_are_served_under_gevent(self):
        """With gevent's monkey patching, parent and child serve separate endpoints."""
        code = """
from gevent import monkey; monkey.patch_all()
import gevent
"""
        rest = """
parent = serve()
port = parent.port
def child():
    gevent.sleep(0.1)
    print(parent.port, lbheartbeat_status(serve().port), flush=True)
in_child(child)
print(lbheartbeat_status(port))
"""
        assert run_python(code + SETUP + rest, *STRICT) == ["None 200", "200"]
