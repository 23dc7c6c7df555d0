"""The RQ example serves endpoints, also while jobs or its Redis fail."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from probing import heartbeat, lbheartbeat_status, listening_ports
from programs import run, running
from redis import Redis
from rq import Queue
from servers import redis_server
from waiting import TIMEOUT_S, wait_until

# The example with short limits, and a signal that blocks the main thread forever.
STUCK = """
import signal, threading
from examples import rq_worker
rq_worker.WORKER_TTL_S, rq_worker.MAX_LOOP_S = 16, 5
held = threading.Lock()
held.acquire()
signal.signal(signal.SIGWINCH, lambda *_: held.acquire())
rq_worker.main()
"""


@contextmanager
def rq_worker(redis_url, command="python -m examples.rq_worker"):
    """Run the example with its documented command, and yield its program and port."""
    with running(command, REDIS_URL=redis_url, PORT="0") as worker:
        port = worker.wait_until_served()
        worker.wait_for("Listening on default")
        yield worker, port


def wait_until_idle(redis_url):
    """Wait until the worker waits for a job: RQ survives the end of its Redis only then."""
    with Redis.from_url(redis_url) as client:
        wait_until(lambda: client.info("clients")["blocked_clients"])


@pytest.fixture
def queue(redis_url):
    """Connect to the worker's queue."""
    with Redis.from_url(redis_url) as client:
        yield Queue("default", connection=client)


def test_jobs_do_not_affect_the_endpoints(redis_url, queue, tmp_path):
    """The process that RQ forks for a job does not hold the port or end the endpoints."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with rq_worker(redis_url) as (worker, port):
        greeting = queue.enqueue("examples.rq_worker.greet", "Ada")
        assert greeting.latest_result(timeout=TIMEOUT_S).return_value == "Hello, Ada"

        reading = queue.enqueue("pathlib.Path.read_text", Path(fifo))
        with fifo.open("w") as pipe:  # waits until the job opens it
            _worker, horse = worker.family()
            assert listening_ports(horse) == []
            during = heartbeat(port)
            pipe.write("read")
        assert reading.latest_result(timeout=TIMEOUT_S).return_value == "read"

        after = heartbeat(port)
        assert worker.stop() == 0
    assert during[0] == after[0] == 200
    assert set(after[1]["checks"].values()) == {"ok"}
    assert lbheartbeat_status(port) is None


def test_a_killed_job_does_not_affect_the_endpoints(redis_url, queue, tmp_path):
    """A job may be killed, such as by the kernel when memory is short."""
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


def test_without_its_redis_the_heartbeat_fails_and_the_worker_continues():
    """Without Redis the heartbeat is 500 with the reason, and ``/__lbheartbeat__`` is 200."""
    with redis_server() as server, rq_worker(server.url) as (worker, port):
        wait_until_idle(server.url)
        server.kill()
        status, shown = heartbeat(port)
        assert status == 500
        assert "dockerflow.health.E004" in shown["details"]["check_redis_connected"]["messages"]
        assert lbheartbeat_status(port) == 200
        assert worker.is_alive


def test_a_stuck_main_thread_fails_the_heartbeat(redis_url):
    """A stuck main thread fails the heartbeat; ``/__lbheartbeat__``, on another thread, is 200."""
    with rq_worker(redis_url, [sys.executable, "-c", STUCK]) as (worker, port):
        wait_until(lambda: heartbeat(port)[0] == 200)
        worker.process.send_signal(signal.SIGWINCH)
        wait_until(lambda: heartbeat(port)[0] == 500)
        assert heartbeat(port)[1]["checks"]["main_thread_loops"] == "error"
        assert lbheartbeat_status(port) == 200


def test_a_loop_without_jobs_keeps_the_heartbeat_ok(redis_url):
    """The heartbeat stays ok without jobs for longer than the limit of 5 seconds."""
    with rq_worker(redis_url, [sys.executable, "-c", STUCK]) as (_worker, port):
        deadline_s = time.monotonic() + 8
        while time.monotonic() < deadline_s:
            assert heartbeat(port)[0] == 200
            time.sleep(0.5)


def test_a_job_has_the_id_of_the_request_that_queued_it(redis_url):
    """The log of a job has the ID of the request that queued it."""
    program = """
from dockerflow_wsgi import request_id_context
from examples import rq_worker
with request_id_context("from-the-request"):
    rq_worker.enqueue(rq_worker.greet, "Ada")
"""
    with rq_worker(redis_url) as (worker, _port):
        run([sys.executable, "-c", program], check=True, REDIS_URL=redis_url)
        fields = json.loads(worker.wait_for("Greeting Ada"))["Fields"]
    assert fields["rid"] == "from-the-request"
