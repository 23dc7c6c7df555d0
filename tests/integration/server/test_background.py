"""serve_in_background(): the endpoints of a process that serves no HTTP."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from select import select

import psutil
import pytest
from probing import heartbeat, lbheartbeat_status, probe, talk
from programs import ROOT, run
from waiting import TIMEOUT_S, wait_until
from wsgi import hello

from dockerflow_wsgi import (
    CheckRegistry,
    ConfigurationError,
    DockerflowMiddleware,
    checks,
    serve_in_background,
)
from dockerflow_wsgi.server.connection import Connection
from dockerflow_wsgi.server.listener import MAX_SLOW_THREADS, MAX_THREADS


@pytest.fixture
def registry():
    """Make a registry with one check that is well."""
    registry = CheckRegistry()
    registry.check(lambda: [], name="fine")
    return registry


@pytest.fixture
def serve():
    """Return serve_in_background() on loopback, at a free port; stop what it started."""
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
    registry.check(lambda: gate.wait(TIMEOUT_S) and None, name="waits")
    yield gate
    gate.set()


def test_the_three_endpoints_are_served(registry, serve, version_directory):
    """And nothing else, which is said."""
    port = serve(registry, version_path=version_directory).port
    assert probe(port, "/__lbheartbeat__").startswith(b"HTTP/1.0 200 OK\r\n")
    assert b'"checks": {"fine": "ok"}' in probe(port, "/__heartbeat__")
    assert b'"commit": "abc"' in probe(port, "/__version__")
    nothing = probe(port, "/")
    assert nothing.startswith(b"HTTP/1.0 404 Not Found\r\n")
    assert b"there is nothing here but /__lbheartbeat__" in nothing
    assert b"405 Method Not Allowed" in probe(port, "/__heartbeat__", "POST")


@pytest.mark.parametrize("path", ["/__lbheartbeat__", "/__heartbeat__", "/__version__", "/"])
def test_head_has_no_body(registry, serve, path):
    """But the length that GET's would have."""
    port = serve(registry).port
    head, _, body = probe(port, path, "HEAD").partition(b"\r\n\r\n")
    assert b"Content-Length: " in head
    assert body == b""


def test_an_app_is_served_as_it_is(serve):
    """Its own checks answer; wrapping it once more could hide them."""
    app = DockerflowMiddleware(hello)
    app.check(lambda: checks.Error("no"), name="own")
    port = serve(app).port
    assert probe(port, "/").endswith(b"\r\n\r\nhello")
    assert heartbeat(port)[1]["checks"] == {"own": "error"}


def test_options_are_the_middlewares(registry, serve):
    """Settings, hooks and clients."""
    reports = []
    registry.check(lambda: checks.Warning("slow"), name="slow")
    port = serve(registry, heartbeat_failed_level="error", on_heartbeat=reports.append).port
    assert heartbeat(port)[0] == 200
    assert [report.status for report in reports] == ["warning"]


def test_what_cannot_be_served_is_a_type_error(registry):
    """Said where it is called."""
    with pytest.raises(TypeError, match="a CheckRegistry or a WSGI application, not a list"):
        serve_in_background([])
    with pytest.raises(TypeError, match="check_timeout: give the options to the app's own"):
        serve_in_background(hello, check_timeout=1)
    with pytest.raises(TypeError, match="'timeout'"):
        serve_in_background(registry, timeout=1)


@pytest.mark.parametrize("port", ["eight", "80.5", "-1", "65536", "0x50"])
def test_a_port_that_is_no_number_is_a_configuration_error(registry, monkeypatch, port):
    """It names the place, the value and what is accepted."""
    monkeypatch.setenv("PORT", port)
    with pytest.raises(ConfigurationError) as caught:
        serve_in_background(registry)
    assert f"port = '{port}' (environment variable PORT): expected a port number" in str(
        caught.value
    )
    with pytest.raises(ConfigurationError, match="keyword argument port"):
        serve_in_background(registry, port=port)


def test_port_is_the_default(registry, serve, monkeypatch):
    """$PORT, or the 8000 that Dockerflow recommends."""
    from dockerflow_wsgi.server.background import read_port

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
    monkeypatch.setenv("PORT", f" {free} ")
    assert serve(registry, port=None).port == free
    monkeypatch.setenv("PORT", "")
    assert read_port(None) == 8000


