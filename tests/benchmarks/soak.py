"""Request 100,000 heartbeats, mixed with faults, and show that no resource grows.

    pip install '.[test]'
    python tests/benchmarks/soak.py [--heartbeats 100000]

The middleware checks a real Redis and a pooled SQLite, and has checks that raise and that
return invalid objects. In each tenth of the run Redis is stopped and continued, the pool is
exhausted, and a check hangs for a while. The exit code is 1 if threads or connections are left
over, or memory has grown by more than 10 % since the first tenth.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import redis
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogFormatter

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers import redis_server
from waiting import wait_until
from wsgi import Server, hello, make_environ

TENTHS = 10
process = psutil.Process(os.getpid())


class Soak:
    """The middleware under test, with services that can be made to fail.

    Args:
        server: The running Redis, a `programs.Program`.
        client: A client of this Redis.
        engine: An engine with a pool of two connections.
    """

    def __init__(self, server, client, engine):
        self.server = server
        self.engine = engine
        self.gate = threading.Event()
        self.gate.set()
        self.app = DockerflowMiddleware(hello, check_timeout=0.3, redis=client, db=engine)
        self.app.check(lambda: self.gate.wait() and None, name="gated")
        self.app.check(lambda: 1 / 0, name="raises")
        self.app.check(lambda: ["junk"], name="junk")

    def ask(self):
        """Request the heartbeat, and return the body."""
        body = self.app(make_environ("/__heartbeat__"), Server().start_response)
        shown = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        return shown

    def break_everything(self):
        """Cause each fault, check that it is reported, and repair it."""
        self.server.send_signal(signal.SIGSTOP)
        self.expect(b'"check_redis_connected": "error"')
        self.server.send_signal(signal.SIGCONT)
        held = [self.engine.connect(), self.engine.connect()]
        self.expect(b"pool is exhausted")
        for connection in held:
            connection.close()
        self.gate.clear()
        self.expect(b"timed out: it is still running")
        self.gate.set()

    def expect(self, text):
        """Request the heartbeat until it contains a text; it may serve earlier results first."""
        wait_until(lambda: text in self.ask())


def measure():
    """Return threads, open sockets and files, and megabytes of memory."""
    gc.collect()
    memory_mb = process.memory_info().rss / 1_000_000
    return threading.active_count(), process.num_fds(), memory_mb


def run(heartbeats):
    """Run the soak, print a line for each tenth, and return whether nothing grew."""
    print(f"{'heartbeats':>10} {'threads':>8} {'files':>6} {'MB':>7}")
    with (
        tempfile.TemporaryDirectory() as directory,
        redis_server() as server,
        redis.Redis.from_url(server.url) as client,
    ):
        url = f"sqlite:///{directory}/db"
        Path(directory, "db").touch()
        engine = create_engine(url, poolclass=QueuePool, pool_size=2, max_overflow=0)
        soak = Soak(server, client, engine)
        figures = []
        for tenth in range(1, TENTHS + 1):
            soak.break_everything()
            for _ in range(heartbeats // TENTHS):
                soak.ask()
            figures.append(measure())
            print(
                f"{tenth * heartbeats // TENTHS:>10} {'{:>8} {:>6} {:>7.1f}'.format(*figures[-1])}"
            )
        left = engine.pool.checkedout()
        engine.dispose()
    first, last = figures[0], figures[-1]
    print(f"connections left checked out: {left}")
    return left == 0 and last[0] <= first[0] and last[1] <= first[1] and last[2] < 1.1 * first[2]


def main():
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--heartbeats", type=int, default=100_000)
    arguments = parser.parse_args()
    handler = logging.StreamHandler(open(os.devnull, "w", encoding="ascii"))  # noqa: SIM115
    handler.setFormatter(MozlogFormatter())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG)
    nothing_grew = run(arguments.heartbeats)
    print("nothing grew" if nothing_grew else "SOMETHING GREW")
    return 0 if nothing_grew else 1


if __name__ == "__main__":
    sys.exit(main())
