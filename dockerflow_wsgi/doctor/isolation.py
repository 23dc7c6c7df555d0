"""Runs the steps in a process of their own: what an app does there cannot hold up the report.

The parent never imports the app. It reads one JSON message per line, ends the process when a
step is overdue, and reports a process that ended during a step, by ``os._exit()`` for example.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from . import app_steps, url_steps
from .diagnosis import MisuseError, Send, StepResult, failed, lines_of_dump, overdue

_COMMAND = "from dockerflow_wsgi.doctor.isolation import main; main()"
_GRACE_S = 2.0  # beyond the limit of a step, which the process itself watches
_NO_EXIT = "Raise an exception that has the reason, and do not end the process"


class Examination:
    """The steps of an app, or of services, in a process of their own.

    Attributes:
        config: The same, with the settings of the app once they are known.
        has_ended: Whether the process ended before it was done.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.has_ended = False
        self._process = subprocess.Popen(  # noqa: S603 - this Python
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C is for the parent only
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._step: dict[str, Any] = {"start": "import", "bound_s": config["timeout_s"]}
        self._running: list[str] = []
        self._dump = ""
        threading.Thread(target=self._read, daemon=True).start()
        self._write(config)

    def results(self) -> Iterator[dict[str, Any]]:
        """Run all steps once, and yield the result of each when it is done."""
        self._write({})
        deadline_s = monotonic() + self.config["timeout_s"] + _GRACE_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline_s - monotonic()))
            except queue.Empty:
                self._process.kill()
                line = b""
            if not line:
                self.has_ended = True
                yield self._ended(is_overdue=monotonic() > deadline_s).to_dict()
                return
            if not line.startswith(b"{"):  # from faulthandler
                self._dump += line.decode("utf-8", "replace")
                continue
            message = json.loads(line)
            if "end" in message:
                return
            if "misuse" in message:
                raise MisuseError(message["misuse"])
            if "start" in message:
                self._step = message
                deadline_s = monotonic() + message["bound_s"] + _GRACE_S
            elif "name" in message:
                yield message
            self._running = message.get("running", self._running)
            self.config.update(message.get("config", {}))

    def close(self) -> None:
        """End the process; threads and exit handlers of the app get two seconds."""
        with suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(_GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    def _write(self, message: Mapping[str, Any]) -> None:
        with suppress(BrokenPipeError):  # the process ended, which results() reports
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(b"")

    def _ended(self, *, is_overdue: bool) -> StepResult:
        name, bound_s = self._step["start"], self._step["bound_s"]
        if is_overdue or self._dump:
            done = "imported" if name == "import" else "done"
            lines = lines_of_dump(self._dump, self._step.get("thread"))
            result = overdue(f"not {done} after {bound_s:g} s", lines)
        else:
            code = self._process.wait()
            cause = "os._exit() does this" if code >= 0 else f"by signal {-code}"
            result = failed(f"the process ended with exit code {code} ({cause})", _NO_EXIT)
            name = f"check:{self._running[-1]}" if self._running else name
        return StepResult(result.status, result.message, result.remedy, result.details, name)


def main() -> None:
    """Run the steps; the entry point of the process."""
    report, commands = os.dup(1), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)  # what the app prints goes to standard error
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    lock = threading.Lock()

    def send(message: Mapping[str, Any]) -> None:
        with lock, os.fdopen(report, "wb", closefd=False) as file:
            file.write(json.dumps(message).encode() + b"\n")

    def limit_import(timeout_s: float) -> None:
        # In C, so that neither a busy loop nor gevent's monkey-patching stops it.
        send({"start": "import", "bound_s": timeout_s, "thread": threading.get_ident()})
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=report)

    with suppress(BrokenPipeError):  # the parent ended
        _run(json.loads(commands.readline()), commands, send, limit_import)


def _run(
    config: Mapping[str, Any], rounds: Any, send: Send, limit_import: Callable[[float], None]
) -> None:
    timeout_s, skip = config["timeout_s"], config["skip"]
    run_once: Callable[[], object] | None = None
    for _ in rounds:
        try:
            if run_once is None and config["urls"]:
                run_once = url_steps.examine(config["urls"], timeout_s, skip, send)
            elif run_once is None:
                limit_import(timeout_s)
                run_once = app_steps.examine(config["target"], timeout_s, skip, send)
                faulthandler.cancel_dump_traceback_later()
        except MisuseError as error:
            send({"misuse": str(error)})
            return
        run_once()
        send({"end": True})
