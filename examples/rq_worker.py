"""An RQ worker that complies with Dockerflow: its endpoints answer while jobs run.

    pip install '.[redis]' rq
    python -m examples.rq_worker
    rq enqueue examples.rq_worker.greet Ada

It needs a Redis: REDIS_URL names it, by default the one at localhost, without which RQ does not
start. PORT is the port of the endpoints, 8000 by default.
"""

import logging
import os

from redis import Redis
from rq import Queue, Worker

from dockerflow_wsgi import CheckRegistry, checks, serve_in_background
from dockerflow_wsgi.logging import MozlogHandler

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")

client = Redis.from_url(REDIS_URL, socket_timeout=2)  # RQ's own waits for jobs much longer
queue = Queue("default", connection=client)
registry = CheckRegistry()
registry.init_check(checks.check_redis_connected, client)


@registry.check
def queue_is_short():
    """Warn when jobs come faster than they are done."""
    if queue.count > 1000:
        return [checks.Warning(f"{queue.count} jobs wait", id="rq_worker.W001")]
    return []


def greet(name):
    """Be a job."""
    return f"Hello, {name}"


def main():
    """Work until a signal comes. RQ forks for each job; the endpoints stay with the worker."""
    logging.basicConfig(handlers=[MozlogHandler(name="rq_worker")], level=logging.INFO)
    serve_in_background(registry)
    Worker([queue.name], connection=Redis.from_url(REDIS_URL)).work()


if __name__ == "__main__":
    main()
