"""Runs the commands in the first comments of the examples."""

from __future__ import annotations

import contextlib
import re

from programs import ROOT, running
from servers import EXAMPLES
from waiting import wait_until

ON_LOOPBACK = "--bind 127.0.0.1:0"
"""For ``GUNICORN_CMD_ARGS``: overrides a configuration file without changing the command."""


def documented(example):
    """Return the commands in an example's comments, one per line.

    Args:
        example: The file's path below ``examples``.
    """
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    whole = re.sub(r" \\\n#? +", " ", text)
    return re.findall(
        r"^(?:# {5}| {4})((?:gunicorn|docker|kubectl|rockcraft|uwsgi) .+)$", whole, re.MULTILINE
    )


@contextlib.contextmanager
def served(command, *, cwd=ROOT, **environment):
    """Run the command of a server; yield the `programs.Program`, with its ``port``.

    Args:
        command: The command, as in a comment, or its words.
        cwd: The directory to run it in.
        environment: Environment variables; by default gunicorn listens on loopback, on any port.
    """
    with running(command, cwd=cwd, **{"GUNICORN_CMD_ARGS": ON_LOOPBACK, **environment}) as program:

        def listening():
            assert program.is_alive, program.output
            address = r"(?:Listening at: http://|bound to TCP address )[0-9.]*:(\d+)"
            return re.search(address, program.output)

        program.port = int(wait_until(listening)[1])
        yield program
