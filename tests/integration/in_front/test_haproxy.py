"""HAProxy in front of two instances, with the example's configuration."""

from __future__ import annotations

import contextlib
import csv
import json
import socket
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
from fronts import Proxy, instance, redis_at, reserved_port
from programs import run, running
from servers import EXAMPLES
from system import program
from waiting import TIMEOUT_S, wait_until

CONFIGURATION = EXAMPLES / "haproxy" / "haproxy.cfg"
DEBUG, INFO = 7, 6  # syslog's numbers, in mozlog

# The fields of "show stat": status, and the result of the last check (layer 7, layer 4).
UP = ("UP", "L7OK")
FAILS = ("DOWN", "L7STS")
REFUSES = ("DOWN", "L4CON")


class HAProxy(Proxy):
    """A running HAProxy.

    Args:
        path: The socket of the frontend.
        stats: The socket of the statistics.
    """

    def __init__(self, path, stats):
        super().__init__(path)
        self._stats = stats

    def server(self, backend, name):
        """Return a server's row of ``show stat``."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(self._stats))
            connection.sendall(b"show stat\n")
            with connection.makefile() as stream:
                rows = csv.DictReader(stream.read().removeprefix("# ").splitlines())
        return next(row for row in rows if (row["pxname"], row["svname"]) == (backend, name))

    def state(self, backend, name):
        """Return a server's status, and the result of its last check."""
        row = self.server(backend, name)
        return row["status"], row["check_status"].removeprefix("* ")  # "*": a check is running

    def wait_for(self, state, backend, *names):
        """Wait until all servers are in a state."""

        def is_in_state():
            return all(self.state(backend, name) == state for name in names)

        wait_until(is_in_state)

    def serving(self):
        """Send two requests per server, and return the names of the servers that responded."""
        answers = [self.ask() for _ in range(4)]
        assert [status for status, _headers, _body in answers] == [200] * 4
        return {json.loads(body)["instance"] for _status, _headers, body in answers}

    def wait_for_code(self, code, backend, name):
        """Wait until a server's last check has this status code; it has none during a check."""

        def has_code():
            return self.server(backend, name)["check_code"] == code

        wait_until(has_code)

    def wait_until_served_by(self, *names):
        """Wait until exactly these servers respond, while no request fails.

        On a busy machine, a server may fail a check in the meantime.
        """

        def are_serving():
            return self.serving() == set(names)

        wait_until(are_serving)


@contextlib.contextmanager
def haproxy(directory, app1, app2):
    """Run HAProxy with the example's configuration, and with frequent probes."""
    command = [program("haproxy", "haproxy"), "-f", CONFIGURATION]
    front, stats = directory / "front", directory / "stats"
    environment = {"APP1": app1.address, "APP2": app2.address, "CHECK_INTERVAL": "50ms"}
    environment |= {"BIND": f"unix@{front}", "STATS_SOCKET": str(stats)}
    with running(command, cwd=directory, **environment):
        proxy = HAProxy(front, stats)
        wait_until(proxy.listens)
        yield proxy


def test_the_example_is_valid():
    """HAProxy's check of the configuration reports no problem and no warning."""
    command = [program("haproxy", "haproxy"), "-c", "-f", CONFIGURATION]
    done = run(command, APP1="127.0.0.1:8001", APP2="127.0.0.1:8002")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plain_probe_is_answered_and_logged_at_debug(directory):
    """``option httpchk`` sends HTTP/1.0 without headers, and its probes are logged at DEBUG."""
    with (
        instance("app1", directory, log_level="DEBUG") as verbose,
        instance("app2", directory) as usual,
        haproxy(directory, verbose, usual) as proxy,
    ):
        for backend in ("alive", "ready"):
            proxy.wait_for(UP, backend, "app1", "app2")
        proxy.wait_until_served_by("app1", "app2")
        probes = [one for one in verbose.summaries() if one["Fields"]["path"] != "/"]
        logged = usual.summaries()
    assert {probe["Fields"]["path"] for probe in probes} == {"/__lbheartbeat__", "/__heartbeat__"}
    for probe in probes:
        fields = probe["Fields"]
        assert (fields["protocol"], fields["headers"]) == ("HTTP/1.0", "HTTP_X_REQUEST_ID")
        assert (fields["agent"], fields["lang"]) == ("", "")
        assert (fields["method"], fields["code"], fields["errno"]) == ("GET", 200, 0)
        assert probe["Severity"] == DEBUG
    assert {(one["Fields"]["path"], one["Severity"]) for one in logged} == {("/", INFO)}