def test_a_taken_port_is_an_error_in_the_log_and_no_more(registry, listen):
    """Which port, who has it, what to do; the worker goes on."""
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
    assert f"port {port} is taken: another process listens there, which  ss -ltnp" in text
    assert "Give each process a port of its own (PORT=..., port=...)" in text


def test_a_second_server_at_the_same_port_is_told_so(registry, serve, listen):
    """It is this very process that has it; the first one goes on."""
    port = serve(registry).port
    records = listen("dockerflow_wsgi", logging.ERROR)
    assert serve(registry, port=port).port is None
    assert f"port {port} is taken: this process listens there already" in records[0].getMessage()
    assert lbheartbeat_status(port) == 200


def test_a_host_of_another_machine_is_told_so(registry, serve, listen):
    """As an error in the log, too."""
    records = listen("dockerflow_wsgi")
    assert serve(registry, host="192.0.2.1").port is None  # RFC 5737: nobody's
    assert "cannot listen at 192.0.2.1 port 0" in records[0].getMessage()
    assert "The host must be of this machine" in records[0].getMessage()


@pytest.mark.parametrize("host", ["é..b", f"{'x' * 64}.test", "a\0b"])
def test_a_host_that_is_no_name_is_told_so(registry, serve, listen, host):
    """As any other wrong one: it never stops the worker."""
    records = listen("dockerflow_wsgi")
    assert serve(registry, host=host).port is None
    assert f"cannot listen at {host} port 0" in records[0].getMessage()


def test_a_password_in_place_of_a_host_is_not_logged(registry, serve, listen):
    """A URL is no host."""
    records = listen("dockerflow_wsgi")
    assert serve(registry, host="redis://:s3cr3t@db").port is None
    assert "cannot listen at redis://:***@db port 0" in records[0].getMessage()


def test_without_threads_the_worker_goes_on(registry, serve, listen, monkeypatch):
    """And the port is free again."""
    records = listen("dockerflow_wsgi")

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert serve(registry).port is None
    assert "there is no thread for them: can't start new thread" in records[0].getMessage()
    assert lbheartbeat_status(serve(registry).port) == 200


def test_the_off_switch_is_one(registry, serve, listen, monkeypatch):
    """Nothing listens, which is said; an app is served, for its pages are not ours."""
    records = listen("dockerflow_wsgi")
    monkeypatch.setenv("DOCKERFLOW_DISABLED", "1")
    assert serve(registry).port is None
    assert "Dockerflow is disabled: no endpoints" in records[0].getMessage()
    assert probe(serve(DockerflowMiddleware(hello)).port, "/").endswith(b"hello")


def test_ipv6(registry, serve):
    """An address with colons is one."""
    try:
        with socket.socket(socket.AF_INET6) as other:
            other.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"there is no IPv6 on this machine: {error}")
    assert serve(registry, host="::1").port
    assert lbheartbeat_status(serve(registry, host="::").port) == 200  # by IPv4, too


def test_stop_does_not_wait_for_the_next_turn(registry):
    """Of the thread that listens, which takes one every half second."""
    started_s = time.monotonic()
    for _ in range(40):
        serve_in_background(registry, host="127.0.0.1", port=0).stop()
    assert time.monotonic() - started_s < TIMEOUT_S / 2


def test_stop_frees_the_port(registry):
    """As does the end of the context, and a second stop does nothing."""
    with serve_in_background(registry, host="127.0.0.1", port=0) as server:
        port = server.port
        assert repr(server) == f"<BackgroundServer: port {port}>"
    assert server.port is None
    assert lbheartbeat_status(port) is None
    server.stop()
    with serve_in_background(registry, host="127.0.0.1", port=port) as again:
        assert again.port == port


def test_stop_waits_for_the_answers_under_way_and_for_no_idle_client(registry, gate):
    """A heartbeat that was asked for is still answered."""
    server = serve_in_background(registry, host="127.0.0.1", port=0)
    with socket.create_connection(("127.0.0.1", server.port)) as idle, ask(server.port) as asking:
        wait_until_asked(registry)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert idle.recv(1) == b""
        stopping.join(0.2)
        assert stopping.is_alive()
        gate.set()
        assert b" 200 OK\r\n" in read(asking)
        stopping.join()


