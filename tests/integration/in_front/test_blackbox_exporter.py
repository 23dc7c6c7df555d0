"""Prometheus' blackbox exporter probes the endpoints, with the example's configuration."""

from __future__ import annotations

import contextlib
import re
import urllib.parse
import urllib.request

import pytest
from fronts import instance, redis_at
from programs import run, running
from servers import EXAMPLES
from system import program
from waiting import TIMEOUT_S, wait_until

CONFIGURATION = EXAMPLES / "blackbox_exporter" / "blackbox.yml"
PROGRAM = PACKAGE = "prometheus-blackbox-exporter"


class Exporter:
    """A running blackbox exporter.

    Args:
        address: The host and port of the exporter.
        app: The `fronts.Instance` that it probes.
    """

    def __init__(self, address, app):
        self._address = address
        self._app = app

    def probe(self, path, module="http_2xx"):
        """Probe the app, and return success and status code."""
        target = f"http://{self._app.address}{path}"
        query = urllib.parse.urlencode({"module": module, "target": target})
        url = f"http://{self._address}/probe?{query}"
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            metrics = dict(
                re.findall(r"^(probe_\w+) (\d+)$", response.read().decode(), re.MULTILINE)
            )
        return metrics["probe_success"], metrics["probe_http_status_code"]


@contextlib.contextmanager
def blackbox_exporter(directory, app):
    """Run the exporter with the example's configuration, on any free port."""
    command = [program(PROGRAM, PACKAGE), "--web.listen-address", "127.0.0.1:0"]
    with running([*command, "--config.file", CONFIGURATION], cwd=directory) as exporter:

        def listening():
            return re.search(r'"?Listening on"? address=(\S+)', exporter.output)

        yield Exporter(wait_until(listening)[1], app)


def test_the_example_is_valid():
    """The exporter's check of the configuration reports no problem."""
    command = [program(PROGRAM, PACKAGE), "--config.check", "--config.file", CONFIGURATION]
    done = run(command)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ["/__lbheartbeat__", "/__heartbeat__", "/__version__"])
def test_an_endpoint_passes_the_usual_probe(directory, path):
    """The module ``http_2xx``, which every installation has, succeeds for all endpoints."""
    with instance("app1", directory) as app1, blackbox_exporter(directory, app1) as exporter:
        assert exporter.probe(path) == ("1", "200")


def test_a_failing_heartbeat_fails_the_probe_until_it_recovers(directory):
    """The heartbeat fails while the app's Redis is down; ``/__lbheartbeat__`` always succeeds."""
    path = directory / "redis"
    with (
        instance("app1", directory, REDIS_URL=f"unix://{path}") as app1,
        blackbox_exporter(directory, app1) as exporter,
    ):
        with redis_at(path):
            assert exporter.probe("/__heartbeat__") == ("1", "200")
        assert exporter.probe("/__heartbeat__") == ("0", "500")
        assert exporter.probe("/__lbheartbeat__") == ("1", "200")
        with redis_at(path):
            assert exporter.probe("/__heartbeat__") == ("1", "200")


def test_a_stricter_module_reads_the_status(directory):
    """The module ``heartbeat_ok`` reports a warning that does not fail the heartbeat."""
    path = directory / "redis"
    lenient = {"DOCKERFLOW_HEARTBEAT_FAILED_LEVEL": "critical"}
    with (
        instance("app1", directory, REDIS_URL=f"unix://{path}", **lenient) as app1,
        blackbox_exporter(directory, app1) as exporter,
    ):
        with redis_at(path):
            assert exporter.probe("/__heartbeat__", "heartbeat_ok") == ("1", "200")
        assert exporter.probe("/__heartbeat__", "http_2xx") == ("1", "200")
        assert exporter.probe("/__heartbeat__", "heartbeat_ok") == ("0", "200")
