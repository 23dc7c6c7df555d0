"""Examples, run with the command that stands in their first comment."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from patience import PATIENCE_S, wait_until
from probing import get
from servers import EXAMPLES, ROOT, Gunicorn

ON_LOOPBACK = "--bind 127.0.0.1:0"
"""For ``GUNICORN_CMD_ARGS``: goes before a configuration file, and leaves the command as it is."""


def documented(example):
    """Return the commands that stand in an example's comments, a line each.

    Args:
        example: The file's path below ``examples``.
    """
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    whole = re.sub(r" \\\n#? +", " ", text)
    return re.findall(
        r"^(?:# {5}| {4})((?:gunicorn|docker|kubectl|rockcraft|uwsgi) .+)$", whole, re.MULTILINE
    )


@dataclass
class Served:
    """An example that is being served.

    Attributes:
        process: Its server.
        output: The file that takes what it writes to stdout and stderr.
    """

    process: subprocess.Popen
    output: Path

    def listens(self):
        """Tell whether the server has told its port."""
        assert self.process.poll() is None, self.output.read_text()
        return self._told() is not None

    @property
    def port(self):
        """Where it listens, as it has told."""
        return int(self._told()[1])

    def get(self, path, **headers):
        """Ask for a page."""
        return get(self.port, path, **headers)

    def stop(self):
        """Stop it by SIGTERM, as containers are stopped, and return its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def lines(self):
        """Return the lines that it wrote: each is one JSON object."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def logged(self, logger):
        """Return the fields of what a logger wrote, plain text in between or not."""
        lines = self.output.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [record["Fields"] for record in records if record["Type"] == logger]

    def _told(self):
        pattern = r"(?:Listening at: http://|bound to TCP address )[0-9.]*:(\d+)"
        return re.search(pattern, self.output.read_text())


@contextlib.contextmanager
def served(command, directory, cwd=ROOT, **environment):
    """Run a command that serves, with its output in a directory.

    Args:
        command: The command, as in a comment, or its words.
        directory: Where the output goes; also the home of the user.
        cwd: Where it is run.
        environment: Environment variables; by default gunicorn listens on loopback, on any port.
    """
    words = shlex.split(command) if isinstance(command, str) else command
    output = directory / "output"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"GUNICORN_CMD_ARGS": ON_LOOPBACK, "HOME": str(directory)} | environment
    with (
        output.open("w") as stream,
        subprocess.Popen(
            ["/usr/bin/env", *words],  # which looks along this PATH
            cwd=cwd,
            env={**os.environ, "PATH": path, **environment},
            stdout=stream,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        example = Served(process, output)
        try:
            wait_until(example.listens)
            yield example
        finally:
            try:
                example.stop()
            except subprocess.TimeoutExpired:
                Gunicorn(process, None).kill()
                raise
