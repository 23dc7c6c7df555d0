"""The RQ example: the endpoints are the worker's, whatever its jobs and its Redis do."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from probing import heartbeat, lbheartbeat_status, listening_ports
from programs import running
from redis import Redis
from rq import Queue
from servers import redis_server
from waiting import TIMEOUT_S, wait_until


@contextmanager
def rq_worker(redis_url):
    """Run the example with its documented command, and yield its program and port."""
    with running("python -m examples.rq_worker", REDIS_URL=redis_url, PORT="0") as worker:
        port = worker.wait_until_served()
        worker.wait_for("Listening on default")
        yield worker, port


def wait_until_idle(redis_url):
    """Wait until the worker waits for a job: only then does RQ outlive its Redis."""
    with Redis.from_url(redis_url) as client:
        wait_until(lambda: client.info("clients")["blocked_clients"])


@pytest.fixture
def queue(redis_url):
    """Connect to the worker's queue."""
    with Redis.from_url(redis_url) as client:
        yield Queue("default", connection=client)


def test_jobs_run_and_leave_the_endpoints_alone(redis_url, queue, tmp_path):
    """The process that RQ forks for a job neither holds the port nor ends the endpoints."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with rq_worker(redis_url) as (worker, port):
        greeting = queue.enqueue("examples.rq_worker.greet", "Ada")
        assert greeting.latest_result(timeout=TIMEOUT_S).return_value == "Hello, Ada"

        reading = queue.enqueue("pathlib.Path.read_text", Path(fifo))
        with fifo.open("w") as pipe:  # opens when the job has opened it too
            _worker, horse = worker.family()
            assert listening_ports(horse) == []
            during = heartbeat(port)
            pipe.write("read")
        assert reading.latest_result(timeout=TIMEOUT_S).return_value == "read"

        after = heartbeat(port)
        assert worker.stop() == 0
    assert during[0] == after[0] == 200
    assert after[1]["checks"] == {"check_redis_connected": "ok", "queue_is_short": "ok"}
    assert lbheartbeat_status(port) is None


def test_a_job_that_is_killed_leaves_the_endpoints_alone(redis_url, queue, tmp_path):
    """As by the kernel, when memory is short."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with rq_worker(redis_url) as (worker, port):
        killed = queue.enqueue("pathlib.Path.read_text", Path(fifo))
        with fifo.open("w"):
            _worker, horse = worker.family()
            horse.kill()
            failure = killed.latest_result(timeout=TIMEOUT_S)
            assert "terminated unexpectedly" in failure.exc_string
        assert heartbeat(port)[0] == 200


def test_without_its_redis_the_heartbeat_fails_and_the_worker_lives():
    """A heartbeat of 500 that names the reason; liveness goes on."""
    with redis_server() as server, rq_worker(server.url) as (worker, port):
        wait_until_idle(server.url)
        server.kill()
        status, shown = heartbeat(port)
        assert status == 500
        assert "dockerflow.health.E004" in shown["details"]["check_redis_connected"]["messages"]
        assert lbheartbeat_status(port) == 200
        assert worker.is_alive
