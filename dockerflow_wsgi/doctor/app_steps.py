"""The steps for an app that is imported."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from logging.handlers import QueueHandler
from time import monotonic
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias

from werkzeug.test import Client, TestResponse

from ..checks import level_to_text
from ..endpoints import HEARTBEAT_PATH, LBHEARTBEAT_PATH, VERSION_PATH
from ..errors import TargetError
from ..find_middleware import find_middlewares
from ..import_string import import_string, parse_import_string, require_wsgi
from ..middleware import LOGGERS, DockerflowMiddleware
from ..redaction import format_error, safe_str
from ..request_id import new_request_id
from ..version import FILE_NAME, KEYS, find_placeholder
from .diagnosis import (
    ERROR,
    OK,
    WARNING,
    Send,
    StepResult,
    check_names,
    failed,
    lines_of_error,
    masked,
    passed,
    place_of,
    run_step,
    skipped,
    warned,
)
from .services import CheckSteps

if TYPE_CHECKING:
    from ..settings import Settings

Steps: TypeAlias = "dict[str, Callable[[], StepResult]]"

UNSKIPPABLE = ("import", "middleware")
SKIPPABLE = (
    *("settings", "version_json", "port", "user", "endpoint_version", "endpoint_heartbeat"),
    *("endpoint_lbheartbeat", "summary", "checks"),
)

_APP_ID = 10001  # of user and group; the Dockerflow README
_YEAR_2000_NS = 946_684_800 * 10**9
_STREAM_PATHS = ("/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2", "/proc/")
CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")

_REWRITE = f"Run  dockerflow-wsgi version --output {FILE_NAME}  when the container is built"
_OUTERMOST = "Make the middleware the outermost wrapper of the app that the server gets"
_ADD_HANDLER = (
    "Configure logging: in Django by LOGGING, elsewhere for example by  "
    "logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO)  with MozlogHandler from "
    "dockerflow_wsgi.logging. If the server's configuration does it, use --skip summary"
)


@dataclass(frozen=True, slots=True)
class App:
    """An app that was imported."""

    app: Any  # None if the import failed
    result: StepResult  # of the import
    middlewares: tuple[DockerflowMiddleware, ...] = ()  # the outermost first
    bypassed: str = ""  # the name of a Flask app whose middleware requests do not reach


def examine(target: str, timeout_s: float, skip: Sequence[str], send: Send) -> Callable[[], None]:
    """Import an app, and return a function that runs its steps once."""
    started_s = monotonic()
    app = _load(target)
    result = replace(app.result, name="import", duration_s=monotonic() - started_s)
    checks = None
    if app.middlewares:
        middleware = app.middlewares[0]
        names = middleware.registry.names
        check_names(skip, (*UNSKIPPABLE, *SKIPPABLE, *(f"check:{name}" for name in names), *names))
        send({"config": {"settings": masked(_shown(middleware.settings))}})
        checks = CheckSteps(middleware, timeout_s, skip)

    def run_once() -> None:
        send(result.to_dict())
        with record_logs() as logs:
            steps = steps_of(app, checks, logs)
            for name, step in steps.items():
                bound_s = timeout_s + (checks.timeout_s if checks and "endpoint" in name else 0)
                send({"start": name, "bound_s": bound_s})
                send(run_step(name, step, bound_s, skip).to_dict())
            if checks and "checks" not in steps:
                bound_s = checks.timeout_s + 5 * timeout_s * len(checks.names)  # with diagnoses
                send({"start": "checks", "bound_s": bound_s})
                for check_result in checks.results():
                    send(check_result.to_dict())

    return run_once


def _load(target: str) -> App:
    try:
        parsed = parse_import_string(target, "application")
        app = import_string(parsed)
        require_wsgi(app, parsed)
    except TargetError as error:
        return App(None, failed(error.reason, error.remedy, stack=error.stack))
    middlewares, bypassed = find_middlewares(app, DockerflowMiddleware)
    for middleware in middlewares:
        middleware.prepare()
    result = passed(f"{parsed.module}:{parsed.name} is {_name_of(app)}")
    return App(app, result, tuple(middlewares), bypassed)


def _name_of(app: Any) -> str:
    """Name an app without its ``repr``, which may have anything in it."""
    named = app if isinstance(app, (FunctionType, type)) else type(app)
    return f"{named.__qualname__} ({named.__module__})"


def steps_of(app: App, checks: CheckSteps | None, logs: list[logging.LogRecord]) -> Steps:
    """Return the steps of an app by name, without the import and the single checks."""
    nothing = partial(skipped, "there is no app with a middleware to look at")
    steps: Steps = {
        "middleware": partial(_check_middleware, app) if app.app is not None else nothing
    }
    steps |= {**dict.fromkeys(SKIPPABLE, nothing), "port": check_port, "user": check_user}
    if checks is None:
        return steps
    middleware = checks.middleware
    steps |= {
        "settings": partial(_check_settings, middleware),
        "version_json": partial(check_version, middleware),
        "endpoint_version": partial(_check_endpoint, app.app, middleware, VERSION_PATH),
        "endpoint_heartbeat": partial(_check_heartbeat, app.app, checks),
        "endpoint_lbheartbeat": partial(_check_endpoint, app.app, middleware, LBHEARTBEAT_PATH),
        "summary": partial(check_summary, app.app, logs),
        "checks": partial(passed, "no check is registered"),
    }
    through_app = [name for name in steps if name.startswith("endpoint_")] + ["summary"]
    if middleware.settings.disabled:
        off = partial(skipped, "Dockerflow is disabled: see the step settings")
        return steps | dict.fromkeys((*through_app, "checks"), off)
    if app.bypassed:
        steps |= dict.fromkeys(through_app, partial(skipped, "see the step middleware"))
    if checks.names:
        del steps["checks"]  # each check is a step
    return steps


def _check_middleware(app: App) -> StepResult:
    name = _name_of(app.app)
    if app.bypassed:
        text = f"app.wsgi_app of the Flask app {app.bypassed!r} was taken before Dockerflow(app)"
        remedy = "Create Dockerflow(app) before anything that uses app.wsgi_app"
        return failed(f"{text} wrapped it: requests to {name} do not reach the middleware", remedy)
    if not app.middlewares:
        wrapped = "app.wsgi_app" if hasattr(type(app.app), "wsgi_app") else "application"
        remedy = f"Wrap the app: {wrapped} = DockerflowMiddleware({wrapped}). A wrapper around "
        remedy += 'the middleware has to keep it in an attribute, such as "app"'
        return failed(f"there is no DockerflowMiddleware around {name}", remedy)
    text = f"DockerflowMiddleware around {_name_of(app.middlewares[0].app)}"
    if len(app.middlewares) > 1:
        text = f"{len(app.middlewares)} were found; the outermost is used: {text}"
        return warned(text, "Wrap the app once, unless the others are mounted apps")
    return passed(text)


def _check_settings(middleware: DockerflowMiddleware) -> StepResult:
    settings = middleware.settings
    shown, defaults = _shown(settings), _shown(type(settings)())
    if settings.disabled:
        text = "Dockerflow is disabled: every request goes straight to the app"
        return failed(text, "Unset DOCKERFLOW_DISABLED, and disabled", settings=shown)
    if warnings := middleware.settings_reader.warnings:
        return warned("; ".join(warnings), "Correct the names, or remove them", settings=shown)
    changed = [f"{name}={value}" for name, value in shown.items() if value != defaults[name]]
    return passed(" ".join(changed) or "all have their defaults", settings=shown)


def _shown(settings: Settings) -> dict[str, Any]:
    shown = dataclasses.asdict(settings)
    for name, value in shown.items():
        if isinstance(value, tuple):
            shown[name] = ", ".join(map(safe_str, value))
        elif callable(value):
            shown[name] = _name_of(value)
    return {**shown, "heartbeat_failed_level": level_to_text(settings.heartbeat_failed_level)}


def check_version(middleware: DockerflowMiddleware) -> StepResult:
    """Look at what the middleware answers to ``/__version__``."""
    endpoint = middleware.version_endpoint
    origin = "the version callback"
    if endpoint.callback is None:
        origin = os.path.abspath(os.path.join(endpoint.file.directory(), FILE_NAME))
    answer = ask(endpoint, VERSION_PATH)
    if answer.status_code == 404:
        paths = ", ".join(map(os.path.abspath, endpoint.file.paths))
        missing = (
            f"file not found: {paths}" if endpoint.callback is None else f"{origin} returns None"
        )
        return failed(missing, f"{_REWRITE}, or set version_path")
    version = json.loads(answer.data)
    if answer.status_code != 200:
        return failed(f"{origin}: {version['error']}", _REWRITE)
    return check_version_object(version, origin)


def check_version_object(version: Mapping[str, Any], origin: str) -> StepResult:
    """Look at the keys and values of a version object."""
    placeholders = [
        f"{key} is {version[key]!r}" for key in KEYS if find_placeholder(version.get(key))
    ]
    if placeholders:
        remedy = "Replace the placeholder when the image is built: dockerflow-wsgi version does it"
        return failed(f"{origin}: {', '.join(placeholders)}, which nothing replaced", remedy)
    if missing := [key for key in KEYS if key not in version]:
        remedy = f"{_REWRITE}, with {', '.join(KEYS)}"
        return failed(f"{origin} has no {' and no '.join(missing)}", remedy, version=version)
    blank = [key for key in KEYS if key != "version" and not safe_str(version[key] or "").strip()]
    if blank:
        remedy = f"Pass {' and '.join(f'--{key}' for key in blank)} to  dockerflow-wsgi version"
        return warned(f"{origin}: {', '.join(blank)} is blank", remedy, version=version)
    shown = " ".join(f"{key} {version[key]}" for key in ("version", "commit") if version[key])
    return passed(f"{origin}: {shown}", version=version)


def check_port() -> StepResult:
    """Look at ``$PORT``, on which the server should listen."""
    port = os.environ.get("PORT", "8000").strip()
    if "PORT" not in os.environ:
        return passed("PORT is not set: the server should listen on 8000")
    if port.isascii() and port.isdigit() and 0 < int(port[:9]) <= 65535:
        return passed(f"PORT={port}")
    remedy = "Set PORT to a number from 1 to 65535, or unset it"
    return failed(f"PORT is {port!r}, which is not a port number", remedy)


def check_user() -> StepResult:
    """Look at the user; in a container it should be ``app`` with the IDs 10001."""
    if not hasattr(os, "geteuid"):
        return skipped("this system has no user IDs")
    user, group = os.geteuid(), os.getegid()
    text = f"runs as {'root' if user == 0 else f'uid {user}'}, gid {group}"
    is_container = "KUBERNETES_SERVICE_HOST" in os.environ
    is_container |= any(map(os.path.exists, CONTAINER_FILES))
    if (user, group) == (_APP_ID, _APP_ID) or not is_container:
        return passed(text if is_container else f"{text}; this is not a container")
    remedy = f"Run as user and group app, both with the ID {_APP_ID}: USER app in Dockerfile"
    return warned(text, remedy, uid=user, gid=group)


def ask(app: Any, path: str, method: str = "GET", **headers: str) -> TestResponse:
    """Send a request to a WSGI app, as a server does."""
    headers = {"User-Agent": "dockerflow-wsgi doctor", **headers}
    return Client(app, use_cookies=False).open(path, method=method, headers=headers)


def _check_endpoint(
    app: Any, middleware: DockerflowMiddleware, path: str, method: str = "GET"
) -> StepResult:
    """Compare the answer of the app with that of the middleware's own endpoint."""
    settings, request_id = middleware.settings, new_request_id()
    expected = ask(middleware.endpoints[path], path, method)
    try:
        answer = ask(app, path, method, **{settings.request_id_header[0]: request_id})
    except BaseException as error:  # user code
        place = place_of(lines_of_error(error)) or "the app"
        text = f"{place}: {path} raised {type(error).__name__}: {format_error(error)}"
        return failed(text, _OUTERMOST)
    names = ("Content-Type", "Cache-Control", "Allow")
    is_same = all(answer.headers.get(name) == expected.headers.get(name) for name in names)
    if settings.echo_request_id:
        sent = answer.headers.get("X-Request-ID")
        is_same &= sent == request_id if settings.trust_request_id else sent is not None
    if not is_same or answer.status != expected.status:
        to = f" to {answer.headers['Location'].partition('?')[0]}" if answer.location else ""
        text = f"something else answers {path}: {answer.status}{to} {answer.mimetype or ''}"
        text = f"{text.strip()}. The middleware would answer {expected.status} {expected.mimetype}"
        return failed(f"{text} with the X-Request-ID of the request", _OUTERMOST)
    if method == "GET" and answer.status_code != 200:
        return warned(f"answers {answer.status}", "See the step version_json")
    return passed(f"answers {answer.status}")


