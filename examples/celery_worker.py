"""A Celery worker that complies with Dockerflow: the parent and each of its pool's processes.

    pip install . 'celery[redis]'
    celery -A examples.celery_worker worker --concurrency 2

The parent's endpoints are at PORT, 8000 by default, those of the pool's processes at the ports
after it. It needs a broker: BROKER_URL names it, by default the Redis at localhost.
"""

import os

from billiard import current_process
from celery import Celery
from celery.signals import worker_init, worker_process_init

from dockerflow_wsgi import CheckRegistry, serve_in_background

PORT = int(os.environ.get("PORT") or 8000)

app = Celery("celery_worker", broker=os.environ.get("BROKER_URL", "redis://localhost:6379"))
registry = CheckRegistry()


@registry.check
def broker_answers():
    """Connect to the broker; what that raises is reported."""
    with app.connection_for_read(connect_timeout=2) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)


@worker_init.connect
def serve_the_parent(**_):
    """Serve the parent's endpoints; it forks the pool afterwards."""
    serve_in_background(registry, port=PORT)


@worker_process_init.connect
def serve_the_process(**_):
    """Serve the endpoints of a process of the pool, after it was forked."""
    serve_in_background(registry, port=PORT + 1 + current_process().index)


@app.task
def greet(name):
    """Be a task."""
    return f"Hello, {name}"
