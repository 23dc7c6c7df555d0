"""The Celery example: the parent and each process of its pool have endpoints of their own."""

from __future__ import annotations

from celery import Celery
from probing import heartbeat, lbheartbeat_status, listening_ports
from programs import running
from servers import free_ports, redis_server


def celery_worker(broker_url, port):
    """Run the example with its documented command."""
    command = "celery -A examples.celery_worker worker --concurrency 2"
    quickly = "--without-mingle --without-gossip --loglevel INFO"
    return running(f"{command} {quickly}", BROKER_URL=broker_url, PORT=str(port))


def wait_until_served(worker, ports):
    """Wait until the log has reported each port of the pool as served.

    The parent serves before it forks the pool, and before it logs.
    """
    waiting = set(ports)
    while waiting:
        waiting.discard(worker.wait_until_served())


def wait_until_a_task_is_done(worker, broker_url):
    """Send a task, and wait until the log has its result."""
    with Celery(broker=broker_url) as app:
        app.send_task("examples.celery_worker.greet", ["Ada"], ignore_result=True)
    worker.wait_for("'Hello, Ada'")


def test_parent_and_pool_have_endpoints_of_their_own(redis_url):
    """Each process answers at one port, holds no other, and a new one takes over."""
    parent_port, *pool_ports = free_ports(3)
    with celery_worker(redis_url, parent_port) as worker:
        wait_until_served(worker, pool_ports)
        parent, *pool = worker.family()
        assert listening_ports(parent) == [parent_port]
        assert sorted(port for child in pool for port in listening_ports(child)) == pool_ports
        told = [heartbeat(port) for port in (parent_port, *pool_ports)]
        assert [(code, shown["checks"]) for code, shown in told] == 3 * [
            (200, {"broker_answers": "ok"})
        ]

        wait_until_a_task_is_done(worker, redis_url)
        (port,) = listening_ports(pool[0])
        pool[0].kill()
        wait_until_served(worker, [port])
        assert heartbeat(port)[0] == 200
        assert worker.stop() == 0
    assert lbheartbeat_status(parent_port) is None


def test_without_its_broker_the_heartbeat_fails_and_the_worker_lives():
    """In the parent and in the pool; liveness goes on."""
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
