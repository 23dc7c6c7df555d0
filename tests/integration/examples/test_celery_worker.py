"""The Celery example serves endpoints in the parent and in each process of its pool."""

from __future__ import annotations

import signal
import sys

from celery import Celery
from probing import heartbeat, lbheartbeat_status, listening_ports
from programs import ROOT, run, running
from servers import free_ports, redis_server
from waiting import wait_until

# The example with short limits, and a signal that blocks the main thread forever.
STUCK = """
import signal, threading
from examples import celery_worker
from examples.celery_worker import app
celery_worker.MAX_LOOP_S = celery_worker.MAX_TASK_S = 5
held = threading.Lock()
held.acquire()
signal.signal(signal.SIGWINCH, lambda *_: held.acquire())
@app.task(name="wait")
def wait():
    held.acquire()
"""


def celery_worker(broker_url, port, module="examples.celery_worker", **environment):
    """Run the example with its documented command."""
    command = f"celery -A {module} worker --concurrency 2"
    quickly = "--without-mingle --without-gossip --loglevel INFO"
    return running(f"{command} {quickly}", BROKER_URL=broker_url, PORT=str(port), **environment)


def wait_until_served(worker, ports):
    """Wait until the endpoints at each port of the pool are in the log.

    Those of the parent are served earlier.
    """
    waiting = set(ports)
    while waiting:
        waiting.discard(worker.wait_until_served())


def wait_until_a_task_is_done(worker, broker_url):
    """Send a task, and wait until the log has its result."""
    with Celery(broker=broker_url) as app:
        app.send_task("examples.celery_worker.greet", ["Ada"], ignore_result=True)
    worker.wait_for("'Hello, Ada'")


def test_parent_and_pool_have_separate_endpoints(redis_url):
    """Each process serves one port and holds no other; a new process uses the port again."""
    parent_port, *pool_ports = free_ports(3)
    with celery_worker(redis_url, parent_port) as worker:
        wait_until_served(worker, pool_ports)
        parent, *pool = worker.family()
        assert listening_ports(parent) == [parent_port]
        assert sorted(port for child in pool for port in listening_ports(child)) == pool_ports
        shown_by_process = [heartbeat(port) for port in (parent_port, *pool_ports)]
        assert [(code, shown["checks"]) for code, shown in shown_by_process] == [
            (200, {"broker_answers": "ok", "main_thread_loops": "ok"}),
            *2 * [(200, {"broker_answers": "ok", "task_ends": "ok"})],
        ]

        wait_until_a_task_is_done(worker, redis_url)
        (port,) = listening_ports(pool[0])
        pool[0].kill()
        wait_until_served(worker, [port])
        assert heartbeat(port)[0] == 200
        assert worker.stop() == 0
    assert lbheartbeat_status(parent_port) is None


def test_without_its_broker_the_heartbeat_fails_and_the_worker_continues():
    """Without the broker, each ``/__heartbeat__`` is 500, and ``/__lbheartbeat__`` is 200."""
    parent_port, *pool_ports = free_ports(3)
    with redis_server() as broker, celery_worker(broker.url, parent_port) as worker:
        wait_until_served(worker, pool_ports)
        wait_until_a_task_is_done(worker, broker.url)
        broker.kill()
        for port in (parent_port, *pool_ports):
            status, shown = heartbeat(port)
            assert status == 500
            assert "refused" in str(shown["details"]["broker_answers"])
            assert lbheartbeat_status(port) == 200
        assert worker.is_alive


def test_a_stuck_main_thread_fails_the_heartbeat(redis_url, tmp_path):
    """A task that hangs fails its own process, and a stuck event loop fails the parent."""
    (tmp_path / "stuck.py").write_text(STUCK)
    path = f"{tmp_path}:{ROOT}"
    parent_port, *pool_ports = free_ports(3)
    with celery_worker(redis_url, parent_port, "stuck", PYTHONPATH=path) as worker:
        wait_until_served(worker, pool_ports)
        with Celery(broker=redis_url) as app:
            app.send_task("wait", ignore_result=True)
        wait_until(lambda: sorted(heartbeat(port)[0] for port in pool_ports) == [200, 500])
        assert heartbeat(parent_port)[0] == 200  # its loop is not stuck
        worker.process.send_signal(signal.SIGWINCH)
        wait_until(lambda: heartbeat(parent_port)[0] == 500)
        assert heartbeat(parent_port)[1]["checks"]["main_thread_loops"] == "error"
        assert lbheartbeat_status(parent_port) == 200


def test_a_task_has_the_id_of_the_request_that_queued_it(redis_url):
    """A task has the ID of its request, which is sent in a header of the task."""
    program = """
from dockerflow_wsgi import request_id_context
from examples.celery_worker import show_request_id
with request_id_context("from-the-request"):
    show_request_id.apply_async(ignore_result=True)
"""
    parent_port, *_ = free_ports(3)
    with celery_worker(redis_url, parent_port) as worker:
        run([sys.executable, "-c", program], check=True, BROKER_URL=redis_url)
        worker.wait_for("succeeded in")
        assert "'from-the-request'" in worker.output