def test_a_killed_instance_gets_no_requests_until_it_is_back(directory):
    """The other instance gets all requests, also before HAProxy notices the killed one."""
    with (
        reserved_port() as port,
        instance("app2", directory) as app2,
        instance("app1", directory, "--reuse-port", port=port) as app1,
        haproxy(directory, app1, app2) as proxy,
    ):
        for backend in ("alive", "ready"):
            proxy.wait_for(UP, backend, "app1", "app2")
        proxy.wait_until_served_by("app1", "app2")

        app1.server.kill()
        proxy.wait_until_served_by("app2")
        proxy.wait_for(REFUSES, "alive", "app1")
        proxy.wait_until_served_by("app2")

        with instance("app1", directory, "--reuse-port", port=port):
            for backend in ("alive", "ready"):
                proxy.wait_for(UP, backend, "app1", "app2")
            proxy.wait_until_served_by("app1", "app2")


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 502)])
def test_a_request_in_progress_when_its_instance_is_killed(directory, method, status):
    """HAProxy repeats a ``GET`` on the other instance, but not a ``POST``."""
    with (
        instance("app1", directory) as app1,
        instance("app2", directory) as app2,
        haproxy(directory, app1, app2) as proxy,
        ThreadPoolExecutor() as threads,
    ):
        proxy.wait_for(UP, "ready", "app1", "app2")
        for process in app1.server.family():
            process.suspend()
        answers = [threads.submit(proxy.ask, method=method) for _ in range(2)]  # one per instance
        answered = as_completed(answers, timeout=TIMEOUT_S)
        assert next(answered).result()[0] == 200
        app1.server.kill()
        assert next(answered).result()[0] == status


def test_an_instance_with_a_failing_heartbeat_gets_no_requests(directory):
    """An instance without its Redis gets no requests until its heartbeat recovers."""
    path = directory / "redis"
    with (
        instance("app1", directory, REDIS_URL=f"unix://{path}") as app1,
        instance("app2", directory) as app2,
        haproxy(directory, app1, app2) as proxy,
    ):
        with redis_at(path):
            proxy.wait_for(UP, "ready", "app1", "app2")
            proxy.wait_until_served_by("app1", "app2")

        proxy.wait_for(FAILS, "ready", "app1")
        proxy.wait_for_code("500", "ready", "app1")
        proxy.wait_for(UP, "alive", "app1")
        proxy.wait_until_served_by("app2")

        with redis_at(path):
            proxy.wait_for(UP, "ready", "app1")
            proxy.wait_until_served_by("app1", "app2")


def test_a_slow_heartbeat_is_waited_for(directory):
    """If an instance's Redis hangs, HAProxy reports the heartbeat's status instead of a timeout."""
    path = directory / "redis"
    hasty = {"DOCKERFLOW_CHECK_TIMEOUT": "0.5"}
    with (
        redis_at(path) as redis,
        instance("app1", directory, REDIS_URL=f"unix://{path}", **hasty) as app1,
        instance("app2", directory) as app2,
        haproxy(directory, app1, app2) as proxy,
    ):
        proxy.wait_for(UP, "ready", "app1")
        with redis.stopped():
            proxy.wait_for(FAILS, "ready", "app1")
            proxy.wait_for_code("500", "ready", "app1")
        proxy.wait_for(UP, "ready", "app1")


def test_without_a_ready_instance_all_live_ones_serve(directory):
    """Without the Redis that all instances share, pages that do not need it are still served."""
    path = directory / "redis"
    shared = {"REDIS_URL": f"unix://{path}"}
    with (
        instance("app1", directory, **shared) as app1,
        instance("app2", directory, **shared) as app2,
        haproxy(directory, app1, app2) as proxy,
    ):
        with redis_at(path):
            proxy.wait_for(UP, "ready", "app1", "app2")

        proxy.wait_for(FAILS, "ready", "app1", "app2")
        proxy.wait_until_served_by("app1", "app2")
