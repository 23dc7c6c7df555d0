"""Runs a coroutine to its end, from synchronous code."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in an event loop of its own.

    Args:
        coroutine: The coroutine.

    Returns:
        What it returns.

    Raises:
        BaseException: What it raises.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        # Greenlets share a thread, and asyncio allows one running loop in each.
        from gevent import get_hub

        run = contextvars.copy_context().run
        return get_hub().threadpool.apply(run, (_run, coroutine))
    if _has_running_loop():
        run = contextvars.copy_context().run
        return _DaemonExecutor().submit(run, _run, coroutine).result()
    return _run(coroutine)


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    # Not asyncio.run(), which leaves the thread without the loop that the app had set for it.
    loop = asyncio.new_event_loop()
    executor = _DaemonExecutor()
    loop.set_default_executor(executor)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        _end(loop, executor)


def _end(loop: asyncio.AbstractEventLoop, executor: _DaemonExecutor) -> None:
    try:
        loop.run_until_complete(_cancel_tasks())
        loop.run_until_complete(loop.shutdown_asyncgens())
        # As asyncio.run() does; else a check that gives up on its threads would pile them up.
        loop.run_until_complete(executor.finish())
    finally:
        loop.close()


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _DaemonExecutor(ThreadPoolExecutor):
    """Runs what a loop gives to threads (name look-ups, for one) on daemon threads.

    Python joins the threads of an ordinary executor when it exits; a look-up that hangs would
    keep the process alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self._submitted: list[Future[Any]] = []

    async def finish(self) -> None:
        """Wait for what was submitted."""
        futures = [asyncio.wrap_future(future) for future in self._submitted if not future.done()]
        await asyncio.gather(*futures, return_exceptions=True)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._submitted.append(future)

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - it is the future's
                    future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def shutdown(self, *_arguments: Any, **_keywords: Any) -> None:
        """Wait for nothing."""
