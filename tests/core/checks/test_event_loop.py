"""The event loop of the async checks."""

from __future__ import annotations

import asyncio
import contextvars
import json
import socket
import threading

import pytest
from waiting import TIMEOUT_S, wait_until
from wsgi import hello, request

from dockerflow_wsgi import CheckRegistry, DockerflowMiddleware
from dockerflow_wsgi.checks.event_loop import run_coroutine

caller = contextvars.ContextVar("caller", default="nobody")


async def who_and_where():
    """Return the caller's context variable, the thread and the event loop."""
    await asyncio.sleep(0)
    return caller.get(), threading.current_thread(), asyncio.get_running_loop()


async def raise_error(error):
    """Raise an exception."""
    raise error


class TestRunCoroutine:
    """`run_coroutine`."""

    def test_all_coroutines_run_in_one_loop_on_one_daemon_thread(self):
        """Every caller, on any thread, uses the same event loop, whose thread is a daemon."""
        results = [run_coroutine(who_and_where())]
        other = threading.Thread(target=lambda: results.append(run_coroutine(who_and_where())))
        other.start()
        other.join()
        (_, thread, loop), second = results
        assert second[1:] == (thread, loop)
        assert thread is not threading.current_thread()
        assert thread.daemon

    def test_it_runs_in_the_callers_context(self):
        """The coroutine sees the context variables of its caller."""
        token = caller.set("ada")
        assert run_coroutine(who_and_where())[0] == "ada"
        caller.reset(token)

    def test_it_runs_beside_the_callers_own_loop(self):
        """A caller whose thread runs an event loop can wait for a coroutine too."""

        async def outer():
            return run_coroutine(who_and_where())[2], asyncio.get_running_loop()

        ours, own = asyncio.run(outer())
        assert ours is not own

    @pytest.mark.parametrize("error", [LookupError("gone"), SystemExit(3), KeyboardInterrupt()])
    def test_an_exception_is_raised_for_the_caller_only(self, error):
        """Any exception reaches the caller, and the event loop goes on."""
        loop = run_coroutine(who_and_where())[2]
        with pytest.raises(type(error)):
            run_coroutine(raise_error(error))
        assert run_coroutine(who_and_where())[2] is loop

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_task_that_exits_does_not_end_the_loop(self):
        """SystemExit in a task that a coroutine has started does not end the event loop."""

        async def leave_a_task():
            return asyncio.ensure_future(raise_error(SystemExit()))

        task = run_coroutine(leave_a_task())
        assert run_coroutine(who_and_where())
        wait_until(task.done)
        assert isinstance(task.exception(), SystemExit)
        assert run_coroutine(who_and_where())

    def test_a_loop_that_is_stopped_goes_on(self):
        """A coroutine that stops the event loop does no harm to others."""

        async def stop():
            asyncio.get_running_loop().stop()

        run_coroutine(stop())
        assert run_coroutine(who_and_where())

    def test_tasks_are_kept(self):
        """A task that a client keeps is not cancelled when the coroutine ends."""
        release = []

        async def start():
            event = asyncio.Event()
            release.append(event)
            return asyncio.ensure_future(event.wait())

        async def finish(task):
            assert not task.done()
            release[0].set()
            return await task

        assert run_coroutine(finish(run_coroutine(start()))) is True

    def test_work_given_to_threads_never_queues(self):
        """Hung name look-ups keep neither others nor the exit of Python waiting."""
        release = threading.Event()
        threads = []

        def hang():
            threads.append(threading.current_thread())
            release.wait(TIMEOUT_S)

        async def start():
            for _ in range(50):
                asyncio.get_running_loop().run_in_executor(None, hang)
            return await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)

        assert run_coroutine(start())
        wait_until(lambda: len(threads) == 50)
        release.set()
        assert all(thread.daemon for thread in threads)

    def test_the_executor_passes_results_and_exceptions(self):
        """``run_in_executor`` returns the result and raises the exception of a function."""

        async def call(function, argument):
            return await asyncio.get_running_loop().run_in_executor(None, function, argument)

        assert run_coroutine(call(int, "5")) == 5
        with pytest.raises(ValueError, match="no number"):
            run_coroutine(call(int, "no number"))


class TestAsyncChecks:
    """Async checks of a middleware."""

    def test_a_client_keeps_its_connection(self):
        """A connection that an async check opens is usable in every later run."""
        server = socket.create_server(("127.0.0.1", 0))
        app, connections = DockerflowMiddleware(hello), []

        def echo():
            with server, server.accept()[0] as connection:
                while received := connection.recv(1):
                    connection.send(received)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()

        @app.check
        async def ping():
            if not connections:
                connections.append(await asyncio.open_connection(*server.getsockname()))
            reader, writer = connections[0]
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"

        for _ in range(4):
            assert request(app, "/__heartbeat__").status == "200 OK"

        async def close():
            connections[0][1].close()
            await connections[0][1].wait_closed()

        run_coroutine(close())
        thread.join()

    def test_a_blocked_loop_holds_up_no_plain_check(self):
        """A coroutine that blocks the event loop delays async checks only."""
        release = threading.Event()
        app = DockerflowMiddleware(hello, check_timeout=0.1)

        @app.check
        async def blocks():
            release.wait(TIMEOUT_S)

        @app.check
        async def waits():
            await asyncio.sleep(0)

        app.check(list, name="plain")

        def only_the_plain_check_is_ok():
            shown = json.loads(request(app, "/__heartbeat__").body)["checks"]
            return (shown["blocks"], shown["plain"]) == ("error", "ok")

        try:
            wait_until(only_the_plain_check_is_ok)
        finally:
            release.set()
        wait_until(lambda: request(app, "/__heartbeat__").status == "200 OK")

    def test_checks_of_several_registries_share_the_loop(self):
        """All async checks of a process can share one client."""
        loops = []

        async def note():
            loops.append(asyncio.get_running_loop())

        for _ in range(2):
            registry = CheckRegistry()
            registry.check(note)
            request(DockerflowMiddleware(hello, registry=registry), "/__heartbeat__")
        assert loops[0] is loops[1]
