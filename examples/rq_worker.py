"""An RQ worker that complies with Dockerflow: its endpoints answer while jobs run.

    pip install '.[redis]' rq
    python -m examples.rq_worker
    rq enqueue examples.rq_worker.greet Ada

It needs a Redis: REDIS_URL names it, by default the one at localhost, without which RQ does not
start. PORT is the port of the endpoints, 8000 by default.
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
WORKER_TTL_S = 60  # RQ's loop takes up to 15 s less when there are no jobs, and 30 s during a job
MAX_LOOP_S = 90

client = Redis.from_url(REDIS_URL, socket_timeout=2)  # RQ's own waits for jobs much longer
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
    """Notes when its main thread loops, and gives each job the ID of the request that queued it."""

    last_loop_s = time.monotonic()

    def heartbeat(self, *args, **kwargs):
        """Note the time; RQ calls this on each loop of the main thread."""
        Worker.last_loop_s = time.monotonic()
        super().heartbeat(*args, **kwargs)

    def perform_job(self, job, *args, **kwargs):
        """Perform a job, in its own process, with the request ID that `enqueue` passed."""
        with request_id_context(job.meta.get("request_id")):
            return super().perform_job(job, *args, **kwargs)


@registry.check
def main_thread_loops():
    """Fail when the main thread is stuck, which the thread of the endpoints does not notice."""
    stuck_s = time.monotonic() - Worker.last_loop_s
    if stuck_s > MAX_LOOP_S:
        return [checks.Error(f"The last loop was {stuck_s:.0f} s ago", id="rq_worker.E001")]
    return []


def enqueue(function, *args):
    """Queue a job with the ID of the current request; a web application calls it."""
    return queue.enqueue(function, *args, meta={"request_id": get_request_id()})


def greet(name):
    """Log a greeting; a job."""
    logging.getLogger("rq_worker").info("Greeting %s", name)
    return f"Hello, {name}"


def main():
    """Work until a signal comes. RQ forks for each job; the endpoints stay with the worker."""
    handler = MozlogHandler(name="rq_worker")
    handler.addFilter(RequestIdLogFilter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    serve_in_background(registry)
    connection = Redis.from_url(REDIS_URL)
    Worker([queue.name], connection=connection, worker_ttl=WORKER_TTL_S).work()


if __name__ == "__main__":
    main()
