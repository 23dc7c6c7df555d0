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
    if monkey is None or not monkey.is_module_patched("threading"):
        return asyncio.run(_with_daemon_threads(coroutine))
    # Greenlets share a thread, and asyncio allows one running loop in each.
    from gevent import get_hub

    run = contextvars.copy_context().run
    return get_hub().threadpool.apply(run, (asyncio.run, coroutine))


async def _with_daemon_threads(coroutine: Coroutine[Any, Any, Any]) -> Any:
    asyncio.get_running_loop().set_default_executor(_DaemonExecutor())
    return await coroutine


class _DaemonExecutor(ThreadPoolExecutor):
    """Runs what a loop gives to threads (name look-ups, for one) on daemon threads.

    Python joins the threads of an ordinary executor when it exits; a look-up that hangs would
    keep the process alive.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

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
