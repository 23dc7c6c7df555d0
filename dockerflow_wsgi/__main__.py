"""The command line: ``python -m dockerflow_wsgi``, also installed as ``dockerflow-wsgi``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from .doctor import command as doctor
from .doctor.patience import call_later
from .redaction import redact
from .server import command as serve

_MISUSE = 2
_LEAVE_S = 5.0


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints, of an argument in the wrong place for one, show no password."""

    def error(self, message: str) -> NoReturn:
        """Exit with the usage and the message."""
        super().error(redact(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; by default those of the process, which then ends within some
            seconds, whatever threads an app has left behind.

    Returns:
        The exit code: 0 if all is well, 1 if not, 2 for misuse.

    Raises:
        SystemExit: Misuse, or only the version or the help was asked for.
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.run is None:
        parser.print_help()
        return _MISUSE
    parsed.ends_process = arguments is None
    code: int = parsed.run(parsed)
    if arguments is None:
        _leave(code)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _bare_parser()
    shown = f"dockerflow-wsgi {version('dockerflow-wsgi')}"
    parser.add_argument("--version", action="version", version=shown)
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    doctor.add_command(commands)
    serve.add_command(commands)
    return parser


def _bare_parser() -> argparse.ArgumentParser:
    return _Parser(
        prog="dockerflow-wsgi",
        description="Makes any WSGI application comply with Mozilla's Dockerflow.",
        epilog="Wrap the app in Python: wrapped_app = DockerflowMiddleware(app)",
    )


def _leave(code: int) -> None:
    """Let the process end though a thread, or an exit handler, of the app's would keep it."""

    def leave() -> None:
        sys.stdout.flush()
        os._exit(code)

    call_later(_LEAVE_S, leave)


if __name__ == "__main__":
    raise SystemExit(main())
