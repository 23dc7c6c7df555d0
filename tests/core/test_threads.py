"""No request does what stops all threads of a free-threaded Python."""

from __future__ import annotations

import sys

from programs import ROOT, run

CODE = """
import gc, io, logging, sys
from contextlib import suppress
from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.flask import Dockerflow
from dockerflow_wsgi.logging import MozlogHandler
from flask import Flask
from wsgi import call, make_environ

STOPS = {
    "gc.get_objects", "gc.get_referrers", "object.__setattr__", "os.fork", "sys.setprofile",
    "sys.settrace", "sys._current_exceptions", "sys._current_frames",
}
if "coverage" in sys.modules:
    STOPS.remove("sys.settrace")  # coverage traces each new thread
PATHS = [
    "/", "/raises", "/streamed", "/written",
    "/__error__", "/__heartbeat__", "/__lbheartbeat__", "/__version__",
]
seen = None

def watch(event, arguments):
    if seen is not None and event in STOPS:
        seen.append((event, *map(str, arguments)))

def watch_collector(phase, _info):
    if seen is not None and phase == "start":
        seen.append("gc.collect")

def app(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"]
    if path == "/raises":
        raise ZeroDivisionError
    if path == "/written":
        write(b"written")
    return iter([b"a", b"b"]) if path == "/streamed" else [b"hello"]

def request_all():
    # For error pages, Flask itself assigns the class of the response.
    for wrapped, paths in ((plain, PATHS), (flask_app, ["/", "/__heartbeat__"])):
        for path in paths:
            for method in ("GET", "HEAD"):
                with suppress(Exception):
                    call(wrapped, make_environ(path, method))

logging.basicConfig(level=logging.DEBUG, handlers=[MozlogHandler(stream=io.StringIO())])
plain = DockerflowMiddleware(app, error_endpoint=True)
plain.check(lambda: [], name="fine")
flask_app = Flask(__name__)
flask_app.add_url_rule("/", "page", lambda: "hello")
Dockerflow(flask_app)
request_all()  # the first requests import modules

gc.disable()  # what collects from now on is called
gc.callbacks.append(watch_collector)
sys.addaudithook(watch)
seen = []
request_all()
print(seen)
seen = []
class Thing: pass
thing = Thing()
thing.__class__ = Thing
gc.collect()
print(seen)
"""


def test_requests_do_not_stop_all_threads():
    """No request assigns a ``__class__``, calls the garbage collector, forks, or traces.

    Free-threaded Python stops all threads for these. The audit events of Python show them.
    """
    done = run([sys.executable, "-c", CODE], cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    of_requests, of_the_watch = done.stdout.splitlines()
    assert of_requests == "[]"
    assert "__class__" in of_the_watch
    assert "gc.collect" in of_the_watch
