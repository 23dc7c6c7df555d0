"""Flood the background server with slow clients, and show that probes are still answered.

    pip install '.[test]'
    python tests/benchmarks/slow_clients.py [--seconds 20]

Clients connect continuously and send half a request each. The exit code is 1 if a probe was not
answered, if threads or files are left over, or if memory has grown by more than 10 %.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import threading
import time
from http.client import HTTPConnection

import psutil

from dockerflow_wsgi import CheckRegistry, serve_in_background

CLIENTS = 300  # connections that each flooding thread keeps open
process = psutil.Process(os.getpid())


def flood(port, end_s, counts):
    """Connect repeatedly until a time, and send half a request each."""
    kept = []
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            kept.append(socket.create_connection(("127.0.0.1", port), 1))
            kept[-1].sendall(b"GET /__heart")
            counts.append(1)
        if len(kept) > CLIENTS:
            kept.pop(0).close()
        time.sleep(0.001)
    for client in kept:
        client.close()


def ask(port, path):
    """Return whether the status is 200, and the milliseconds until the response."""
    started_s = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        with contextlib.closing(connection):
            connection.request("GET", path)
            is_ok = connection.getresponse().status == 200
    except OSError:
        is_ok = False
    return is_ok, (time.monotonic() - started_s) * 1000


def measure():
    """Return threads, open files and megabytes of memory."""
    return process.num_threads(), process.num_fds(), process.memory_info().rss / 1_000_000


def run(seconds):
    """Flood the server, print the figures, and return whether everything was answered."""
    registry = CheckRegistry()
    registry.check(lambda: [], name="fine")
    with serve_in_background(registry, host="127.0.0.1", port=0) as server:
        for path in ("/__lbheartbeat__", "/__heartbeat__"):
            ask(server.port, path)
        before, most = measure(), 0
        counts, answers = [], []
        end_s = time.monotonic() + seconds
        floods = [
            threading.Thread(target=flood, args=(server.port, end_s, counts)) for _ in range(2)
        ]
        for thread in floods:
            thread.start()
        while time.monotonic() < end_s:
            for path in ("/__lbheartbeat__", "/__heartbeat__"):
                answers.append(ask(server.port, path))
                most = max(most, process.num_threads() - len(floods))
            time.sleep(0.05)
        for thread in floods:
            thread.join()
        time.sleep(6)  # until the remaining requests have timed out
        after = measure()
    failed = sum(not is_ok for is_ok, _ in answers)
    print(f"{len(counts)} slow clients, {len(answers)} probes, {failed} of them failed")
    print(f"slowest probe {max(ms for _, ms in answers):.0f} ms, at most {most} threads")
    for name, (threads, files, megabytes) in (("before", before), ("after", after)):
        print(f"{name:>6}: {threads} threads, {files} files, {megabytes:.1f} MB")
    return (
        not failed
        and after[0] <= before[0]
        and after[1] <= before[1]
        and after[2] < 1.1 * before[2]
    )


def main():
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    is_good = run(parser.parse_args().seconds)
    print("nothing grew" if is_good else "SOMETHING GREW OR FAILED")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
