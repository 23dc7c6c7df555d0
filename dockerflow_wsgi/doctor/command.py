"""``dockerflow-wsgi doctor``: its options and its exit code."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ..errors import TargetError
from ..import_string import parse_import_string
from ..redaction import format_error, redact
from . import app_steps, url_steps
from .diagnosis import MisuseError
from .isolation import Examination
from .output import Output, agreement

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 130

_DESCRIPTION = """\
Reports what keeps a service from complying with Dockerflow, and what to do.
It changes nothing, and shows no secret."""
_EPILOG = "\n".join(
    textwrap.fill(line, 78, subsequent_indent="  ")
    for line in (
        f"Steps of MODULE:APP: {', '.join((*app_steps.UNSKIPPABLE, *app_steps.SKIPPABLE))}.",
        'Each check is a step check:NAME; "checks" means all of them.',
        f"Steps of --url: {', '.join(url_steps.SKIPPABLE)}.",
        "Exit codes: 0 no failure (a warning is not a failure), 1 a failure, 2 misuse.",
    )
)


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
    add("--url", action="append", help="a running service, in any language; repeatable")
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
        examination = Examination(_config(arguments))
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
    if (arguments.target is None) == (not arguments.url):
        raise MisuseError("give either MODULE:APP or --url")
    if arguments.chdir is not None:
        try:
            os.chdir(arguments.chdir)
        except OSError as error:
            raise MisuseError(f"--chdir {arguments.chdir}: {error.strerror}") from None
    known = url_steps.SKIPPABLE
    wrong = [name for name in arguments.skip if name not in known] if arguments.url else []
    if wrong:
        steps = ", ".join(known)
        raise MisuseError(f"--skip {', '.join(wrong)}: unknown step; the steps are: {steps}")
    if fixed := [name for name in app_steps.UNSKIPPABLE if name in arguments.skip]:
        raise MisuseError(f"--skip {', '.join(fixed)}: cannot be skipped")
    try:
        if arguments.target is not None:
            parse_import_string(arguments.target, "application")
        for url in arguments.url or ():
            url_steps.parse_url(url, 1)
    except TargetError as error:
        raise MisuseError(str(error)) from None
    except ValueError as error:
        raise MisuseError(f"--url {error}") from None
    given = {"target": arguments.target, "urls": arguments.url, "timeout_s": arguments.timeout}
    return {**given, "skip": sorted(arguments.skip)}


def _repeat(arguments: argparse.Namespace, examination: Examination) -> int:
    indent = 2 if arguments.watch is None else None
    output = Output(sys.stdout, is_json=arguments.json, indent=indent)
    code = None
    try:
        while True:
            code = SUCCESS if _show(output, examination) else FAILURE
            if arguments.watch is None or examination.has_ended:
                return code
            time.sleep(arguments.watch)
    except KeyboardInterrupt:
        return INTERRUPTED if code is None else code


def _show(output: Output, examination: Examination) -> bool:
    given = examination.config
    common = {name: given[name] for name in ("timeout_s", "skip")}
    results = examination.results()
    if given["target"] is not None:
        config = {"target": redact(given["target"]), **common, "settings": None}

        def with_settings() -> Iterator[dict[str, Any]]:
            yield from results
            config["settings"] = given.get("settings")

        return output.show(config["target"], config, with_settings())
    urls = [url_steps.parse_url(url, 1).shown for url in given["urls"]]
    config = {"urls": urls, **common}
    if len(urls) == 1:
        named = ({name: one[name] for name in one if name != "url"} for one in results)
        return output.show(urls[0], config, named)
    found = list(results)
    found.sort(key=lambda one: urls.index(one["url"]) if one.get("url") in urls else 0)
    both = agreement(found, urls, given["skip"])
    return output.show_table(f"{len(urls)} instances", config, found, both)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX / 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return seconds
