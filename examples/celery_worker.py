"""A Celery worker that complies with Dockerflow, with endpoints in each process.

    pip install . 'celery[redis]'
    celery -A examples.celery_worker worker --concurrency 2

The parent listens on PORT, by default 8000, and the processes of the pool listen on the next ports.
The worker needs a broker, BROKER_URL, by default a Redis on localhost.
"""

import os
import time

from billiard import current_process
from celery import Celery, Task
from celery.signals import (
    before_task_publish,
    heartbeat_sent,
    task_postrun,
    task_prerun,
    worker_init,
    worker_process_init,
)

from dockerflow_wsgi import (
    CheckRegistry,
    checks,
    get_request_id,
    request_id_context,
    serve_in_background,
)

PORT = int(os.environ.get("PORT") or 8000)
MAX_LOOP_S = 60
MAX_TASK_S = 300


class RequestIdTask(Task):
    """A task that runs with the ID of the request that queued it."""

    def __call__(self, *args, **kwargs):
        """Run the task."""
        with request_id_context(self.request.get("request_id")):
            return super().__call__(*args, **kwargs)


app = Celery(
    "celery_worker",
    broker=os.environ.get("BROKER_URL", "redis://localhost:6379"),
    task_cls=RequestIdTask,
)
parent_registry = CheckRegistry()
process_registry = CheckRegistry()


@before_task_publish.connect
def pass_request_id(headers, **_):
    """Send the request ID with each task that a request queues."""
    headers["request_id"] = get_request_id()


@parent_registry.check
@process_registry.check
def broker_answers():
    """Connect to the broker; exceptions are reported."""
    with app.connection_for_read(connect_timeout=2) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)


class Main:
    """The state of this process's main thread."""

    last_loop_s = time.monotonic()
    task_started_s = None


@heartbeat_sent.connect
def note_loop(**_):
    """Record the time; the parent's event loop sends a heartbeat every 2 seconds."""
    Main.last_loop_s = time.monotonic()


@task_prerun.connect
def note_start(**_):
    """Record when a task starts in this process."""
    Main.task_started_s = time.monotonic()


@task_postrun.connect
def note_end(**_):
    """Record that the task has ended."""
    Main.task_started_s = None


@parent_registry.check
def main_thread_loops():
    """Fail when the parent's main thread is stuck."""
    stuck_s = time.monotonic() - Main.last_loop_s
    if stuck_s > MAX_LOOP_S:
        return [checks.Error(f"The last loop was {stuck_s:.0f} s ago", id="celery_worker.E001")]
    return []


@process_registry.check
def task_ends():
    """Fail when the task of a pool's process is stuck."""
    started_s = Main.task_started_s
    if started_s is not None and (runs_s := time.monotonic() - started_s) > MAX_TASK_S:
        return [checks.Error(f"The task started {runs_s:.0f} s ago", id="celery_worker.E002")]
    return []


@worker_init.connect
def serve_the_parent(**_):
    """Serve the endpoints of the parent, before it forks the pool."""
    serve_in_background(parent_registry, port=PORT)


@worker_process_init.connect
def serve_the_process(**_):
    """Serve the endpoints of a process of the pool, after the fork."""
    serve_in_background(process_registry, port=PORT + 1 + current_process().index)


@app.task
def greet(name):
    """Return a greeting."""
    return f"Hello, {name}"


@app.task
def show_request_id():
    """Return the ID of the request that queued this task."""
    return get_request_id()
