"""What the middleware costs per request, beside python-dockerflow; prints tables.

    pip install --upgrade pip  # 25.1 or newer
    pip install '.[flask]' --group benchmark
    python tests/benchmarks/per_request.py

All variants run in one process, without a network, in turns: a round times each of them
once, and the best round counts, because a busy machine can only make a round slower. Each
call gets a fresh copy of the same environ; copying it is timed too, and subtracted from every
figure. Iterating and closing the body is in every figure. No request brings an ID. "Ours" is
`DockerflowMiddleware`, around Flask too; "our extension" is `dockerflow_wsgi.flask.Dockerflow`.

Summaries go to the null device, through the formatter of the package that is measured. For
the endpoints they are off on both sides: at the level INFO python-dockerflow would write one
per probe, and this package none. A chunk's figure is a thousandth of a body of 1,000 chunks.
The formatters of the third table get one and the same summary record. The import is timed in
new interpreters that find everything compiled, after Werkzeug's own.
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

# What is timed, with the garbage collector on, as in production: without it, the cycles that
# Flask leaves fill the processor's caches, and everything around Flask takes up to twice as long.
SETUP = "import gc; gc.enable()"
CALL = """
iterable = app(copy(), start_response)
for chunk in iterable: pass
close = getattr(iterable, "close", None)
if close is not None: close()
"""

OURS = dockerflow_wsgi.logging.MozlogFormatter
THEIRS = dockerflow.logging.MozlogFormatter

summary_logger = logging.getLogger("request.summary")
write = io.BytesIO().write


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One thing to measure.

    Attributes:
        app: What is called.
        path: The request's path.
        formatter: Makes the formatter of the summaries; ``None`` turns them off.
        bare: The label of the variant without Dockerflow, to tell what was added.
        expected: The body; a dict stands for any JSON of it.
        calls: How many calls a round times.
        parts: What the time of a call is divided by.
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
    """Make everything that is measured, by its label, with ``version.json`` in a directory."""
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
    """Write a ``version.json`` that looks as if it had been there for long."""
    path = os.path.join(directory, "version.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(VERSION, file)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def make_environ(path: str) -> dict[str, Any]:
    """Make the environ of a browser's request as it comes through a proxy."""
    environ = create_environ(path, query_string="page=2", headers=HEADERS)
    return {**environ, "wsgi.file_wrapper": FileWrapper, "REMOTE_ADDR": "10.0.0.2"}


def set_up_logging(variant: Variant, stream: TextIO) -> None:
    """Send the summaries to a stream, or turn them off, whatever was set before."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(variant.formatter() if variant.formatter else None)
    summary_logger.handlers[:] = [handler]
    summary_logger.propagate = False
    summary_logger.setLevel(logging.INFO if variant.formatter else logging.CRITICAL + 1)


def verify(label: str, variant: Variant) -> None:
    """Assert that a variant does what it says."""
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


def measure(variants: dict[str, Variant], rounds: int) -> dict[str, float]:
    """Return the microseconds per request, or per chunk, by label."""
    best, copying = dict.fromkeys(variants, math.inf), math.inf
    with open(os.devnull, "w", encoding="utf-8") as null:
        for _ in range(rounds):
            for label, variant in variants.items():
                set_up_logging(variant, null)
                best[label] = min(best[label], time_us(CALL, variant))
                copying = min(copying, time_us("copy()", variant))
    return {label: (best[label] - copying) / variants[label].parts for label in variants}


def make_formatters() -> dict[str, logging.Formatter]:
    """Make the formatters to compare, each with what it needs to show a record's extras."""
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
    app(make_environ("/hello"), start_response).close()
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


def ratios(us: dict[str, float], added: dict[str, float]) -> list[tuple[str, float, str]]:
    """Return what is compared, its value now and its goal."""
    json_theirs, off_theirs = added["flask, theirs, JSON"], added["flask, theirs, off"]
    probes = [us[f"theirs, {path}"] / us[f"ours, {path}"] for path in PROBES]
    lbheartbeat = us["ours, /__lbheartbeat__"] / us["plain"]
    return [
        ("added, JSON: theirs / ours plain", json_theirs / added["plain, ours, JSON"], ">= 7"),
        ("added, JSON: theirs / ours in Flask", json_theirs / added["flask, ours, JSON"], ">= 4"),
        (
            "the same: theirs / our extension",
            json_theirs / added["flask, our extension, JSON"],
            ">= 4",
        ),
        ("added, off: theirs / ours plain", off_theirs / added["plain, ours, off"], ">= 10"),
        ("/__lbheartbeat__: theirs / ours", probes[0], ">= 50"),
        ("/__lbheartbeat__: ours / plain app", lbheartbeat, "<= 2.5"),
        ("/__version__: theirs / ours", probes[1], ">= 15"),
        ("/__heartbeat__, no checks: theirs / ours", probes[2], ">= 5"),
        ("streamed body: added µs per chunk", added["chunk, ours, off"], "<= 0.1"),
    ]


def report(
    variants: dict[str, Variant],
    us: dict[str, float],
    formatter_us: dict[str, float],
    import_ms: float,
) -> str:
    """Write the versions and the tables."""
    added = {label: us[label] - us[made.bare] for label, made in variants.items() if made.bare}
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
    lines += [f"{name:42}{now:9.2f}{goal:>9}" for name, now, goal in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Verify, measure and print."""
    parser = argparse.ArgumentParser(description="Measure what the middleware costs per request.")
    parser.add_argument("--rounds", type=int, default=21, help="default: 21")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        write_version(directory)
        variants = make_variants(directory)
        for label, variant in variants.items():
            verify(label, variant)
        us = measure(variants, rounds)
        formatter_us = measure_formatters(variants["plain, ours, JSON"].app, rounds)
        sys.stdout.write(report(variants, us, formatter_us, measure_import(rounds)))


if __name__ == "__main__":
    main()
