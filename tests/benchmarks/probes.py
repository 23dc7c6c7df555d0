"""Measure pages and /__lbheartbeat__ while a check hangs and probes arrive; print a table.

    pip install '.[test]' --group benchmark
    python tests/benchmarks/probes.py [--seconds 5] [--rates 0 1 5 50] [--servers gthread ...]

Each server serves a plain app with one check that hangs. Once the check is known to be overdue,
probers request /__heartbeat__ at a constant rate, without waiting for earlier responses. Meanwhile
one client requests a page and /__lbheartbeat__ in turn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from dockerflow_wsgi import DockerflowMiddleware

sys.path.insert(0, str(Path(__file__).parents[1]))
from probing import get
from programs import running
from servers import free_port, gunicorn_server
from waiting import wait_until

HERE = Path(__file__).parent
TIMEOUT_S = 4  # the default of check_timeout


def page(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


app = DockerflowMiddleware(page)


@app.check
def hung():
    time.sleep(3600)


@contextmanager
def gunicorn(*options):
    with gunicorn_server("probes:app", *options, cwd=HERE, PYTHONPATH=str(HERE)) as server:
        yield server.port


@contextmanager
def waitress():
    port = free_port()
    command = ["-m", "waitress", f"--listen=127.0.0.1:{port}", "probes:app"]
    with running([sys.executable, *command], cwd=HERE, PYTHONPATH=str(HERE)) as program:
        program.wait_for("Serving on")
        yield port


SERVERS = {
    "gthread, 4 threads": lambda: gunicorn("--worker-class=gthread", "--threads=4"),
    "gevent": lambda: gunicorn("--worker-class=gevent"),
    "sync, 2 workers": lambda: gunicorn("--workers=2"),
    "waitress, 4 threads": waitress,
}


def probe(port, errors):
    try:
        get(port, "/__heartbeat__")
    except OSError as error:
        errors.append(error)


def measure(port, rate, seconds):
    """Return the durations in seconds of pages and of /__lbheartbeat__, and the failed probes."""
    ends, stop, errors = {"/": [], "/__lbheartbeat__": []}, threading.Event(), []

    def ask_for_pages():
        while not stop.is_set():
            for path, durations in ends.items():
                started_s = time.monotonic()
                get(port, path)
                durations.append(time.monotonic() - started_s)
            stop.wait(0.02)

    client = threading.Thread(target=ask_for_pages)
    client.start()
    started_s = time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0, started_s + number / rate - time.monotonic()))
        threading.Thread(target=probe, args=(port, errors), daemon=True).start()
    time.sleep(max(0, started_s + seconds - time.monotonic()))
    stop.set()
    client.join()
    return ends["/"], ends["/__lbheartbeat__"], errors


def make_known(port):
    """Probe until every worker knows that its check is overdue."""

    def is_known():
        started_s = time.monotonic()
        for _ in range(8):
            get(port, "/__heartbeat__")
        return time.monotonic() - started_s < TIMEOUT_S

    wait_until(is_known)


def shown(durations):
    return f"{statistics.median(durations) * 1000:6.1f} {max(durations) * 1000:7.1f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[0, 1, 5, 50])
    parser.add_argument("--servers", nargs="+", default=list(SERVERS))
    parser.add_argument(
        "--unknown", action="store_true", help="start while the check is not known to hang"
    )
    options = parser.parse_args()
    print("Milliseconds, median and longest, while a check hangs")
    print(f"{'server':20} {'probes/s':>8}  {'page':>14}  {'/__lbheartbeat__':>16}  failed probes")
    for name in options.servers:
        for rate in options.rates:
            with SERVERS[name]() as port:
                for _ in range(8):  # start the workers
                    get(port, "/")
                if rate and not options.unknown:
                    make_known(port)
                pages, beats, errors = measure(port, rate, options.seconds)
            print(f"{name:20} {rate:8g}  {shown(pages)}  {shown(beats)}  {len(errors)}", flush=True)


if __name__ == "__main__":
    main()