def _check_heartbeat(app: Any, checks: CheckSteps) -> StepResult:
    """Compare the 405 to another method, which runs no check and calls no hook; run the checks."""
    result = _check_endpoint(app, checks.middleware, HEARTBEAT_PATH, "TRACE")
    if result.status != OK:
        return result
    report = checks.run()
    if report.has_failed:
        code = checks.middleware.settings.heartbeat_failed_status_code
        bad = [one.name for one in report.results if one.level >= report.failed_level]
        text = f"answers {code}, because of {', '.join(bad)}"
        return warned(text, "See the steps of these checks", answer=report.to_dict())
    return passed(f"answers 200 with the status {report.status}", answer=report.to_dict())


@contextmanager
def record_logs() -> Iterator[list[logging.LogRecord]]:
    """Keep the records of this package's loggers from the handlers, in a list."""
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield records
    finally:
        for logger in loggers:
            logger.removeFilter(keep)


def check_summary(app: Any, logs: list[logging.LogRecord]) -> StepResult:
    """Let the handlers format the summary of a request, which the middleware answers with 405."""
    logger = logging.getLogger("request.summary")
    handlers = [handler for handler in _handlers(logger) if handler.level <= logging.INFO]
    if problem := _logger_problem(logger, handlers):
        return failed(*problem)
    logs.clear()
    with suppress(BaseException):  # the steps of the endpoints report it
        ask(app, LBHEARTBEAT_PATH, "TRACE")
    records = [record for record in logs if record.name == "request.summary"]
    if not records:
        text = "a request left no summary: it did not reach the middleware, or a filter dropped it"
        return failed(text, "See the step endpoint_lbheartbeat, and the filters of the logger")
    results = [_check_handler(handler, copy.copy(records[0])) for handler in handlers]
    return min(results, key=lambda one: (OK, WARNING, ERROR).index(one.status))


