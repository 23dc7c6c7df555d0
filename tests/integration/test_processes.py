"""Checks in processes that fork, are stopped by a signal, or end."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest
from probing import heartbeat
from programs import ROOT, run_python
from servers import gunicorn_server, uwsgi_server
from waiting import TIMEOUT_S

# From Python 3.12 on, a fork in a process with threads is a DeprecationWarning.
FORKS = ("-W", "ignore:This process:DeprecationWarning")
SETUP = """
import json, logging, os, threading, time
from dockerflow_wsgi import CheckRegistry, checks
from dockerflow_wsgi.checks.runner import CheckRunner
logging.disable()
registry = CheckRegistry()
release = threading.Event()
registry.check(lambda: release.wait(600), name="hangs")
registry.check(lambda: [], name="fine")
runner = CheckRunner(
    registry, timeout_s=1, ttl_s=0, failed_level=30, silenced=(), on_report=None
)
def report():
    print(json.dumps(runner.report().to_dict()), flush=True)
"""


def test_a_hanging_check_does_not_keep_python_from_exiting():
    """The thread of a check is a daemon, so the process ends without waiting for it."""
    (line,) = run_python(SETUP + "report()")
    assert json.loads(line)["checks"] == {"hangs": "error", "fine": "ok"}


def test_a_forked_child_starts_its_own_checks():
    """A check that hangs in the parent has no thread in the child, and is started there."""
    code = """
report()
child = os.fork()
if not child:
    report()
    os._exit(0)
os.waitpid(child, 0)
report()
"""
    parent, child, parent_again = map(json.loads, run_python(SETUP + code, *FORKS))
    first, in_child, second = (
        line["details"]["hangs"]["messages"]["dockerflow.checks.E002"]
        for line in (parent, child, parent_again)
    )
    assert "timed out: it is still running after" in first
    assert "timed out: it is still running after" in in_child
    assert "still running" in second
    assert {line["checks"]["fine"] for line in (parent, child, parent_again)} == {"ok"}


def test_a_hanging_name_lookup_does_not_keep_python_from_exiting():
    """An async check may look up a name, for which event loops use threads that Python joins."""
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
    """Greenlets share a thread, in which asyncio allows only one running loop."""
    code = """
from gevent import monkey; monkey.patch_all()
import asyncio
"""
    checks = """
async def one(): await asyncio.sleep(0.1)
async def two(): await asyncio.sleep(0.1)
registry = CheckRegistry(); registry.check(one); registry.check(two)
runner = CheckRunner(
    registry, timeout_s=60, ttl_s=0, failed_level=30, silenced=(), on_report=None
)
report()
"""
    (line,) = run_python(code + SETUP + checks)
    shown = json.loads(line)["checks"]
    assert (shown["one"], shown["two"]) == ("ok", "ok")


def test_with_gevent_a_prober_that_is_killed_leaves_its_runs():
    """The next prober of the same heartbeat gets the results, and no check runs again."""
    code = """
from gevent import monkey; monkey.patch_all()
import gevent
"""
    checks = """
calls, go_on = [], threading.Event()
registry = CheckRegistry()
registry.check(lambda: [calls.append(1), go_on.wait(60)][2:], name="slow")
runner = CheckRunner(
    registry, timeout_s=60, ttl_s=0, failed_level=30, silenced=(), on_report=None
)
with gevent.Timeout(0.1, False):
    report()
go_on.set()
gevent.sleep(0.1)
report()
print(len(calls))
"""
    line, calls = run_python(code + SETUP + checks)
    assert json.loads(line)["checks"] == {"slow": "ok"}
    assert calls == "1"


def test_with_gevent_that_patches_late_probers_share_a_heartbeat():
    """Greenlets share a run, its log and its hook, even if gevent patches after the import."""
    code = """
from gevent import monkey; monkey.patch_all()
import gevent
calls, reports = [], []
registry = CheckRegistry()
registry.check(lambda: [calls.append(1), time.sleep(0.2)][2:], name="slow")
runner = CheckRunner(
    registry, timeout_s=20, ttl_s=0, failed_level=30, silenced=(), on_report=reports.append
)
gevent.joinall([gevent.spawn(runner.report) for _ in range(20)], raise_error=True)
print(len(calls), len(reports))
"""
    assert run_python(SETUP + code) == ["1 1"]


def test_a_fork_does_not_inherit_a_result():
    """With a time to live: the child asks for itself."""
    code = """
registry = CheckRegistry()
registry.check(lambda: checks.Debug(str(os.getpid())), name="process")
runner = CheckRunner(
    registry, timeout_s=5, ttl_s=600, failed_level=30, silenced=(), on_report=None
)
def show():
    print(runner.report().details["process"]["messages"]["process"], os.getpid(), flush=True)
show()
child = os.fork()
if not child:
    show()
    os._exit(0)
os.waitpid(child, 0)
"""
    for line in run_python(SETUP + code, *FORKS):
        reported, process = line.split()
        assert reported == process


@pytest.mark.parametrize("preheat", ["", "preheat"])
def test_preloaded_workers_run_their_own_checks(preheat):
    """With ``gunicorn --preload``, each forked worker runs the checks, not the parent."""
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
    """A worker with a hanging check ends within the graceful timeout, with exit code 0."""
    options = ("--worker-class", worker, "--graceful-timeout", str(TIMEOUT_S), "--chdir", "tests")
    with gunicorn_server("apps:hanging", *options) as server:
        assert heartbeat(server.port)[1]["checks"]["hangs"] == "error"
        started_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_s < TIMEOUT_S / 2


def test_with_gevent_other_greenlets_run_while_a_check_hangs():
    """With monkey patching, a check's thread is a greenlet, and so is the wait for it."""
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
    assert int(ticks) > 1  # a blocked one would have ticked once at most


def test_a_gevent_worker_serves_while_a_check_hangs():
    """A gevent worker answers several heartbeats while a check hangs."""
    options = ("--worker-class", "gevent", "--chdir", "tests")
    with gunicorn_server("apps:hanging", *options) as server:
        for _ in range(3):
            assert heartbeat(server.port)[1]["checks"] == {"process": "debug", "hangs": "error"}


def test_workers_of_uwsgi_never_generate_the_same_id():
    """uWSGI forks its workers in C, after a request, without running Python's fork hooks."""
    made = []
    with uwsgi_server("apps:warmed", "--processes", "4", cwd=ROOT / "tests") as port:
        for _ in range(100):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S) as response:
                made.append(response.headers["X-Request-ID"])
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("options", [(), ("--enable-threads",), ("--threads", "2")])
def test_uwsgi_is_answered_at_the_deadline(options):
    """A check's thread runs, and the deadline works, with and without ``enable-threads``."""
    with uwsgi_server("apps:hanging", *options, cwd=ROOT / "tests") as port:
        for _ in range(2):
            started_s = time.monotonic()
            status, shown = heartbeat(port)
            assert time.monotonic() - started_s < TIMEOUT_S
            assert status == 500
            assert shown["checks"] == {"process": "debug", "hangs": "error"}
