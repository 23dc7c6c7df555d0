"""The event loop of the async checks: one per process, on a daemon thread, never closed.

Clients that keep connections (``redis.asyncio``, ``httpx.AsyncClient``, asyncpg) work in it on
every run. Nothing is cancelled after a run, because a client may keep tasks too.

The registry imports this module, and so asyncio, with the first async check: a fork during an
import would leave the child with a locked module.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ..errors import NoThreadError

_POLL_S = 0.005

# By process: a child has neither its parent's threads nor a lock that one of them holds. It must
# not close its parent's loop, because both share one epoll object.
_locks: dict[int, threading.Lock] = {}
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in the process's event loop, with the caller's context variables."""
    result: list[tuple[Any, BaseException | None]] = []

    async def catch() -> None:
        try:
            result.append((await coroutine, None))
        except BaseException as error:  # noqa: BLE001 - SystemExit would end the event loop
            result.append((None, error))

    try:
        loop = _get_loop()
    except BaseException:
        coroutine.close()  # else Python warns that it was never awaited
        raise
    future = asyncio.run_coroutine_threadsafe(catch(), loop)
    if _is_gevent_patched():
        while not result:  # a lock of gevent's cannot be released by another thread
            time.sleep(_POLL_S)
    else:
        future.result()
    value, error = result.pop()
    if error is not None:
        raise error
    return value


def _get_loop() -> asyncio.AbstractEventLoop:
    process = os.getpid()
    with _locks.setdefault(process, threading.Lock()):
        if process not in _loops:
            _loops[process] = _start_in_gevent() if _is_gevent_patched() else _start()
        return _loops[process]


def _start() -> asyncio.AbstractEventLoop:
    loop = _new_loop()
    name = "dockerflow-event-loop"
    try:
        threading.Thread(target=_run, args=(loop,), name=name, daemon=True).start()
    except RuntimeError as error:
        loop.close()
        raise NoThreadError(f"the check was not run: {error}") from error
    return loop


def _start_in_gevent() -> asyncio.AbstractEventLoop:
    # A patched thread is a greenlet: a loop in it would keep the app from running its own. This
    # pool has one real thread, with a hub and a resolver of its own.
    from gevent.threadpool import ThreadPool

    pool = ThreadPool(1)
    loop: asyncio.AbstractEventLoop = pool.apply(_new_loop)
    pool.spawn(_run, loop)
    return loop


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop()  # new_event_loop() takes a lock that a fork could leave
    loop.set_default_executor(_DaemonExecutor())
    return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        with suppress(BaseException):  # SystemExit in a task that a check has started
            loop.run_forever()


def _is_gevent_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


class _DaemonExecutor(ThreadPoolExecutor):
    """Runs what the loop gives to threads, such as name resolution, on a new daemon thread each.

    Python joins an ordinary executor's threads when it exits, and hung calls would use them up.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled
        loop = asyncio.get_running_loop()

        def call() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it belongs to the future
                future.set_exception(error)
            # Under gevent, asyncio (from Python 3.14 on) takes this greenlet for the loop's own
            # code, which need not wake the loop.
            loop.call_soon_threadsafe(lambda: None)

        threading.Thread(target=call, name="dockerflow-executor", daemon=True).start()
        return future
