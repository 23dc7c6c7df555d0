"""Coroutines that synchronous code runs to their end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading

import pytest
from programs import run
from waiting import TIMEOUT_S

from dockerflow_wsgi.checks.coroutine import run_coroutine

caller = contextvars.ContextVar("caller", default="nobody")


async def tell():
    """Tell who asked, and on which thread."""
    await asyncio.sleep(0)
    return caller.get(), threading.current_thread()


@pytest.fixture
def as_ada():
    """Be somebody, in the context."""
    token = caller.set("ada")
    yield
    caller.reset(token)


@pytest.mark.usefixtures("as_ada")
def test_it_runs_on_the_callers_thread():
    """Where no loop runs, none needs another thread; the context is the caller's."""
    assert run_coroutine(tell()) == ("ada", threading.current_thread())


def test_what_it_gave_to_threads_is_waited_for():
    """As `asyncio.run` does: a check that gives up on a thread would leave one more each time."""
    started, release, ended = threading.Event(), threading.Event(), []

    def hangs():
        started.set()
        ended.append(release.wait(TIMEOUT_S))

    async def gives_up():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(hangs), 0.01)
        return "gave up"

    runner = threading.Thread(target=lambda: ended.append(run_coroutine(gives_up())))
    runner.start()
    assert started.wait(TIMEOUT_S)
    runner.join(0.1)
    assert ended == []
    release.set()
    runner.join(TIMEOUT_S)
    assert ended == [True, "gave up"]


@pytest.mark.usefixtures("as_ada")
def test_within_a_running_loop_it_runs_on_another_thread():
    """asyncio allows one running loop in a thread; the context goes along."""

    async def outer():
        return run_coroutine(tell())

    name, thread = asyncio.run(outer())
    assert name == "ada"
    assert thread is not threading.current_thread()
    assert thread.daemon


async def fails():
    """Raise."""
    raise LookupError("gone")


async def asks_for_what_fails():
    """Raise what another coroutine raises, out of another thread."""
    run_coroutine(fails())


@pytest.mark.parametrize("function", [fails, asks_for_what_fails])
def test_what_it_raises_is_raised(function):
    """Also out of another thread."""
    with pytest.raises(LookupError, match="gone"):
        run_coroutine(function())


def test_tasks_that_it_leaves_are_cancelled():
    """They end in their own ``finally``, before the result is there."""
    ended = []

    async def goes_on():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def leaves():
        task = asyncio.get_running_loop().create_task(goes_on())
        await asyncio.sleep(0)
        return task

    assert run_coroutine(leaves()).cancelled()
    assert ended == ["task"]


def test_generators_that_it_leaves_are_closed():
    """What they hold open is let go."""
    closed = []

    async def numbers():
        try:
            yield 1
        finally:
            closed.append("numbers")

    left = numbers()

    async def leaves():
        return await anext(left)

    assert run_coroutine(leaves()) == 1
    assert closed == ["numbers"]


def test_work_that_it_gives_to_a_thread_is_daemonic():
    """It returns and raises as with any executor, and never keeps Python from exiting."""

    async def works():
        loop = asyncio.get_running_loop()
        thread = await loop.run_in_executor(None, threading.current_thread)
        with contextlib.suppress(ValueError):
            await loop.run_in_executor(None, int, "no number")
            return "raised nothing"
        return thread.daemon

    assert run_coroutine(works()) is True


def test_under_gevent_it_runs_on_a_real_thread_in_the_callers_context():
    """Greenlets share a thread, and a loop in it would hold them all up."""
    code = """
from gevent import monkey; monkey.patch_all()
import asyncio, contextvars, gevent
from dockerflow_wsgi.checks.coroutine import run_coroutine
name = contextvars.ContextVar("name")
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.001)
async def tell():
    seen = len(ticks)
    while len(ticks) < seen + 3:
        await asyncio.sleep(0)
    return name.get()
name.set("ada")
gevent.spawn(tick)
print(run_coroutine(tell()))
"""
    done = run([sys.executable, "-c", code])
    assert (done.stdout, done.stderr) == ("ada\n", "")
