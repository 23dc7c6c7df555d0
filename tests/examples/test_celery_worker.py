"""The Celery example: the parent and each process of its pool have endpoints of their own."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress

import psutil
from celery import Celery
from patience import PATIENCE_S, wait_for
from probing import heartbeat, lbheartbeat_status, listening_ports, served_port
from servers import ROOT, redis_server


def free_ports(count):
    """Return some ports in a row, outside the range that clients are given."""
    while True:
        first = random.randrange(20_000, 30_000)
        ports = range(first, first + count)
        with ExitStack() as stack:
            try:
                for port in ports:
                    stack.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
            return list(ports)


@contextmanager
def celery_worker(broker_url, port):
    """Run the example with its documented command, and yield its process."""
    command = "-m celery -A examples.celery_worker worker --concurrency 2"
    quickly = ["--without-mingle", "--without-gossip", "--loglevel", "INFO"]
    environment = {"BROKER_URL": broker_url, "PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, *command.split(), *quickly],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children():
                    child.kill()
            process.kill()


def wait_until_served(process, ports):
    """Wait until the log has said of each port that it is served."""
    waiting = set(ports)
    while waiting:
        waiting.discard(served_port(process.stdout))


def wait_until_a_task_is_done(process, broker_url):
    """Send a task, and wait until the log has its result."""
    with Celery(broker=broker_url) as app:
        app.send_task("examples.celery_worker.greet", ["Ada"], ignore_result=True)
    wait_for(process.stdout, "'Hello, Ada'")


def test_parent_and_pool_have_endpoints_of_their_own(redis_url):
    """Each process answers at one port, holds no other, and a new one takes over."""
    parent_port, *pool_ports = free_ports(3)
    with celery_worker(redis_url, parent_port) as process:
        wait_until_served(process, pool_ports)
        parent = psutil.Process(process.pid)
        pool = parent.children()
        assert listening_ports(parent) == [parent_port]
        assert sorted(port for child in pool for port in listening_ports(child)) == pool_ports
        told = [heartbeat(port) for port in (parent_port, *pool_ports)]
        assert [(code, shown["checks"]) for code, shown in told] == 3 * [
            (200, {"broker_answers": "ok"})
        ]

        wait_until_a_task_is_done(process, redis_url)
        (port,) = listening_ports(pool[0])
        pool[0].kill()
        wait_until_served(process, [port])
        assert heartbeat(port)[0] == 200

        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(PATIENCE_S) == 0
    assert lbheartbeat_status(parent_port) is None


def test_without_its_broker_the_heartbeat_fails_and_the_worker_lives():
    """In the parent and in the pool; liveness goes on."""
    parent_port, *pool_ports = free_ports(3)
    with redis_server() as broker, celery_worker(broker.url, parent_port) as process:
        wait_until_served(process, pool_ports)
        wait_until_a_task_is_done(process, broker.url)
        broker.process.kill()
        broker.process.wait(PATIENCE_S)
        for port in (parent_port, *pool_ports):
            status, shown = heartbeat(port)
            assert status == 500
            assert "refused" in str(shown["details"]["broker_answers"])
            assert lbheartbeat_status(port) == 200
        assert process.poll() is None
