"""Measure what the middleware adds to a request, compared with python-dockerflow; print tables.

    pip install --upgrade pip  # 25.1 or newer
    pip install '.[flask]' --group benchmark
    python tests/benchmarks/per_request.py

All variants run in one process, without a network, in turns: a round times each of them
once, and the best round counts, because a busy machine can only make a round slower. Each
call gets a fresh copy of the same environ; copying it is timed too, and subtracted from every
figure. Iterating and closing the body is in every figure. No request has an ID. "Ours" is
`DockerflowMiddleware`, around Flask too; "our extension" is `dockerflow_wsgi.flask.Dockerflow`.

Summaries are written to the null device, with the formatter of the package that is measured, in
three logging set-ups: one stream handler, two of them, and one with ``sentry_sdk.init()``, each in
a separate process. For the endpoints summaries are off on both sides: at the level INFO
python-dockerflow would log each probe, and this package none. A chunk's figure is a thousandth of a
body of 1,000 chunks. The formatters of the third table format the same summary. The import is timed
in new interpreters, after Werkzeug's, with compiled files.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import logging
import math
import os
import platform
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, TextIO
from wsgiref.util import FileWrapper

try:
    import dockerflow.logging
    import flask
    import sentry_sdk
    import structlog
    from dockerflow.flask import Dockerflow
    from pythonjsonlogger.json import JsonFormatter
    from werkzeug.test import create_environ

    import dockerflow_wsgi.logging
    from dockerflow_wsgi import DockerflowMiddleware
    from dockerflow_wsgi import flask as flask_extension
except ImportError as error:
    sys.stderr.write(f"{error}: run pip install '.[flask]' --group benchmark (pip 25.1 or newer)\n")
    sys.exit(2)

CALLS = 1_000
CHUNKS, CHUNK = 1_000, b"x" * 64
BODY = b"hello"
VERSION = {"build": "https://ci.example/1", "commit": "c0ffee", "source": "", "version": "1.0"}
NO_CHECKS = {"status": "ok", "checks": {}, "details": {}}
PROBES = {"/__lbheartbeat__": b"", "/__version__": VERSION, "/__heartbeat__": NO_CHECKS}

HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Cookie": "sid=eyJ1c2VyIjoxfQ; theme=dark",
    "X-Forwarded-For": "203.0.113.7, 10.0.0.2",
}

# The garbage collector is on, as in production. Without it, Flask's reference cycles fill the
# processor's caches, and requests to Flask take up to twice as long.
SETUP = "import gc; gc.enable()"
CALL = """
iterable = app(copy(), start_response)
for chunk in iterable: pass
close = getattr(iterable, "close", None)
if close is not None: close()
"""

OURS = dockerflow_wsgi.logging.MozlogFormatter
THEIRS = dockerflow.logging.MozlogFormatter

HANDLERS = {"one": 1, "two": 2, "sentry": 1}
"""The number of handlers by logging set-up."""
GOALS = {"one": (4.5, 2.4, 2.1), "two": (4.4, 2.3, 2.0), "sentry": (2.7, 1.7, 1.5)}
"""Theirs divided by ours: a plain app, Flask with the middleware, Flask with the extension."""

summary_logger = logging.getLogger("request.summary")
write = io.BytesIO().write


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A measured variant.

    Attributes:
        app: The WSGI app.
        path: The request's path.
        formatter: Makes the formatter of the summaries; ``None`` turns them off.
        bare: The label of the variant without Dockerflow, to compute the difference.
        expected: The body; a dict matches any JSON with its content.
        calls: The number of calls per round.
        parts: The number of parts of a call, to compute the time of one.
    """

    app: Callable[..., Any]
    path: str = "/hello"
    formatter: Callable[[], logging.Formatter] | None = None
    bare: str | None = None
    expected: bytes | dict[str, Any] = BODY
    calls: int = CALLS
    parts: int = 1


def plain_app(environ, start_response):
    headers = [("Content-Type", "text/plain"), ("Content-Length", "5"), ("X-Frame-Options", "DENY")]
    start_response("200 OK", headers)
    return [BODY]


def streaming_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (CHUNK for _ in range(CHUNKS))


def flask_app():
    app = flask.Flask(__name__)
    app.add_url_rule("/hello", "hello", lambda: BODY)
    return app


