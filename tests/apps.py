"""Apps for servers that run in separate processes."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.logging import MozlogHandler

logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO)


def app(_environ, start_response):
    """Respond with the IDs of the process and the thread."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {threading.current_thread().name}".encode()]


fine = DockerflowMiddleware(app)
hanging = DockerflowMiddleware(app, check_timeout=1)


@fine.check
@hanging.check
def process():
    """Report the ID of the process after 0.05 s."""
    time.sleep(0.05)
    return checks.Debug(str(os.getpid()))


@hanging.check
def hangs():
    """Hang for ten minutes."""
    time.sleep(600)


if "preheat" in os.environ.get("TEST_APPS", ""):
    # Like an app that requests its heartbeat while it is loaded, before a fork.
    list(hanging({"PATH_INFO": "/__heartbeat__", "REQUEST_METHOD": "GET"}, lambda *_: None))
    sys.stderr.write("preheated\n")

# Like a preloaded app that serves a request before its server forks.
warmed = DockerflowMiddleware(lambda _environ, start_response: start_response("200 OK", []) or [])
warmed({"PATH_INFO": "/", "REQUEST_METHOD": "GET"}, lambda *_: None).close()
