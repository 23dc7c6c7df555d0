"""Async checks with real clients, in forked processes and under gevent."""

from __future__ import annotations

import sys

import pytest
from programs import run
from servers import POSTGRESQL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.sql import text
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.checks.event_loop import run_coroutine


def test_redis_asyncio_keeps_its_connection(redis_url):
    """A client of redis.asyncio works on every run, with one connection."""
    redis = pytest.importorskip("redis.asyncio", reason="redis-py has it since 4.2")
    client = redis.Redis.from_url(redis_url)
    app = DockerflowMiddleware(hello)
    ids = set()

    @app.check
    async def cache():
        ids.add(await client.client_id())

    for _ in range(5):
        assert request(app, "/__heartbeat__").status == "200 OK"
    assert len(ids) == 1
    run_coroutine(client.connection_pool.disconnect())


@pytest.mark.skipif(not POSTGRESQL.endswith("psycopg"), reason="psycopg 2 has no asyncio")
def test_sqlalchemys_asyncio_engine_keeps_its_connection(postgres_url):
    """An engine of SQLAlchemy's asyncio extension works on every run, with one connection."""
    engine = create_async_engine(postgres_url)
    app = DockerflowMiddleware(hello)
    ids = set()

    @app.check
    async def database():
        async with engine.connect() as connection:
            ids.add(await connection.scalar(text("SELECT pg_backend_pid()")))

    for _ in range(5):
        assert request(app, "/__heartbeat__").status == "200 OK"
    assert len(ids) == 1
    run_coroutine(engine.dispose())


FORKS = """
import asyncio, os, sys, threading
from dockerflow_wsgi import CheckRegistry, DockerflowMiddleware
registry = CheckRegistry()
@registry.check
async def sleeps():
    await asyncio.sleep(0.01)
from dockerflow_wsgi.checks.runner import CheckRunner
def report():
    options = {"ttl_s": 0, "failed_level": 30, "silenced": (), "on_report": None}
    runner = CheckRunner(registry, timeout_s=20, **options)
    return runner.report().status
def prober():
    while True:
        report()
if sys.argv[1] == "running":
    report()
for _ in range(4):
    threading.Thread(target=prober, daemon=True).start()
for number in range(20):
    child = os.fork()
    if not child:
        os._exit(0 if report() == "ok" else 1)
    assert os.waitpid(child, 0)[1] == 0, number
print("ok", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("moment", ["running", "starting"])
def test_a_child_runs_async_checks_after_a_fork_at_any_moment(moment):
    """A fork while checks run or start leaves the child able to run async checks."""
    done = run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, moment])
    assert (done.stdout, done.stderr) == ("ok\n", "")


GEVENT = """
from gevent import monkey; monkey.patch_all()
import asyncio, contextvars, gevent, socket, threading
from dockerflow_wsgi.checks.event_loop import run_coroutine
name = contextvars.ContextVar("name")
name.set("ada")
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.001)
gevent.spawn(tick)
async def who():
    seen = len(ticks)
    while len(ticks) < seen + 3:
        await asyncio.sleep(0)
    return name.get()
async def hang():
    await asyncio.get_running_loop().run_in_executor(None, hung.wait)
async def look_up():
    return await asyncio.get_running_loop().getaddrinfo("localhost", 80)
hung = threading.Event()
for _ in range(10):
    gevent.spawn(run_coroutine, hang())
several = [gevent.spawn(contextvars.copy_context().run, run_coroutine, who()) for _ in range(5)]
gevent.joinall(several, raise_error=True)
print(*[greenlet.value for greenlet in several])
print(bool(run_coroutine(look_up())), bool(socket.getaddrinfo("localhost", 80)))
async def own():
    return run_coroutine(who())
print(asyncio.run(own()))
"""


def test_under_gevent_coroutines_run_on_a_real_thread():
    """Several coroutines run at the same time, and hold up neither greenlets nor look-ups."""
    done = run([sys.executable, "-c", GEVENT])
    assert (done.stdout, done.stderr) == ("ada ada ada ada ada\nTrue True\nada\n", "")
