"""The StatsD example sends the metrics of the reference documents to a real UDP socket."""

from __future__ import annotations

import re
import socket

import pytest
from probing import heartbeat
from servers import gunicorn_server
from waiting import TIMEOUT_S


@pytest.fixture
def daemon():
    """Listen for datagrams like a StatsD daemon."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(TIMEOUT_S)
        yield listening


def received(daemon):
    """Return the next two datagrams, with the duration replaced by 0."""
    lines = [daemon.recv(1000).decode() for _ in range(2)]
    return [re.sub(r":\d+\.\d+\|", ":0.0|", line) for line in lines]


def test_each_heartbeat_is_counted_and_timed(daemon, tmp_path):
    """Each heartbeat increments the counter of its result, and sends a timer per check."""
    maintenance = tmp_path / "maintenance"
    environment = {
        "STATSD_HOST": "127.0.0.1",
        "STATSD_PORT": str(daemon.getsockname()[1]),
        "MAINTENANCE_FILE": str(maintenance),
    }
    with gunicorn_server("examples.statsd_app:app", **environment) as server:
        passed = heartbeat(server.port)[0], received(daemon)
        maintenance.touch()
        failed = heartbeat(server.port)[0], received(daemon)
    timed = "heartbeat.check.maintenance:0.0|ms"
    assert passed == (200, ["heartbeat.pass:1|c", timed])
    assert failed == (500, ["heartbeat.fail:1|c", timed])
