"""The command ``serve``: the endpoints in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, ListenError, TargetError
from ..logging import MozlogHandler
from ..redaction import format_error, redact
from ..settings import parse_port
from ..target import load_target, parse_target, require_wsgi
from .app import endpoints_of, is_switched_off
from .background import DEFAULT_HOST, DEFAULT_PORT, read_port, start_server

if TYPE_CHECKING:
    from typing import TypeAlias

    from _typeshed.wsgi import WSGIApplication

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

_DESCRIPTION = """\
Serves /__lbheartbeat__, /__heartbeat__ and /__version__ with the checks of a CheckRegistry,
until SIGTERM or SIGINT. A WSGI app is served as it is: wrap it in a DockerflowMiddleware.
Not meant for pages: it has few threads, and no TLS."""


def add_command(subparsers: Subparsers) -> None:
    """Add the command to the command line.

    Args:
        subparsers: Where to.
    """
    parser = subparsers.add_parser(
        "serve", help="serve the endpoints of a registry, or an app", description=_DESCRIPTION
    )
    parser.add_argument(
        "target",
        metavar="MODULE:NAME",
        help="a CheckRegistry or a wrapped app; MODULE:FACTORY() for what a function returns",
    )
    parser.add_argument("--host", default=DEFAULT_HOST, help="the address (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, help=f"the port (default: $PORT, or {DEFAULT_PORT}); 0 for a free one"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes.

    Args:
        arguments: As they were parsed.

    Returns:
        The exit code: 0 after a signal, 1 if the port cannot be had or Dockerflow is disabled,
        2 for misuse.
    """
    try:
        port = read_port(arguments.port)
        app = _load(arguments.target)
        # Does nothing where the module has set up logging.
        logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO)
        _exit_by_signal()
        server = start_server(app, arguments.host, port)
    except ListenError as error:
        return _fail(error, 1)
    except (ConfigurationError, TargetError, TypeError) as error:
        return _fail(error, 2)
    with contextlib.suppress(SystemExit), server:
        threading.Event().wait()
    return 0


def _load(text: str) -> WSGIApplication:
    target = parse_target(text)
    app = endpoints_of(load_target(target))
    require_wsgi(app, target)
    if is_switched_off(app):
        nothing = "Dockerflow is disabled, so there is nothing to serve"
        raise ListenError(f"{nothing}. Unset DOCKERFLOW_DISABLED")
    return app


def _exit_by_signal() -> None:
    def leave(*_: object) -> None:
        raise SystemExit(0)  # setting an event here could wait for the very wait it interrupts

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"dockerflow-wsgi serve: {format_error(error)}\n")
    return code


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError as error:
        shown = redact(repr(text))
        raise argparse.ArgumentTypeError(f"{shown}: expected {error}") from None