def test_stop_does_not_wait_for_a_free_thread(serve):
    """When all are taken: who is not served yet is hung up on."""
    taken, gate = threading.Semaphore(0), threading.Event()

    def app(environ, start_response):
        taken.release()
        gate.wait()
        return hello(environ, start_response)

    server = serve(app)
    with ExitStack() as stack:
        stack.callback(gate.set)
        served = [
            stack.enter_context(ask(server.port, "/__lbheartbeat__")) for _ in range(MAX_THREADS)
        ]
        for _ in served:
            assert taken.acquire(timeout=TIMEOUT_S)
        waiting = stack.enter_context(ask(server.port, "/__lbheartbeat__"))
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with suppress(ConnectionResetError):
            assert waiting.recv(1) == b""
        gate.set()
        assert all(read(connection).endswith(b"hello") for connection in served)
        stopping.join(TIMEOUT_S)
        assert not stopping.is_alive()


def test_a_request_may_stop_the_server(serve):
    """It does not wait for itself."""

    def app(environ, start_response):
        server.stop()
        return hello(environ, start_response)

    server = serve(app)
    assert probe(server.port, "/").endswith(b"hello")
    assert server.port is None


def ask(port, path="/__heartbeat__"):
    """Send a request, and return the connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return connection


def read(connection):
    """Read to the end."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def wait_until_asked(registry):
    """Wait until the check that waits runs."""
    waits = next(check for check in registry if check.name == "waits")
    wait_until(lambda: waits._runs)


def test_a_client_that_says_nothing_is_hung_up_on(registry, serve, listen, monkeypatch):
    """After some seconds, and without alarm."""
    records = listen("dockerflow_wsgi", logging.INFO)
    monkeypatch.setattr(Connection, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", serve(registry).port), TIMEOUT_S) as idle:
        assert idle.recv(1) == b""
    assert [record.levelno for record in records] == [logging.INFO]  # where it listens


def test_what_is_answered_gives_its_place_back(registry, serve):
    """However many ask, one after the other."""
    port = serve(registry).port
    for _ in range(MAX_THREADS + 1):
        assert heartbeat(port)[0] == 200


def test_a_prober_for_whom_there_was_no_thread_takes_none_from_the_next(
    registry, serve, monkeypatch
):
    """When the system has threads again, all of ours are there."""
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
                assert refused.recv(1) == b""
    assert lbheartbeat_status(port) == 200


def test_a_client_that_never_sends_its_body_is_no_fault(serve, listen, monkeypatch):
    """The app that waits for it is ended after some seconds, without alarm."""
    faults = listen("dockerflow_wsgi", logging.ERROR)
    monkeypatch.setattr(Connection, "timeout", 0.05)

    def reads(environ, start_response):
        environ["wsgi.input"].read(5)
        return hello(environ, start_response)

    with socket.create_connection(("127.0.0.1", serve(reads).port), TIMEOUT_S) as silent:
        silent.sendall(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n")
        while silent.recv(65_536):
            pass
    assert len(faults) == 0


def test_idle_and_slow_clients_do_not_hold_up_a_prober(registry, serve, monkeypatch):
    """However many they are: the longest idle one has to go. Threads are bounded."""
    monkeypatch.setattr(Connection, "timeout", 10 * TIMEOUT_S)  # it is not this that helps
    port = serve(registry).port
    before = threading.active_count()
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(3 * MAX_THREADS)
        ]
        for connection in idle[::2]:
            connection.sendall(b"GET /__heart")
        assert lbheartbeat_status(port) == 200
        assert heartbeat(port)[0] == 200
        assert threading.active_count() <= before + MAX_THREADS
        idle[0].settimeout(TIMEOUT_S)
        assert idle[0].recv(1) == b""
        idle[-1].sendall(b"GET /__lbheartbeat__ HTTP/1.0\r\n\r\n")
        assert b" 200 OK\r\n" in read(idle[-1])


@pytest.mark.parametrize("path", ["/__heartbeat__", "/__version__"])
def test_what_hangs_leaves_threads_for_lbheartbeat(registry, serve, gate, path):
    """A check or a version callback may; what is above the bound is refused at once."""
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
        (b"GET /" + 70_000 * b"x" + b" HTTP/1.0\r\n\r\n", b"414"),
        (b"GET / HTTP/1.0\r\n" + 200 * b"X: y\r\n" + b"\r\n", b"431"),
        (b"GET\r\n\r\n", b"400"),
        (b"", b""),
    ],
)
def test_odd_input_is_answered_without_a_word_on_stderr(registry, serve, capfd, sent, answer):
    """And the next prober is served."""
    port = serve(registry).port
    assert answer in talk(port, sent)
    assert lbheartbeat_status(port) == 200
    assert capfd.readouterr().err == ""


