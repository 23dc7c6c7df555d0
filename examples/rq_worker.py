"""An RQ worker that complies with Dockerflow; its endpoints respond while jobs run.

    pip install '.[redis]' rq
    python -m examples.rq_worker
    rq enqueue examples.rq_worker.greet Ada

RQ needs a running Redis, REDIS_URL, by default on localhost. PORT is the port of the endpoints, by
default 8000.
"""

import logging
import os
import time

import rq
from redis import Redis

from dockerflow_wsgi import (
    CheckRegistry,
    checks,
    get_request_id,
    request_id_context,
    serve_in_background,
)
from dockerflow_wsgi.logging import MozlogHandler, RequestIdLogFilter

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")
WORKER_TTL_S = 60  # RQ loops every 45 s without jobs, and every 30 s during a job
MAX_LOOP_S = 90

client = Redis.from_url(REDIS_URL, socket_timeout=2)  # RQ's client waits longer for jobs
queue = rq.Queue("default", connection=client)
registry = CheckRegistry()
registry.init_check(checks.check_redis_connected, client)


@registry.check
def queue_is_short():
    """Warn when jobs arrive faster than they are done."""
    if queue.count > 1000:
        return [checks.Warning(f"{queue.count} jobs wait", id="rq_worker.W001")]
    return []


class Worker(rq.Worker):
    """Records each loop of its main thread, and runs each job with the ID of its request."""

    last_loop_s = time.monotonic()

    def heartbeat(self, *args, **kwargs):
        """Record the time; RQ calls this method on each loop of the main thread."""
        Worker.last_loop_s = time.monotonic()
        super().heartbeat(*args, **kwargs)

    def perform_job(self, job, *args, **kwargs):
        """Perform a job, in a forked process, with the request ID from `enqueue`."""
        with request_id_context(job.meta.get("request_id")):
            return super().perform_job(job, *args, **kwargs)


@registry.check
def main_thread_loops():
    """Fail when the main thread is stuck; the endpoints have separate threads."""
    stuck_s = time.monotonic() - Worker.last_loop_s
    if stuck_s > MAX_LOOP_S:
        return [checks.Error(f"The last loop was {stuck_s:.0f} s ago", id="rq_worker.E001")]
    return []


def enqueue(function, *args):
    """Queue a job with the ID of the current request; for web applications."""
    return queue.enqueue(function, *args, meta={"request_id": get_request_id()})


def greet(name):
    """Log a greeting, as a job."""
    logging.getLogger("rq_worker").info("Greeting %s", name)
    return f"Hello, {name}"


def main():
    """Work until a signal. RQ forks for each job; the worker keeps the endpoints."""
    handler = MozlogHandler(name="rq_worker")
    handler.addFilter(RequestIdLogFilter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    serve_in_background(registry)
    connection = Redis.from_url(REDIS_URL)
    Worker([queue.name], connection=connection, worker_ttl=WORKER_TTL_S).work()


if __name__ == "__main__":
    main()
