"""Runs the steps in a process of their own: what an app does there cannot hold up the report.

The parent never imports the app. It ends the process when a step is overdue, and reports a process
that ended during a step, by ``os._exit()`` for example.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from . import app_steps, url_steps
from .diagnosis import MisuseError, StepResult, failed, lines_of_dump, overdue

_GRACE_S = 2.0  # beyond the limit of a step, which the process itself watches
_NO_EXIT = "Raise an exception that has the reason, and do not end the process"


class Examination:
    """The steps of an app, or of services, in a process of their own."""

    def __init__(
        self, config: dict[str, Any], target: str | None, urls: Sequence[str], timeout_s: float
    ) -> None:
        self.config = config  # as --json shows it, with the app's settings when they are known
        self.has_ended = False  # before it was done
        self._timeout_s = timeout_s
        self._started: dict[str, Any] = {"start": "import", "bound_s": timeout_s}
        self._dump = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed by close()
        # A fork has imported everything, and has its whole time for the app.
        has_fork = "fork" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if has_fork else None)
        self._connection, other_end = context.Pipe()
        arguments = (target, urls, timeout_s, config["skip"], self._dump.name)
        self._process = context.Process(
            target=_run, args=(self._connection, other_end, *arguments), name="MainProcess"
        )
        self._process.start()
        other_end.close()

    def results(self) -> Iterator[dict[str, Any]]:
        """Run all steps once, and yield the result of each when it is done."""
        with suppress(OSError):  # the process ended, which is found below
            self._connection.send("run")
        deadline_s = monotonic() + self._timeout_s + _GRACE_S
        while (message := self._receive(deadline_s)) is not None:
            if "end" in message:
                return
            if "misuse" in message:
                raise MisuseError(message["misuse"])
            if "start" in message:
                self._started = message
                deadline_s = monotonic() + message["bound_s"] + _GRACE_S
            elif "name" in message:
                yield message
            self.config.update(message.get("config", {}))
        self.has_ended = True
        yield self._ended(is_overdue=monotonic() > deadline_s).to_dict()

    def close(self) -> None:
        """End the process; threads and exit handlers of the app get two seconds."""
        self._connection.close()
        try:
            self._process.join(_GRACE_S)
        finally:
            self._process.kill()
            self._process.join()
            self._dump.close()

    def _receive(self, deadline_s: float) -> Any:
        """Return the next message; ``None`` if the process ended, or is overdue."""
        with suppress(EOFError, OSError):
            if self._connection.poll(max(0.0, deadline_s - monotonic())):
                return self._connection.recv()
        self._process.kill()
        return None

    def _ended(self, *, is_overdue: bool) -> StepResult:
        self._process.join()
        name, bound_s = self._started["start"], self._started["bound_s"]
        dump, code = self._dump.read().decode("utf-8", "replace"), self._process.exitcode
        if is_overdue or dump:
            done = "imported" if name == "import" else "done"
            lines = lines_of_dump(dump, self._started.get("thread"))
            result = overdue(f"not {done} after {bound_s:g} s", lines)
        else:
            cause = "os._exit() does this" if code >= 0 else f"by signal {-code}"
            result = failed(f"the process ended with exit code {code} ({cause})", _NO_EXIT)
        return StepResult(result.status, result.message, result.remedy, result.details, name)


def _run(
    parents_end: Connection,
    connection: Connection,
    target: str | None,
    urls: Sequence[str],
    timeout_s: float,
    skip: Sequence[str],
    dump_path: str,
) -> None:
    """Run the steps each time that the parent asks; the entry point of the process."""
    parents_end.close()
    if hasattr(os, "setsid"):
        os.setsid()  # the terminal's Ctrl-C is for the parent only
    os.dup2(2, 1)  # what the app prints goes to standard error
    lock = threading.Lock()

    def send(message: Mapping[str, Any]) -> None:
        with lock:
            connection.send(message)

    def prepare() -> Callable[[], object]:
        if target is None:
            return url_steps.examine(urls, timeout_s, skip, send)
        send({"start": "import", "bound_s": timeout_s, "thread": threading.get_ident()})
        with open(dump_path, "wb") as dump:
            # In C, so that neither a busy loop nor gevent's monkey-patching stops it.
            faulthandler.dump_traceback_later(timeout_s, exit=True, file=dump)
            try:
                return app_steps.examine(target, timeout_s, skip, send)
            finally:
                faulthandler.cancel_dump_traceback_later()

    run_once = None
    with suppress(EOFError, OSError):  # the parent ended
        while connection.recv():
            try:
                run_once = run_once or prepare()
            except MisuseError as error:
                send({"misuse": str(error)})
                return
            run_once()
            send({"end": True})