def test_an_app_that_raises_is_logged_and_answered_with_500(serve, listen, capfd):
    """With its traceback in the log, and nothing on stderr."""
    records = listen("dockerflow_wsgi", logging.ERROR)

    def raises(_environ, _start_response):
        raise ZeroDivisionError("division by zero")

    assert b" 500 Internal Server Error\r\n" in probe(serve(raises).port, "/")
    assert "ZeroDivisionError: division by zero" in records[0].exc_text
    assert capfd.readouterr().err == ""


def test_the_environ_says_how_it_is_served(serve):
    """By threads; and the process's environment stays out of it."""
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return hello(environ, start_response)

    probe(serve(app).port, "/?a=b")
    assert (seen["wsgi.multithread"], seen["QUERY_STRING"]) == (True, "a=b")
    assert "PATH" not in seen


def run_python(code):
    """Run code in an interpreter of its own, and return the lines that it prints."""
    done = run([sys.executable, "-W", "error", "-c", SETUP + code], cwd=ROOT / "tests")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


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
        signal.alarm(60)  # one that hangs must not outlive the test
        try:
            function()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


def test_importing_the_package_imports_no_server():
    """It is imported by the first call."""
    code = """
import sys
late = "wsgiref", "dockerflow_wsgi.server.listener"
print([name for name in sys.modules if name.startswith(late)])
serve().stop()
print("wsgiref" in sys.modules)
"""
    assert run_python(code) == ["[]", "True"]


def test_a_forked_child_holds_nothing_and_may_have_endpoints_of_its_own():
    """It neither answers for its parent nor keeps the port; parent and child are served."""
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
    assert run_python(code) == ["None []", "200 True", "None []", "200"]


def test_a_forked_child_may_have_endpoints_from_any_of_its_threads():
    """The lock that the fork was made under is not left to the thread that forked."""
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
    assert run_python(code) == ["[200]"]


def test_a_forked_child_holds_no_connection_of_its_parents_probers():
    """As it is when a probe is being answered; the parent goes on with it."""
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
    assert run_python(code) == ["[]", "200"]


def test_a_child_that_lives_on_does_not_keep_the_port():
    """A work horse or a subprocess may outlive the worker's server."""
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
    assert run_python(code) == ["None", "True"]


def test_a_child_that_asks_for_its_parents_port_is_told_who_has_it():
    """And what to do."""
    code = """
import logging
class Told(logging.Handler):
    def emit(self, record):
        print(record.getMessage().replace(str(os.getppid()), "PARENT"), flush=True)
logging.getLogger("dockerflow_wsgi").addHandler(Told(logging.ERROR))
server = serve()
port = server.port
in_child(lambda: serve(port))
"""
    (line,) = run_python(code)
    assert "process PARENT, which this one was forked from, listens there. Give each" in line


def test_each_of_many_forked_workers_is_served():
    """Forked while another thread of the parent starts and stops servers."""
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
    assert run_python(code) == 30 * ["[] 200"]


def test_the_server_does_not_keep_the_process_alive():
    """Nor does a heartbeat that hangs, nor a client that says nothing."""
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
    assert run_python(code) == ["end"]


def test_under_gevent_worker_and_child_are_served():
    """Monkey patching makes greenlets of the threads; a fork copies them."""
    code = """
from gevent import monkey; monkey.patch_all()
"""
    rest = """
import gevent
parent = serve()
port = parent.port
def child():
    gevent.sleep(0.1)
    print(parent.port, lbheartbeat_status(serve().port), flush=True)
in_child(child)
print(lbheartbeat_status(port))
"""
    assert run_python(code + SETUP + rest) == ["None 200", "200"]


def test_its_threads_are_told_apart(registry, serve):
    """By name, in py-spy and the like; and they end with the server."""
    server = serve(registry)
    in_all = psutil.Process().num_threads()
    names = [thread.name for thread in threading.enumerate()]
    assert "dockerflow server" in names
    assert in_all >= len(names)
    server.stop()
    assert "dockerflow server" not in [thread.name for thread in threading.enumerate()]