def make_variants(version_path: str) -> dict[str, Variant]:
    """Make all variants by label, with ``version.json`` in a directory."""
    ours = DockerflowMiddleware(plain_app, version_path=version_path)
    flask_ours = flask_app()
    flask_ours.wsgi_app = DockerflowMiddleware(flask_ours.wsgi_app)
    flask_extended = flask_app()
    flask_extension.Dockerflow(flask_extended, version_path=version_path)
    flask_theirs = flask_app()
    Dockerflow(flask_theirs, version_path=version_path)
    variants = {
        "plain": Variant(app=plain_app),
        "plain, ours, JSON": Variant(app=ours, formatter=OURS, bare="plain"),
        "plain, ours, off": Variant(app=ours, bare="plain"),
        "flask": Variant(app=flask_app()),
        "flask, ours, JSON": Variant(app=flask_ours, formatter=OURS, bare="flask"),
        "flask, ours, off": Variant(app=flask_ours, bare="flask"),
        "flask, our extension, JSON": Variant(app=flask_extended, formatter=OURS, bare="flask"),
        "flask, our extension, off": Variant(app=flask_extended, bare="flask"),
        "flask, theirs, JSON": Variant(app=flask_theirs, formatter=THEIRS, bare="flask"),
        "flask, theirs, off": Variant(app=flask_theirs, bare="flask"),
    }
    for path, body in PROBES.items():
        for whose, app in (("ours", ours), ("theirs", flask_theirs)):
            variants[f"{whose}, {path}"] = Variant(app=app, path=path, expected=body)
    chunk = Variant(app=streaming_app, expected=CHUNK * CHUNKS, calls=CALLS // 10, parts=CHUNKS)
    watched = replace(chunk, app=DockerflowMiddleware(streaming_app), bare="chunk")
    return {**variants, "chunk": chunk, "chunk, ours, off": watched}


def write_version(directory: str) -> None:
    """Write a ``version.json`` with an old modification time."""
    path = os.path.join(directory, "version.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(VERSION, file)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def make_environ(path: str) -> dict[str, Any]:
    """Make the environ of a browser's request as it comes through a proxy."""
    environ = create_environ(path, query_string="page=2", headers=HEADERS)
    return {**environ, "wsgi.file_wrapper": FileWrapper, "REMOTE_ADDR": "10.0.0.2"}


def set_up_logging(variant: Variant, stream: TextIO, handlers: int = 1) -> None:
    """Write the summaries to a stream with some handlers, or turn them off."""
    summary_logger.handlers[:] = [logging.StreamHandler(stream) for _ in range(handlers)]
    for handler in summary_logger.handlers:
        handler.setFormatter(variant.formatter() if variant.formatter else None)
    summary_logger.propagate = False
    summary_logger.setLevel(logging.INFO if variant.formatter else logging.CRITICAL + 1)


def verify(label: str, variant: Variant) -> None:
    """Assert that a variant behaves as described."""
    stream, started = io.StringIO(), []
    set_up_logging(variant, stream)
    iterable = variant.app(make_environ(variant.path), lambda *start: started.append(start))
    body = b"".join(iterable)
    getattr(iterable, "close", lambda: None)()
    content = json.loads(body) if isinstance(variant.expected, dict) else body
    [(status, headers, *_)] = started
    assert (status, content) == ("200 OK", variant.expected), (label, status, body)
    assert ("X-Request-ID" in dict(headers)) == ("our" in label), (label, headers)
    logged = [json.loads(line)["Fields"]["path"] for line in stream.getvalue().splitlines()]
    assert logged == [variant.path] * bool(variant.formatter), (label, logged)


def start_response(status, headers, exc_info=None):
    return write


def time_us(statement: str, variant: Variant) -> float:
    """Return the microseconds that a statement takes."""
    copy = make_environ(variant.path).copy
    names = {"app": variant.app, "copy": copy, "start_response": start_response}
    gc.collect()
    return (
        timeit.timeit(statement, SETUP, globals=names, number=variant.calls) / variant.calls * 1e6
    )


def measure(variants: dict[str, Variant], rounds: int, handlers: int) -> dict[str, float]:
    """Return the microseconds per request, or per chunk, by label."""
    best, copying = dict.fromkeys(variants, math.inf), math.inf
    with open(os.devnull, "w", encoding="utf-8") as null:
        for _ in range(rounds):
            for label, variant in variants.items():
                set_up_logging(variant, null, handlers)
                best[label] = min(best[label], time_us(CALL, variant))
                copying = min(copying, time_us("copy()", variant))
    return {label: (best[label] - copying) / variants[label].parts for label in variants}


def make_formatters() -> dict[str, logging.Formatter]:
    """Make the formatters to compare, configured to show a record's extras."""
    foreign = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(),
        structlog.stdlib.ExtraAdder(),
    ]
    processors = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(),
    ]
    return {
        "ours": OURS(),
        "python-json-logger": JsonFormatter("%(created)f %(name)s %(levelname)s %(process)d"),
        "structlog": structlog.stdlib.ProcessorFormatter(
            processors=processors, foreign_pre_chain=foreign
        ),
        "theirs": THEIRS(),
    }


def measure_formatters(app: Callable[..., Any], rounds: int) -> dict[str, float]:
    """Return the microseconds that each formatter takes for one summary."""
    records: list[logging.LogRecord] = []
    summary_logger.handlers[:] = [handler := logging.Handler()]
    handler.emit = records.append  # type: ignore[method-assign]
    summary_logger.setLevel(logging.INFO)
    list(app(make_environ("/hello"), start_response))
    formatters = make_formatters()
    for formatter in formatters.values():
        json.loads(formatter.format(records[0]))
    best = dict.fromkeys(formatters, math.inf)
    for _ in range(rounds):
        for label, formatter in formatters.items():
            names = {"format": formatter.format, "record": records[0]}
            taken_s = timeit.timeit("format(record)", globals=names, number=CALLS)
            best[label] = min(best[label], taken_s / CALLS * 1e6)
    return best


