"""Runs programs with a time limit, and ends them with the test."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from probing import get
from waiting import TIMEOUT_S, wait_until

ROOT = Path(__file__).parents[1]
END_TIMEOUT_S = 10
"""Seconds that a program may take to end after SIGTERM, before it is killed."""


def environment_of(home, **variables):
    """Return this process's environment, with the scripts of this Python first in PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(home), **variables}


def run(command, *, cwd=ROOT, check=False, **variables):
    """Run a program, and return the `subprocess.CompletedProcess` with its output as text.

    Args:
        command: The words of the command, or the command as text.
        cwd: The directory to run it in.
        check: Whether to raise if the exit code is not 0.
        variables: Environment variables.
    """
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            shlex.split(command) if isinstance(command, str) else command,
            cwd=cwd,
            env=environment_of(home, **variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=check,
        )


def run_python(code, *options):
    """Run code in a separate interpreter, in the directory of the tests.

    Args:
        code: The program; it can import the modules of this directory.
        options: Options of the interpreter.

    Returns:
        The lines that it printed.

    Raises:
        AssertionError: Its exit code is not 0, or it wrote to stderr.
    """
    done = run([sys.executable, *options, "-c", code], cwd=ROOT / "tests")
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


class Program:
    """A running program.

    Its output goes to a file, because a full pipe would stop it.

    Args:
        process: The `subprocess.Popen`.
        output: The path of the file with its output.

    Attributes:
        process: The `subprocess.Popen`.
        port: The port of a web server.
        url: The URL of a database.
    """

    def __init__(self, process, output):
        self.process = process
        self.port = None
        self.url = None
        self._output = output
        self._whole_output = None
        self._position = 0

    @property
    def output(self):
        """The output on stdout and stderr so far."""
        if self._whole_output is not None:
            return self._whole_output
        return self._output.read_text(encoding="utf-8", errors="replace")

    @property
    def is_alive(self):
        """Whether it is still running."""
        return self.process.poll() is None

    def wait_for(self, text):
        """Wait for a line that contains a text, and return it.

        The next call starts after that line.

        Raises:
            AssertionError: The program ended without that line, or did not write it in time.
        """

        def find_line():
            was_alive = self.is_alive
            unread = self.output[self._position :]
            for line in unread.splitlines(keepends=True):
                if not line.endswith("\n"):
                    break
                self._position += len(line)
                if text in line:
                    return line
            assert was_alive, f"the program ended without {text!r}:\n{self.output}"
            return None

        return wait_until(find_line)

    def wait_until_served(self):
        """Wait until it logs the port of its endpoints, and return the port."""
        line = self.wait_for("Dockerflow's endpoints are at")
        return int(re.search(r" port (\d+)", line)[1])

    def lines(self):
        """Return the output, parsed: each line must be a JSON object."""
        return [json.loads(line) for line in self.output.splitlines()]

    def logged(self, logger):
        """Return the fields of a logger's mozlog records."""
        lines = [line for line in self.output.splitlines() if line.startswith("{")]
        return [record["Fields"] for record in map(json.loads, lines) if record["Type"] == logger]

    def get(self, path, **headers):
        """Request a page from it."""
        return get(self.port, path, **headers)

    def family(self):
        """Return the process and its descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def send_signal(self, number):
        """Send a signal to the process and its descendants."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @contextlib.contextmanager
    def stopped(self):
        """Suspend it: the system still accepts connections, but nothing answers."""
        self.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send_signal(signal.SIGCONT)

    def kill(self):
        """Kill the process and its descendants, as the kernel does when memory is short."""
        self.send_signal(signal.SIGKILL)
        self.process.wait(TIMEOUT_S)

    def stop(self, number=signal.SIGTERM):
        """Send a signal, wait until the process has ended, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def end(self, number):
        """Send a signal to the process and its descendants, then kill those that are left."""
        self.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):  # all have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT_S)
        self._whole_output = self.output


@contextlib.contextmanager
def running(command, *, cwd=ROOT, user=None, stdout=None, end_signal=signal.SIGTERM, **variables):
    """Start a program, yield it as a `Program`, and end it and its descendants.

    Args:
        command: The words of the command, or the command as text.
        cwd: The directory to run it in.
        user: The user to run it as; by default the current one.
        stdout: A file for the output, such as a terminal; by default `Program.output` has it.
        end_signal: The signal that ends it; after `END_TIMEOUT_S` it is killed.
        variables: Environment variables.
    """
    words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        output = Path(home, "output")
        with output.open("w") as stream:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=environment_of(home, **variables),
                stdin=subprocess.DEVNULL,
                stdout=stream if stdout is None else stdout,
                stderr=stream if stdout is None else stdout,
                user=user,
                start_new_session=True,
            )
        program = Program(process, output)
        try:
            yield program
        finally:
            program.end(end_signal)
