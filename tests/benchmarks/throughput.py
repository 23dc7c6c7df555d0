"""What share of its requests per second a server keeps with the middleware; prints a table.

    pip install '.[flask]' gunicorn psutil sqlalchemy --group benchmark
    apt-get install wrk
    python tests/benchmarks/throughput.py [--rounds 5] [--seconds 4]

Each variant is served by a gunicorn with one worker, all of them at once and each idle but when
it is asked, by wrk with eight connections. Rounds take the variants in turns, and the best
round of each counts, because a busy machine can only make a round slower. Summaries go to the
null device as mozlog JSON, or are off. What a plain app that only writes a line of that length
keeps says how near the goal can be reached.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
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


def plain_writing(environ, start_response):
    null.write("x" * 500 + "\n")
    null.flush()
    return plain(environ, start_response)


flask_bare = flask.Flask("bare")
flask_bare.add_url_rule("/", "hello", lambda: BODY)

flask_ours = flask.Flask("ours")
flask_ours.add_url_rule("/", "hello", lambda: BODY)
Dockerflow(flask_ours)

# What each variant is, the one without the middleware, and the share that is to be left.
VARIANTS = {
    "plain": ("plain", None, None),
    "plain, a line": ("plain_writing", "plain", None),
    "plain, ours": ("plain_ours", "plain", 0.97),
    "plain, ours, off": ("without_summaries('plain_ours')", "plain", 0.97),
    "flask": ("flask_bare", None, None),
    "flask, ours": ("flask_ours", "flask", 0.95),
    "flask, ours, off": ("without_summaries('flask_ours')", "flask", 0.95),
}


def without_summaries(name):
    """Return an app, and turn off summaries in its process."""
    logging.getLogger("request.summary").setLevel(logging.CRITICAL + 1)
    return globals()[name]


def log_to_the_null_device():
    """Write summaries as in production, but keep none."""
    handler = logging.StreamHandler(null)
    handler.setFormatter(MozlogFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)


def requests_per_second(port, seconds):
    """Ask a server for some seconds with eight connections."""
    command = ["wrk", "--threads=1", "--connections=8", f"--duration={seconds}s"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])


def measure(options, rounds, seconds):
    """Return the best requests per second of each variant."""
    best = dict.fromkeys(VARIANTS, 0.0)
    with ExitStack() as stack:
        ports = {
            variant: stack.enter_context(
                gunicorn_server(f"throughput:{app}", *options, cwd=Path(__file__).parent)
            ).port
            for variant, (app, _bare, _goal) in VARIANTS.items()
        }
        for _ in range(rounds):
            for variant, port in ports.items():
                best[variant] = max(best[variant], requests_per_second(port, seconds))
    return best


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure requests per second.")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement; default: 4")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("there is no wrk here: install it with apt-get install wrk")
    print(f"{'worker':9}{'variant':18}{'requests/s':>11}{'now':>8}{'goal':>9}")
    for worker, options in WORKERS.items():
        best = measure(options, arguments.rounds, arguments.seconds)
        for variant, (_app, bare, goal) in VARIANTS.items():
            share = f"{best[variant] / best[bare]:8.1%}" if bare else ""
            aim = f"{f'>= {goal:.0%}':>9}" if goal else ""
            print(f"{worker:9}{variant:18}{best[variant]:11.0f}{share}{aim}")


if __name__ == "__main__":
    main()
else:
    log_to_the_null_device()