def measure_import(rounds: int) -> float:
    """Return the milliseconds of ``import dockerflow_wsgi`` after ``import werkzeug``."""
    code = "import time, werkzeug; t = time.perf_counter(); import dockerflow_wsgi; "
    code += "print((time.perf_counter() - t) * 1e3)"
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-c", code]
        return min(
            float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
            for _ in range(rounds)
        )


def summary_ratios(added: dict[str, float], set_up: str) -> list[tuple[str, float, str]]:
    """Return how many times as much python-dockerflow adds with a summary, and the goals."""
    labels = {
        "ours plain": "plain, ours, JSON",
        "ours in Flask": "flask, ours, JSON",
        "our extension": "flask, our extension, JSON",
    }
    return [
        (f"{set_up}: theirs / {ours}", added["flask, theirs, JSON"] / added[label], f">= {goal}")
        for (ours, label), goal in zip(labels.items(), GOALS[set_up], strict=True)
    ]


def ratios(us: dict[str, float], added: dict[str, float]) -> list[tuple[str, float, str]]:
    """Return the other comparisons, with value and goal."""
    probes = [us[f"theirs, {path}"] / us[f"ours, {path}"] for path in PROBES]
    off = added["flask, theirs, off"] / added["plain, ours, off"]
    return [
        ("summary off: theirs / ours plain", off, ">= 9"),
        ("/__lbheartbeat__: theirs / ours", probes[0], ">= 30"),
        ("/__version__: theirs / ours", probes[1], ">= 12"),
        ("/__heartbeat__, no checks: theirs / ours", probes[2], ">= 5"),
        ("streamed body: added µs per chunk", added["chunk, ours, off"], "<= 0.1"),
    ]


def format_rows(rows: list[tuple[str, float, str]]) -> list[str]:
    """Format a comparison with its value and its goal."""
    return [f"{name:42}{now:9.2f}{goal:>9}" for name, now, goal in rows]


def report(
    variants: dict[str, Variant],
    us: dict[str, float],
    added: dict[str, float],
    formatter_us: dict[str, float],
    import_ms: float,
) -> str:
    """Write the versions and the tables."""
    lines = [f"{name} {metadata.version(name)}" for name in ("flask", "werkzeug", "dockerflow")]
    lines += [f"Python {platform.python_version()}", "", f"{'variant':42}{'µs':>9}{'added':>9}"]
    for label in variants:
        more = f"{added[label]:9.2f}" if label in added else ""
        lines.append(f"{label:42}{us[label]:9.2f}{more}")
    lines += ["", f"{'formatter':42}{'µs':>9}"]
    lines += [f"{label:42}{taken:9.2f}" for label, taken in formatter_us.items()]
    lines += ["", f"{'ratio':42}{'now':>9}{'goal':>9}"]
    others = ("python-json-logger", "structlog")
    formats = [
        (f"formatter: {other} / ours", formatter_us[other] / formatter_us["ours"], ">= 1")
        for other in others
    ]
    rows = [*ratios(us, added), *formats, ("import after Werkzeug's: ms", import_ms, "<= 40")]
    lines += format_rows(summary_ratios(added, "one") + rows)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Verify, measure and print."""
    parser = argparse.ArgumentParser(description="Measure what the middleware adds to a request.")
    parser.add_argument("--rounds", type=int, default=21, help="default: 21")
    parser.add_argument("--set-up", choices=list(HANDLERS), help="only the summaries, in this one")
    arguments = parser.parse_args()
    rounds, set_up = arguments.rounds, arguments.set_up or "one"
    if set_up == "sentry":
        sentry_sdk.init()
    with tempfile.TemporaryDirectory() as directory:
        write_version(directory)
        variants = make_variants(directory)
        for label, variant in variants.items():
            verify(label, variant)
        if arguments.set_up:
            variants = {
                label: variant
                for label, variant in variants.items()
                if variant.formatter or label in {"plain", "flask"}
            }
        us = measure(variants, rounds, HANDLERS[set_up])
        added = {label: us[label] - us[made.bare] for label, made in variants.items() if made.bare}
        if arguments.set_up:
            sys.stdout.write("\n".join(format_rows(summary_ratios(added, set_up))) + "\n")
            return
        formatter_us = measure_formatters(variants["plain, ours, JSON"].app, rounds)
        sys.stdout.write(report(variants, us, added, formatter_us, measure_import(rounds)))
    for other in ("two", "sentry"):
        sys.stdout.flush()
        command = [sys.executable, __file__, "--rounds", str(rounds), "--set-up", other]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
