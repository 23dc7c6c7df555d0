"""Forks, signals and the end of a process: checks are never in the way."""

from __future__ import annotations

import json
import sys
import time
import urllib.request

import pytest
from probing import heartbeat
from programs import ROOT, run
from servers import gunicorn_server, uwsgi_server
from waiting import TIMEOUT_S


def run_python(code):
    """Run code in an interpreter of its own, and return the lines that it prints."""
    done = run([sys.executable, "-c", code], cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


SETUP = """
import json, os, threading, time
from dockerflow_wsgi import CheckRegistry, checks
from dockerflow_wsgi.checks.runner import CheckRunner
registry = CheckRegistry()
release = threading.Event()
registry.check(lambda: release.wait(600), name="hangs")
registry.check(lambda: [], name="fine")
runner = CheckRunner(
    registry, timeout_s=0.3, ttl_s=0, failed_level=30, silenced=(), on_report=None
)
def report():
    print(json.dumps(runner.report().to_dict()), flush=True)
"""


def test_a_hanging_check_does_not_keep_python_from_exiting():
    """Its thread is a daemon: the process ends at once."""
    (line,) = run_python(SETUP + "report()")
    assert json.loads(line)["checks"] == {"hangs": "error", "fine": "ok"}


def test_a_fork_starts_its_checks_anew():
    """A check that hangs in the parent has no thread in the child: there it is started."""
    code = """
report()
child = os.fork()
if not child:
    report()
    os._exit(0)
os.waitpid(child, 0)
report()
"""
    parent, child, parent_again = map(json.loads, run_python(SETUP + code))
    told = [line["details"]["hangs"]["messages"] for line in (parent, child, parent_again)]
    assert "timed out: it is still running after" in told[0]["dockerflow.checks.E002"]
    assert "timed out: it is still running after" in told[1]["dockerflow.checks.E002"]
    assert "still running" in told[2]["dockerflow.checks.E002"]
    assert {line["checks"]["fine"] for line in (parent, child, parent_again)} == {"ok"}


def test_an_async_check_that_waits_for_a_name_does_not_keep_python_from_exiting():
    """Event loops look names up on threads, which Python joins at its end."""
    code = """
import socket
socket.getaddrinfo = lambda *_, **__: time.sleep(600)
async def looks_up():
    import asyncio
    await asyncio.open_connection("store.internal", 80)
registry.check(looks_up)
report()
"""
    (line,) = run_python(SETUP + code)
    assert json.loads(line)["checks"]["looks_up"] == "error"


def test_with_gevent_async_checks_run_side_by_side():
    """Though asyncio allows one running loop in a thread, which all greenlets share."""
    code = """
from gevent import monkey; monkey.patch_all()
import asyncio
"""
    checks = """
async def one(): await asyncio.sleep(0.1)
async def two(): await asyncio.sleep(0.1)
registry.check(one); registry.check(two)
report()
"""
    (line,) = run_python(code + SETUP + checks)
    shown = json.loads(line)["checks"]
    assert (shown["one"], shown["two"]) == ("ok", "ok")


def test_a_fork_does_not_inherit_a_result():
    """With a time to live: the child asks for itself."""
    code = """
registry.remove("hangs")
registry.check(lambda: checks.Debug(str(os.getpid())), name="process")
runner = CheckRunner(
    registry, timeout_s=5, ttl_s=600, failed_level=30, silenced=(), on_report=None
)
def told():
    print(runner.report().details["process"]["messages"]["process"], os.getpid(), flush=True)
told()
child = os.fork()
if not child:
    told()
    os._exit(0)
os.waitpid(child, 0)
"""
    for line in run_python(SETUP + code):
        told, process = line.split()
        assert told == process


@pytest.mark.parametrize("preheat", ["", "preheat"])
def test_preloaded_workers_run_their_own_checks(preheat):
    """gunicorn --preload: each worker, forked from the loaded app, runs them by itself."""
    options = ("--preload", "--workers", "3", "--chdir", "tests")
    with gunicorn_server("apps:hanging", *options, TEST_APPS=preheat) as server:
        processes = set()
        for _ in range(6):
            status, shown = heartbeat(server.port)
            assert status == 500
            assert shown["checks"] == {"process": "debug", "hangs": "error"}
            processes.add(shown["details"]["process"]["messages"]["process"])
    assert str(server.process.pid) not in processes


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_a_worker_with_a_hanging_check_stops_on_sigterm(worker):
    """Within the graceful time, and without being killed."""
    options = ("--worker-class", worker, "--graceful-timeout", str(TIMEOUT_S), "--chdir", "tests")
    with gunicorn_server("apps:hanging", *options) as server:
        assert heartbeat(server.port)[1]["checks"]["hangs"] == "error"
        started_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_s < TIMEOUT_S / 2


def test_with_gevent_other_greenlets_go_on_while_a_check_hangs():
    """Monkey patching makes greenlets of the check's thread and of the wait for it."""
    code = """
from gevent import monkey; monkey.patch_all()
import gevent
"""
    ticking = """
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
gevent.spawn(tick)
report()
print(len(ticks))
"""
    line, ticks = run_python(code + SETUP + ticking)
    assert json.loads(line)["checks"] == {"hangs": "error", "fine": "ok"}
    assert int(ticks) > 10


def test_a_gevent_worker_serves_while_a_check_hangs():
    """Over real sockets: pages are answered while a heartbeat waits."""
    options = ("--worker-class", "gevent", "--chdir", "tests")
    with gunicorn_server("apps:hanging", *options) as server:
        for _ in range(3):
            assert heartbeat(server.port)[1]["checks"] == {"process": "debug", "hangs": "error"}


def test_workers_of_uwsgi_never_give_out_the_same_id():
    """They are forked in C from an app that was warmed up, and Python's fork hooks do not run."""
    made = []
    with uwsgi_server("apps:warmed", "--processes", "4", cwd=ROOT / "tests") as port:
        for _ in range(100):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S) as response:
                made.append(response.headers["X-Request-ID"])
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("options", [(), ("--enable-threads",), ("--threads", "2")])
def test_uwsgi_is_answered_at_the_deadline(options):
    """With and without ``enable-threads``: since Python 3.7 a check's thread runs in both."""
    with uwsgi_server("apps:hanging", *options, cwd=ROOT / "tests") as port:
        for _ in range(2):
            started_s = time.monotonic()
            status, shown = heartbeat(port)
            assert time.monotonic() - started_s < TIMEOUT_S
            assert status == 500
            assert shown["checks"] == {"process": "debug", "hangs": "error"}
