"""``dockerflow-wsgi doctor``: its options and its exit code."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from ..errors import TargetError
from ..import_string import parse_import_string
from ..redaction import format_error, redact
from . import app_steps, url_steps
from .diagnosis import MisuseError, check_names
from .isolation import Examination
from .output import Output

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 130

_DESCRIPTION = """\
Reports what keeps a service from complying with Dockerflow, and what to do.
It changes nothing, and shows no secret."""
_EPILOG = f"""\
Steps of MODULE:APP:
  {" ".join(app_steps.SKIPPABLE[:4])}
  {" ".join(app_steps.SKIPPABLE[4:])}
Each check is a step check:NAME; "checks" means all of them. Steps of --url:
  {" ".join(url_steps.SKIPPABLE)}
Exit codes: 0 no failure (a warning is not a failure), 1 a failure, 2 misuse."""


def add_command(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="report what keeps a service from complying with Dockerflow, and what to do",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("target", nargs="?", metavar="MODULE[:APP]", help="the app (default APP: application)")
    add("--url", action="append", default=[], help="a running service, in any language; repeatable")
    add("--json", action="store_true", help="print one JSON object")
    add("--skip", action="append", default=[], metavar="NAME", help="leave a step out; repeatable")
    add("--timeout", type=_seconds, default=10.0, metavar="S", help="seconds for each step (10)")
    add("--chdir", metavar="DIR", help="change to this directory first")
    watch = "repeat every N seconds until Ctrl-C; the app is imported once"
    add("--watch", type=_seconds, metavar="N", help=watch)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    try:
        config = _config(arguments)
        timeout_s = arguments.timeout
        examination = Examination(config, arguments.target, arguments.url, timeout_s)
        try:
            return _repeat(arguments, examination)
        finally:
            examination.close()
    except MisuseError as error:
        parser: argparse.ArgumentParser = arguments.parser
        parser.error(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # as in "doctor ... | head"
            sys.stderr.write(f"{arguments.parser.prog}: error: {format_error(error)}\n")
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
        return FAILURE


def _config(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check the options, and return them as ``--json`` shows them."""
    if (arguments.target is None) == (not arguments.url):
        raise MisuseError("give either MODULE:APP or --url")
    if arguments.chdir is not None:
        try:
            os.chdir(arguments.chdir)
        except OSError as error:
            raise MisuseError(f"--chdir {arguments.chdir}: {error.strerror}") from None
    if fixed := [name for name in app_steps.UNSKIPPABLE if name in arguments.skip]:
        raise MisuseError(f"--skip {', '.join(fixed)}: cannot be skipped")
    common = {"timeout_s": arguments.timeout, "skip": sorted(arguments.skip)}
    try:
        if arguments.target is not None:
            parse_import_string(arguments.target, "application")
            return {"target": redact(arguments.target), **common, "settings": None}
        check_names(arguments.skip, url_steps.SKIPPABLE)
        return {"urls": [url_steps.parse_url(url, 1).shown for url in arguments.url], **common}
    except TargetError as error:
        raise MisuseError(str(error)) from None
    except ValueError as error:
        raise MisuseError(f"--url {error}") from None


def _repeat(arguments: argparse.Namespace, examination: Examination) -> int:
    indent = 2 if arguments.watch is None else None
    output = Output(sys.stdout, is_json=arguments.json, indent=indent)
    code = None
    try:
        while True:
            code = SUCCESS if output.show(examination.config, examination.results()) else FAILURE
            if arguments.watch is None or examination.has_ended:
                return code
            time.sleep(arguments.watch)
    except KeyboardInterrupt:
        return INTERRUPTED if code is None else code


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX / 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return seconds
