"""``dockerflow-wsgi doctor``: its options and its exit code."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any

from ..import_string import TargetError, parse_import_string
from ..redaction import format_error, redact
from . import url_steps
from .diagnosis import MisuseError, check_names
from .isolation import Examination
from .output import Output

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 130
_MAX_S = 86_400


def add_command(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="report what keeps a service from complying with Dockerflow, and what to do",
        description="Reports what keeps a service from complying with Dockerflow, and what to do. "
        "It changes nothing, and shows no secret.",
        epilog="Exit codes: 0 no failure (a warning is not a failure), 1 a failure, 2 misuse.",
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
    parser: argparse.ArgumentParser = arguments.parser
    try:
        _check(arguments)
        common = {"timeout_s": arguments.timeout, "skip": sorted(arguments.skip)}
        if arguments.target is None:
            targets = [url_steps.parse_url(url, arguments.timeout) for url in arguments.url]
            config = {"urls": [target.url for target in targets], **common}
            return _repeat(arguments, config, partial(url_steps.examine, targets, arguments.skip))
        config = {"target": redact(arguments.target), **common, "settings": None}
        with closing(Examination(config, arguments.target)) as examination:
            return _repeat(arguments, config, examination.results)
    except (MisuseError, TargetError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # as in "doctor ... | head"
            sys.stderr.write(f"{parser.prog}: error: {format_error(error)}\n")
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
        return FAILURE


def _check(arguments: argparse.Namespace) -> None:
    """Raise a `MisuseError` for options that cannot be used, and change the directory."""
    if (arguments.target is None) == (not arguments.url):
        raise MisuseError("give either MODULE:APP or --url")
    if arguments.chdir is not None:
        try:
            os.chdir(arguments.chdir)
        except OSError as error:
            raise MisuseError(f"--chdir {arguments.chdir}: {error.strerror}") from None
    if arguments.target is None:
        check_names(arguments.skip, url_steps.SKIPPABLE)
    else:
        parse_import_string(arguments.target, "application")


def _repeat(
    arguments: argparse.Namespace,
    config: Mapping[str, Any],
    examine: Callable[[], Iterable[Mapping[str, Any]]],
) -> int:
    indent = 2 if arguments.watch is None else None
    output = Output(sys.stdout, is_json=arguments.json, indent=indent)
    code = INTERRUPTED
    try:
        while True:
            code = SUCCESS if output.show(config, examine()) else FAILURE
            if arguments.watch is None:
                return code
            time.sleep(arguments.watch)
    except KeyboardInterrupt:
        return code


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_S:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number of seconds above 0, a day at most"
        )
    return seconds
