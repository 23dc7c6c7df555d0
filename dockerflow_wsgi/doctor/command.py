"""``dockerflow-wsgi doctor``: its arguments, its output and its exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import TargetError
from ..redaction import format_error
from ..target import parse_target
from . import app, service
from .checks import PREFIX
from .exits import leave, told_exit
from .http import parse_url
from .loading import load
from .output import Output
from .quiet import own_stdout
from .sqlite import forbid_new_files

if TYPE_CHECKING:
    from .finding import Probe

ALL_WELL, FAILURE, INTERRUPTED = 0, 1, 130
_CODES = {True: ALL_WELL, False: FAILURE, None: INTERRUPTED}


_DESCRIPTION = """\
Says what keeps a service from fulfilling Dockerflow, and what to do.
It changes nothing, and shows no secret."""
_EPILOG = "\n".join(
    textwrap.fill(line, 78, subsequent_indent="  ")
    for line in (
        f"Steps of MODULE:APP: {', '.join((*app.UNSKIPPABLE, *app.SKIPPABLE))}.",
        'Each check is a step check:NAME; "checks" stands for all of them.',
        f"Steps of --url: {', '.join(service.SKIPPABLE)}.",
        "Exit codes: 0 no failure (warnings are none), 1 a failure, 2 misuse.",
    )
)


class MisuseError(Exception):
    """The command was called wrongly; the text says how."""


def add_command(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `argparse.ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser(
        "doctor",
        help="say what keeps a service from fulfilling Dockerflow, and what to do",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target",
        nargs="?",
        metavar="MODULE:APP",
        help="the app, which is imported as a server does",
    )
    parser.add_argument(
        "--url", action="append", help="a running service, in any language; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--skip", action="append", default=[], metavar="NAME", help="leave a step out; repeatable"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="S", help="seconds for each step (10)"
    )
    parser.add_argument("--chdir", metavar="DIR", help="go to this directory first")
    parser.add_argument(
        "--watch",
        type=_seconds,
        metavar="N",
        help="repeat every N seconds until Ctrl-C; the app is imported once",
    )
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Args:
        arguments: The parsed arguments.

    Returns:
        The exit code.

    Raises:
        SystemExit: The command was called wrongly.
    """
    try:
        with own_stdout(for_good=arguments.ends_process) as stdout:
            return _run(arguments, stdout)
    except MisuseError as error:
        parser: argparse.ArgumentParser = arguments.parser
        parser.error(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads the report, as in "doctor ... | head"
        return FAILURE
    except OSError as error:
        sys.stderr.write(f"{arguments.parser.prog}: error: {format_error(error)}\n")
        return FAILURE


def _run(arguments: argparse.Namespace, stdout: TextIO) -> int:
    if (arguments.target is None) == (not arguments.url):
        raise MisuseError("give either MODULE:APP or --url")
    if arguments.chdir is not None:
        try:
            os.chdir(arguments.chdir)
        except OSError as error:
            raise MisuseError(f"--chdir {arguments.chdir}: {error.strerror}") from None
    is_one_line = arguments.watch is not None
    output = Output(stdout, is_json=arguments.json, is_one_line=is_one_line)
    examination = _url_examination if arguments.url else _app_examination
    _repeat(examination(arguments, output), arguments.watch)
    return _CODES[output.is_well]


def _repeat(examine_once: Callable[[], object], pause_s: float | None) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        examine_once()
        while pause_s is not None:
            time.sleep(pause_s)
            examine_once()


def _app_examination(arguments: argparse.Namespace, output: Output) -> Callable[[], object]:
    try:
        target = parse_target(arguments.target)
    except TargetError as error:
        raise MisuseError(str(error)) from None
    config = {"target": arguments.target, **_common_config(arguments), "settings": None}

    def give_up(probe: Probe) -> None:
        output.show(arguments.target, config, [probe])
        leave(FAILURE)  # the import hangs on the main thread, which nothing can interrupt

    loaded = load(arguments.target, target, arguments.timeout, give_up)
    forbid_new_files()
    config["settings"] = app.settings_of(loaded)
    checks = [PREFIX + name for name in app.checks_of(loaded)]
    unknown = app.unknown_names(loaded, arguments.skip)
    _refuse_names(arguments.skip, unknown, (*app.SKIPPABLE, *checks))

    def end(stack: list[str]) -> None:
        output.end(config, app.exit_probe(stack))
        leave(FAILURE)

    def examine_once() -> None:
        probes = app.examine_app(loaded, arguments.timeout, arguments.skip)
        with told_exit(end):
            output.show(arguments.target, config, probes)

    return examine_once


def _url_examination(arguments: argparse.Namespace, output: Output) -> Callable[[], object]:
    unknown = sorted(set(arguments.skip) - set(service.SKIPPABLE))
    _refuse_names(arguments.skip, unknown, service.SKIPPABLE)
    try:
        services = [parse_url(url, arguments.timeout) for url in arguments.url]
    except ValueError as error:
        raise MisuseError(f"--url {error}") from None
    config = {"urls": [one.shown for one in services], **_common_config(arguments)}

    def examine_once() -> None:
        if len(services) == 1:
            probes = service.examine_service(services[0], arguments.skip)
            output.show(services[0].shown, config, probes)
            return
        instances = service.examine_services(services, arguments.skip)
        output.show_table(config, instances, service.agreement(instances, arguments.skip))

    return examine_once


def _common_config(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"timeout_s": arguments.timeout, "skip": sorted(arguments.skip)}


def _refuse_names(skip: Collection[str], unknown: Sequence[str], known: Sequence[str]) -> None:
    if fixed := [name for name in app.UNSKIPPABLE if name in skip and name not in unknown]:
        raise MisuseError(f"--skip {', '.join(fixed)}: cannot be skipped, for all else needs it")
    if unknown:
        steps = ", ".join(known)
        raise MisuseError(f"--skip {', '.join(unknown)}: there is no such step; these are: {steps}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX / 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return seconds
