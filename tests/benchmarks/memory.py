"""Serve a million requests, and show that memory does not grow.

    pip install . psutil
    python tests/benchmarks/memory.py [--requests 1000000]

Pages, unfinished streams, errors and probes take turns; summaries are formatted as mozlog JSON and
discarded. The first tenth is a warm-up. The exit code is 1 if the resident memory has grown by more
than 1 % since then, or the memory that Python has allocated (tracemalloc) by more than 32 kB, of
which up to 22 kB are request IDs that were generated in advance.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import os
import sys
import tracemalloc

import psutil

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogFormatter

TENTHS = 10
PATHS = ("/", "/stream", "/raises", "/__lbheartbeat__", "/__heartbeat__", "/__version__")
process = psutil.Process(os.getpid())


class NullHandler(logging.StreamHandler):
    """Formats records without keeping them."""

    def emit(self, record):
        """Format a record."""
        self.format(record)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/raises":
        raise RuntimeError("expected")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (b"x" for _ in range(10)) if environ["PATH_INFO"] == "/stream" else [b"x"]


def serve(wrapped, number):
    """Serve a request, and close the response after its first chunk."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": PATHS[number % len(PATHS)],
        "QUERY_STRING": f"page={number}",
        "HTTP_USER_AGENT": f"agent/{number}",
        "wsgi.input": io.BytesIO(),
    }
    with contextlib.suppress(RuntimeError):
        body = wrapped(environ, lambda _status, _headers, _exc_info=None: None)
        next(iter(body), b"")
        if hasattr(body, "close"):
            body.close()


def main():
    """Serve the requests, and print a line for each tenth."""
    parser = argparse.ArgumentParser(description="Show that memory does not grow.")
    parser.add_argument("--requests", type=int, default=1_000_000, help="default: 1000000")
    requests = parser.parse_args().requests
    handler = NullHandler()
    handler.setFormatter(MozlogFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    # Not the error of /__version__, which has no version.json.
    logging.getLogger("dockerflow_wsgi").setLevel(logging.CRITICAL)
    wrapped = DockerflowMiddleware(app, version_path=os.devnull)
    seen = []
    tracemalloc.start()
    print(f"{'requests':>10}{'resident, kB':>14}{'allocated, bytes':>18}")
    for tenth in range(1, TENTHS + 1):
        for number in range(requests // TENTHS):
            serve(wrapped, number)
        gc.collect()
        seen.append((process.memory_info().rss // 1024, tracemalloc.get_traced_memory()[0]))
        print(f"{tenth * requests // TENTHS:10}{seen[-1][0]:14}{seen[-1][1]:18}", flush=True)
    (first_rss, first_allocated), (last_rss, last_allocated) = seen[0], seen[-1]
    if last_rss > first_rss * 1.01 or last_allocated > first_allocated + 32_768:
        sys.exit("memory has grown")


if __name__ == "__main__":
    main()