def _logger_problem(
    logger: logging.Logger, handlers: Sequence[logging.Handler]
) -> tuple[str, str] | None:
    """Return why no handler gets a summary, and the remedy."""
    if logger.disabled:
        text = "the logger request.summary is disabled, as logging.config does with existing ones"
        return text, 'Configure logging with "disable_existing_loggers": False'
    if not handlers:
        text = "the logger request.summary has no handler at the level INFO"
        return text if logger.propagate else f"{text}, and its propagate is False", _ADD_HANDLER
    if logger.manager.disable >= logging.INFO:
        return "logging.disable() drops INFO", "Remove the call of logging.disable()"
    if not logger.isEnabledFor(logging.INFO):
        level = logging.getLevelName(logger.getEffectiveLevel())
        remedy = 'Call logging.getLogger("request.summary").setLevel(logging.INFO)'
        return f"the logger request.summary is at {level}, above INFO", remedy
    return None


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that get the records, behind a queue's listener too."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            listener = getattr(handler, "listener", None)
            yield from listener.handlers if listener is not None else [handler]
        current = current.parent if current.propagate else None


def _check_handler(handler: logging.Handler, record: logging.LogRecord) -> StepResult:
    name = type(handler).__name__
    if isinstance(handler, QueueHandler):
        text = "the summaries go into a queue, whose listener cannot be found"
        return warned(text, "Check that its listener writes mozlog to stdout or stderr")
    line = handler.format(record)
    if problem := mozlog_problem(line):
        remedy = "Use dockerflow_wsgi.logging.MozlogFormatter as the formatter of the handler"
        return failed(f"a summary that the {name} writes {problem}", remedy, line=line)
    if not _writes_to_a_stream(handler):
        remedy = "Add a MozlogHandler(): containers log to stdout or stderr"
        return failed(f"the {name} that gets the summaries writes elsewhere", remedy, line=line)
    return passed(f"mozlog, by a {name}", line=line)


def _writes_to_a_stream(handler: logging.Handler) -> bool:
    path, stream = getattr(handler, "baseFilename", None), getattr(handler, "stream", None)
    if path is not None:
        return str(path).startswith(_STREAM_PATHS)
    with suppress(AttributeError, OSError, ValueError):
        return stream in (sys.stdout, sys.stderr) or stream.fileno() in {1, 2}  # type: ignore[union-attr]
    return False


def mozlog_problem(line: str) -> str:
    """Return what keeps a line from being the mozlog of a summary; empty if nothing does.

    The rules are those of Mozilla's wiki, "Firefox/Services/Logging"; each field may be absent.
    """
    try:
        envelope = json.loads(line)
    except ValueError:
        return "is not JSON"
    if "\n" in line or not isinstance(envelope, dict):
        return "is not a JSON object in one line"
    timestamp = envelope.get("Timestamp")
    if not isinstance(timestamp, int) or timestamp < _YEAR_2000_NS:
        return "is JSON, but not mozlog: it has no Timestamp in nanoseconds"
    if envelope.get("Type") != "request.summary" or not isinstance(envelope.get("Fields"), dict):
        return "is JSON, but not mozlog: it has no Fields, or its Type is not request.summary"
    return ""
