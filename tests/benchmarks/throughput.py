"""Measure the requests per second of a server with and without the middleware; print a table.

    pip install --upgrade pip  # 25.1 or newer
    pip install '.[flask]' gunicorn psutil --group benchmark
    apt-get install wrk
    python tests/benchmarks/throughput.py [--rounds 15] [--seconds 1]

A gunicorn with one worker serves each variant, and wrk sends the requests on eight connections, to
one variant at a time. Each variant is measured right after the app without the middleware, in
several rounds, and the median of these pairs counts, because the speed of a shared machine varies.
Summaries go to the null device as mozlog JSON, or are off. A plain app that only writes a line of
that length and sends a constant ID shows the best possible ratio. "Extension" is
`dockerflow_wsgi.flask.Dockerflow`; "ours" is `DockerflowMiddleware`.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import flask

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.flask import Dockerflow
from dockerflow_wsgi.logging import MozlogFormatter

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers import gunicorn_server

WORKERS = {
    "sync": ("--worker-class=sync",),
    "gthread": ("--worker-class=gthread", "--threads=4"),
}
BODY = b"hello"


def plain(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [BODY]


plain_ours = DockerflowMiddleware(plain)
null = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends


def plain_writing(_environ, start_response):
    null.write("x" * 500 + "\n")
    null.flush()
    headers = [("Content-Type", "text/plain"), ("Content-Length", "5"), ("X-Request-ID", "x" * 36)]
    start_response("200 OK", headers)
    return [BODY]


flask_bare = flask.Flask("bare")
flask_bare.add_url_rule("/", "hello", lambda: BODY)

flask_ours = flask.Flask("ours")
flask_ours.add_url_rule("/", "hello", lambda: BODY)
flask_ours.wsgi_app = DockerflowMiddleware(flask_ours.wsgi_app)

flask_extended = flask.Flask("extended")
flask_extended.add_url_rule("/", "hello", lambda: BODY)
Dockerflow(flask_extended)

# By label: the app, the label of the app without the middleware, and the goal for the ratio.
VARIANTS = {
    "plain": ("plain", None, None),
    "plain, line and ID": ("plain_writing", "plain", None),
    "plain, ours": ("plain_ours", "plain", 0.97),
    "plain, ours, off": ("without_summaries('plain_ours')", "plain", 0.97),
    "flask": ("flask_bare", None, None),
    "flask, ours": ("flask_ours", "flask", 0.95),
    "flask, ours, off": ("without_summaries('flask_ours')", "flask", 0.95),
    "flask, extension": ("flask_extended", "flask", 0.95),
    "flask, extension, off": ("without_summaries('flask_extended')", "flask", 0.95),
}


def without_summaries(name):
    """Return an app, and turn off summaries in its process."""
    logging.getLogger("request.summary").setLevel(logging.CRITICAL + 1)
    return globals()[name]


def log_to_the_null_device():
    """Write summaries to the null device, formatted as in production."""
    handler = logging.StreamHandler(null)
    handler.setFormatter(MozlogFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)


def requests_per_second(port, seconds):
    """Send requests for some seconds on eight connections."""
    command = ["wrk", "--threads=1", "--connections=8", f"--duration={seconds}s"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])


def measure(options, rounds, seconds):
    """Return the requests per second of each variant and of its app alone, by round."""
    measured = {variant: [] for variant in VARIANTS}
    with ExitStack() as stack:
        ports = {
            variant: stack.enter_context(
                gunicorn_server(f"throughput:{app}", *options, cwd=Path(__file__).parent)
            ).port
            for variant, (app, _bare, _goal) in VARIANTS.items()
        }
        for _ in range(rounds):
            for variant, (_app, bare, _goal) in VARIANTS.items():
                before = requests_per_second(ports[bare or variant], seconds)
                measured[variant].append((requests_per_second(ports[variant], seconds), before))
    return measured


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure requests per second.")
    parser.add_argument("--rounds", type=int, default=15, help="default: 15")
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement; default: 1")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("there is no wrk here: install it with apt-get install wrk")
    print(f"{'worker':9}{'variant':22}{'requests/s':>11}{'now':>8}{'goal':>9}")
    for worker, options in WORKERS.items():
        measured = measure(options, arguments.rounds, arguments.seconds)
        for variant, (_app, bare, goal) in VARIANTS.items():
            rate = statistics.median(now for now, _before in measured[variant])
            share = statistics.median(now / before for now, before in measured[variant])
            kept = f"{share:8.1%}" if bare else ""
            aim = f"{f'>= {goal:.0%}':>9}" if goal else ""
            print(f"{worker:9}{variant:22}{rate:11.0f}{kept}{aim}")


if __name__ == "__main__":
    main()
else:
    log_to_the_null_device()
