"""The command line: ``python -m dockerflow_wsgi``, also installed as ``dockerflow-wsgi``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

from . import build_version, server
from .doctor import command as doctor
from .errors import ConfigurationError, ListenError
from .import_string import TargetError, import_string, parse_import_string, require_wsgi
from .logging import MozlogHandler
from .redaction import format_error, redact
from .settings import DEFAULT_PORT, read_port

if TYPE_CHECKING:
    from .middleware import DockerflowMiddleware

_MISUSE = 2
_LEAVE_S = 5.0


class _Parser(argparse.ArgumentParser):
    """A parser that redacts credentials in its error messages."""

    def error(self, message: str) -> NoReturn:
        """Exit with the usage and the message."""
        super().error(redact(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; by default those of the process, which then ends within five
            seconds, even if an app has left threads.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for misuse.

    Raises:
        SystemExit: Misuse, or the options ``--help`` or ``--version``.
    """
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the whole process
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.run is None:
        parser.print_help()
        return _MISUSE
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
    _add_serve(commands)
    build_version.add_command(commands)
    return parser


def _bare_parser() -> argparse.ArgumentParser:
    return _Parser(
        prog="dockerflow-wsgi",
        description="Makes any WSGI application comply with Mozilla's Dockerflow.",
        epilog="Wrap the app in Python: wrapped_app = DockerflowMiddleware(app)",
    )


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve the endpoints of a registry, or of an app",
        description="Serves the endpoints of a CheckRegistry, or of an app that is wrapped in a "
        "DockerflowMiddleware, and no pages, until SIGTERM or SIGINT.",
    )
    parser.add_argument(
        "target",
        metavar="MODULE:NAME",
        help="a CheckRegistry or a wrapped app; MODULE:FACTORY() for what a function returns",
    )
    parser.add_argument(
        "--host", default=server.DEFAULT_HOST, help="the address (default: %(default)s)"
    )
    default = f"default: $PORT, or {DEFAULT_PORT}"
    parser.add_argument("--port", help=f"the port ({default}); 0 for any free one")
    parser.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    try:
        port = read_port(arguments.port)
        background = server.BackgroundServer(_load(arguments.target))
        # Does nothing if the module has set up logging.
        logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        server.start(background, arguments.host, port)
    except (ConfigurationError, ListenError, TargetError, TypeError) as error:
        sys.stderr.write(f"dockerflow-wsgi serve: {format_error(error)}\n")
        return 1 if isinstance(error, ListenError) else 2
    with contextlib.suppress(SystemExit), background:
        threading.Event().wait()
    return 0


def _load(text: str) -> DockerflowMiddleware:
    parsed = parse_import_string(text)
    loaded = import_string(parsed)
    try:
        middleware = server.get_middleware(loaded)
    except (ConfigurationError, TypeError):
        if not isinstance(loaded, server.HasMiddleware):
            require_wsgi(loaded, parsed)  # more precise, for a factory that is not called
        raise
    if middleware.settings.disabled:
        raise ListenError("Dockerflow is disabled: nothing to serve. Unset DOCKERFLOW_DISABLED")
    return middleware


def _leave(code: int) -> None:
    """End the process after five seconds if threads or exit handlers of an app keep it."""

    def leave() -> None:
        sys.stdout.flush()
        os._exit(code)

    timer = threading.Timer(_LEAVE_S, leave)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    raise SystemExit(main())
