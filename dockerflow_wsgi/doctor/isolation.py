"""Runs the steps of an app in a separate process, so that the app cannot hold up the report.

The parent never imports the app. It ends the process when a step is overdue, and reports a process
that ended during a step, by ``os._exit()`` for example.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import IO, Any

from .app_steps import STEPS, examine
from .diagnosis import MisuseError, StepResult, failed, overdue
from .user_code import lines_of_dump, open_dump

_NEXT_STEPS = dict(pairwise(STEPS))
_MAX_CHECK = 6  # times the timeout of other steps, because a check is also diagnosed
_GRACE_S = 2.0


class Examination:
    """The steps of an app, in a separate process.

    Args:
        config: The options that ``--json`` shows; the app's settings are added when known.
        target: The app, as ``MODULE:APP``.
    """

    def __init__(self, config: dict[str, Any], target: str) -> None:
        if not hasattr(os, "fork"):
            raise MisuseError("MODULE:APP needs fork(), which this system does not have: use --url")
        self._config = config
        self._timeout_s: float = config["timeout_s"]
        self._step, self._is_overdue = "import", False
        self._dump = open_dump()
        # A fork has imported everything, and has its whole time for the app.
        context = multiprocessing.get_context("fork")
        self._connection, other_end = context.Pipe()
        options = (target, self._timeout_s, config["skip"])
        arguments = (self._connection, other_end, self._dump, *options)
        self._process = context.Process(target=_run, args=arguments, name="MainProcess")
        self._process.start()
        other_end.close()

    def results(self) -> Iterator[dict[str, Any]]:
        """Run all steps once, and yield the result of each when it is done."""
        with suppress(OSError):  # the process ended, which is found below
            self._connection.send("run")
        if self._process.is_alive():
            self._step = "import"
        while (message := self._receive()) is not None:
            if "end" in message:
                return
            if "misuse" in message:
                raise MisuseError(message["misuse"])
            if "name" in message:
                self._step = _NEXT_STEPS.get(message["name"], "checks")
                yield message
            self._config.update(message.get("config", {}))
        yield replace(self._result_of_end(), name=self._step).to_dict()

    def close(self) -> None:
        """End the process; threads and exit handlers of the app get two seconds."""
        self._connection.close()
        try:
            self._process.join(_GRACE_S)
        finally:
            if self._process.pid:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)  # with what the app has started
            self._process.kill()
            self._process.join()
            self._dump.close()

    @property
    def _limit_s(self) -> float:
        return self._timeout_s * (_MAX_CHECK if self._step == "checks" else 1)

    def _receive(self) -> Any:
        """Return the next message; ``None`` if the process ended, or is overdue and was killed."""
        with suppress(EOFError, OSError):
            if self._connection.poll(self._limit_s + _GRACE_S):
                return self._connection.recv()
            self._is_overdue = True
        self._process.kill()
        self._process.join()
        return None

    def _result_of_end(self) -> StepResult:
        code = self._process.exitcode or 0
        if self._is_overdue or os.fstat(self._dump.fileno()).st_size:
            lines = lines_of_dump(self._dump, threading.get_ident())  # a fork keeps this ID
            done = "imported" if self._step == "import" else "done"
            return overdue(f"not {done} after {self._limit_s:g} s", lines)
        if code < 0:
            remedy = "Look in the system's log: the memory may be full, or a library may be broken"
            return failed(f"the process was ended by signal {-code}", remedy)
        text = f"the process ended with exit code {code} (os._exit() does this)"
        return failed(text, "Raise an exception that has the reason, and do not end the process")


def _run(
    parents_end: Connection,
    connection: Connection,
    dump: IO[bytes],
    target: str,
    timeout_s: float,
    skip: Sequence[str],
) -> None:
    """Run the steps each time that the parent asks; the entry point of the process."""
    parents_end.close()
    os.setsid()  # the terminal's Ctrl-C is for the parent only
    os.dup2(2, 1)  # what the app prints goes to standard error

    run_once, send = None, connection.send
    with suppress(EOFError, OSError):  # the parent ended
        while connection.recv():
            try:
                if run_once is None:
                    # In C, so that neither a busy loop nor gevent's monkey-patching stops it.
                    faulthandler.dump_traceback_later(timeout_s, exit=True, file=dump)
                    run_once = examine(target, timeout_s, skip, send)
                    faulthandler.cancel_dump_traceback_later()
                run_once()
                send({"end": True})
            except MisuseError as error:
                send({"misuse": str(error)})
                return
    timer = threading.Timer(_GRACE_S, os.killpg, (0, signal.SIGKILL))  # if the parent was killed
    timer.daemon = True
    timer.start()
