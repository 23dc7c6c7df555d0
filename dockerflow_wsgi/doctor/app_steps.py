"""The steps for an app that is imported."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from logging.handlers import QueueHandler
from time import monotonic
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from werkzeug.test import Client, TestResponse

from ..build_version import find_placeholder
from ..checks import level_to_text
from ..endpoints import HEARTBEAT_PATH, LBHEARTBEAT_PATH, VERSION_PATH
from ..find_middleware import find_bypassed, find_middleware
from ..import_string import TargetError, import_string, parse_import_string, require_wsgi
from ..middleware import LOGGERS, DockerflowMiddleware
from ..redaction import safe_str
from ..version import FILE_NAME, KEYS
from .diagnosis import StepResult, check_names, failed, masked, passed, run_steps, warned
from .services import CheckSteps

if TYPE_CHECKING:
    from ..settings import Settings

STEPS = (
    *("import", "middleware", "settings", "version_json", "port", "user", "endpoint_version"),
    *("endpoint_heartbeat", "endpoint_lbheartbeat", "summary", "checks"),
)

_APP_ID = 10001  # of user and group; the Dockerflow README
CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")

_REWRITE = f"Run  dockerflow-wsgi version --output {FILE_NAME}  when the container is built"
_ADD_HANDLER = (
    "Configure logging: in Django by LOGGING, elsewhere for example by  "
    "logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO)  with MozlogHandler from "
    "dockerflow_wsgi.logging. If the server's configuration does it, use --skip summary"
)


def examine(
    target: str, timeout_s: float, skip: Sequence[str], send: Callable[[Mapping[str, Any]], None]
) -> Callable[[], None]:
    """Import an app, and return a function that runs its steps once and sends each result."""
    app, imported = _load(target)
    middleware, bypassed = find_middleware(app, DockerflowMiddleware), ""
    if middleware is None:
        middleware, bypassed = find_bypassed(app, DockerflowMiddleware)
    checks: CheckSteps | None = None
    if middleware is not None:
        middleware.prepare()
        check_names(skip, (*STEPS[2:], *(f"check:{name}" for name in middleware.registry.names)))
        send({"config": {"settings": masked(_shown(middleware.settings))}})
        checks = CheckSteps(middleware, timeout_s, skip)

    def run_once() -> None:
        with record_logs() as logs:
            steps = {"import": lambda: imported, **steps_of(app, middleware, bypassed, logs)}
            for result in run_steps(steps, timeout_s, skip, STEPS[:3]):
                results: Iterable[StepResult] = [result]
                if checks and checks.names and (result.name, result.status) == ("checks", "ok"):
                    results = checks.results()
                for one in results:
                    send(one.to_dict())

    return run_once


def _load(target: str) -> tuple[Any, StepResult]:
    started_s = monotonic()
    try:
        parsed = parse_import_string(target, "application")
        app = import_string(parsed)
        require_wsgi(app, parsed)
    except TargetError as error:
        return None, failed(error.reason, error.remedy, stack=error.stack)
    result = passed(f"{parsed.module}:{parsed.name} is {_name_of(app)}")
    return app, replace(result, duration_s=monotonic() - started_s)


def _name_of(app: Any) -> str:
    """Name an app without its ``repr``, which may have anything in it."""
    named = app if isinstance(app, (FunctionType, MethodType, type)) else type(app)
    return f"{named.__qualname__} ({named.__module__})"


def steps_of(
    app: Any, middleware: Any, bypassed: str, logs: list[logging.LogRecord]
) -> dict[str, Callable[[], StepResult]]:
    """Return the steps after the import by name, without the single checks."""
    return {
        "middleware": partial(check_middleware, app, middleware, bypassed),
        "settings": partial(check_settings, middleware),
        "version_json": partial(check_version, middleware),
        "port": check_port,
        "user": check_user,
        "endpoint_version": partial(check_endpoint, app, middleware, VERSION_PATH),
        "endpoint_heartbeat": partial(check_endpoint, app, middleware, HEARTBEAT_PATH),
        "endpoint_lbheartbeat": partial(check_endpoint, app, middleware, LBHEARTBEAT_PATH),
        "summary": partial(check_summary, app, logs),
        "checks": partial(passed, "no check is registered"),
    }


def check_middleware(
    app: Any, middleware: DockerflowMiddleware | None, bypassed: str
) -> StepResult:
    """Report which middleware was found, and whether requests reach it."""
    name = _name_of(app)
    if middleware is None:
        wrapped = "app.wsgi_app" if hasattr(type(app), "wsgi_app") else "application"
        remedy = "If the app is wrapped further inside, move DockerflowMiddleware to the outside; "
        remedy += f"if not, write {wrapped} = DockerflowMiddleware({wrapped})"
        return failed(f"there is no DockerflowMiddleware around {name}", remedy)
    if bypassed:
        text = f"app.wsgi_app of the Flask app {bypassed!r} was taken before Dockerflow(app)"
        remedy = "Create Dockerflow(app) before anything that uses app.wsgi_app"
        return failed(f"{text} wrapped it: requests to {name} do not reach the middleware", remedy)
    return passed(f"DockerflowMiddleware around {_name_of(middleware.app)}")


def check_settings(middleware: DockerflowMiddleware) -> StepResult:
    """Report the settings that were changed, and misspelt names of settings."""
    settings = middleware.settings
    shown, defaults = _shown(settings), _shown(type(settings)())
    if settings.disabled:
        text = "Dockerflow is disabled: every request goes straight to the app"
        return failed(text, "Unset DOCKERFLOW_DISABLED, and disabled", settings=shown)
    if problems := middleware.settings_reader.problems:  # set late, in Flask's configuration
        return failed("; ".join(problems), "Correct the values", settings=shown)
    if warnings := middleware.settings_reader.warnings:
        return warned("; ".join(warnings), "Correct the names, or remove them", settings=shown)
    changed = [f"{name}={value}" for name, value in shown.items() if value != defaults[name]]
    return passed(" ".join(changed) or "all have their defaults", settings=shown)


def _shown(settings: Settings) -> dict[str, Any]:
    shown = asdict(settings)
    for name, value in shown.items():
        if isinstance(value, tuple):
            shown[name] = ", ".join(map(safe_str, value))
        elif callable(value):
            shown[name] = _name_of(value)
    return {**shown, "heartbeat_failed_level": level_to_text(settings.heartbeat_failed_level)}


def check_version(middleware: DockerflowMiddleware) -> StepResult:
    """Check what the middleware answers to ``/__version__``."""
    endpoint = middleware.version_endpoint
    origin = "the version callback"
    if endpoint.callback is None:
        origin = os.path.abspath(os.path.join(endpoint.file.directory(), FILE_NAME))
    answer = ask(endpoint, VERSION_PATH)
    version = json.loads(answer.data)
    if answer.status_code == 200:
        return check_version_object(version, origin)
    if endpoint.callback is not None:
        return failed(version["error"], "Correct the version callback of the app")
    if answer.status_code == 404:
        paths = ", ".join(map(os.path.abspath, endpoint.file.paths))
        return failed(f"file not found: {paths}", f"{_REWRITE}, or set version_path")
    return failed(f"{origin}: {version['error']}", _REWRITE)


def check_version_object(version: Mapping[str, Any], origin: str) -> StepResult:
    """Check the keys and values of a version object."""
    problems = [f"no {key}" for key in KEYS if key not in version]
    problems += [
        f"{key} {version[key]!r}, which nothing replaced"
        for key in KEYS
        if find_placeholder(version.get(key))
    ]
    if problems:
        remedy = f"{_REWRITE}, with {', '.join(KEYS)}"
        return failed(f"{origin} has {' and '.join(problems)}", remedy, version=version)
    shown = " ".join(f"{key} {version[key]}" for key in ("version", "commit") if version[key])
    return passed(f"{origin}: {shown}", version=version)


def check_port() -> StepResult:
    """Check ``$PORT``, on which the server should listen."""
    port = os.environ.get("PORT", "8000").strip()
    if port.isascii() and port.isdigit() and 0 < int(port[:9]) <= 65535:
        return passed(f"the server should listen on port {port}")
    remedy = "Set PORT to a number from 1 to 65535, or unset it"
    return failed(f"PORT is {port!r}, which is not a port number", remedy)


def check_user() -> StepResult:
    """Check the user, which should be ``app`` with the IDs 10001 in a container."""
    user, group = os.geteuid(), os.getegid()
    text = f"runs as {'root' if user == 0 else f'uid {user}'}, gid {group}"
    is_container = "KUBERNETES_SERVICE_HOST" in os.environ
    is_container |= any(map(os.path.exists, CONTAINER_FILES))
    if (user, group) == (_APP_ID, _APP_ID) or not is_container:
        return passed(text if is_container else f"{text}; this is not a container")
    remedy = f"Run as user and group app, both with the ID {_APP_ID}: USER app in Dockerfile"
    return warned(text, remedy, uid=user, gid=group)


def ask(app: Any, path: str, method: str = "GET") -> TestResponse:
    """Send a request to a WSGI app, as a server does."""
    headers = {"User-Agent": "dockerflow-wsgi doctor"}
    return Client(app, use_cookies=False).open(path, method=method, headers=headers)


def check_endpoint(app: Any, middleware: DockerflowMiddleware, path: str) -> StepResult:
    """Compare the app's answer with the endpoint's own."""
    method = "TRACE" if path == HEARTBEAT_PATH else "GET"  # checks are run in their own steps
    expected, answer = ask(middleware.endpoints[path], path, method), ask(app, path, method)
    if (answer.status_code, answer.data) == (expected.status_code, expected.data):
        return passed("the middleware answers")
    to = f" to {answer.headers['Location'].partition('?')[0]}" if answer.location else ""
    text = f"another layer answers {method} {path}: {answer.status}{to}, {answer.mimetype}"
    return failed(text, "Make the middleware the outermost wrapper of the app that the server gets")


@contextmanager
def record_logs() -> Iterator[list[logging.LogRecord]]:
    """Keep the records of this package's loggers from the handlers, in a list."""
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    for name in LOGGERS:
        logging.getLogger(name).addFilter(keep)
    try:
        yield records
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(keep)


def check_summary(app: Any, logs: list[logging.LogRecord]) -> StepResult:
    """Let the handlers format the summary of a request, which the middleware answers with 405."""
    logger = logging.getLogger("request.summary")
    if logger.disabled:
        text = "the logger request.summary is disabled: logging.config does this to existing ones"
        return failed(text, 'Configure logging with "disable_existing_loggers": False')
    attached = list(_handlers(logger))
    handlers = [handler for handler in attached if handler.level <= logging.INFO]
    if not handlers:
        text, remedy = "the logger request.summary has no handler", _ADD_HANDLER
        if attached:
            text = f"each handler of the logger request.summary drops INFO, such as {attached[0]}"
            remedy = "Set the level of a handler to INFO"
        elif not logger.propagate:
            text, remedy = f"{text}, and its propagate is False", "Set its propagate to True"
        return failed(text, remedy)
    if not logger.isEnabledFor(logging.INFO):
        level = logging.getLevelName(logger.getEffectiveLevel())
        remedy = 'Call logging.getLogger("request.summary").setLevel(logging.INFO)'
        remedy += ", and remove calls of logging.disable()"
        return failed(f"the logger request.summary drops INFO; its level is {level}", remedy)
    logs.clear()
    ask(app, LBHEARTBEAT_PATH, "TRACE")
    records = [record for record in logs if record.name == "request.summary"]
    if not records:
        text = "a request left no summary: it did not reach the middleware, or a filter dropped it"
        return failed(text, "See the step endpoint_lbheartbeat, and the filters of the logger")
    results = [_check_handler(handler, records[0]) for handler in handlers]
    return next((result for result in results if result.status == "ok"), results[0])


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that get the records."""
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None


def _check_handler(handler: logging.Handler, record: logging.LogRecord) -> StepResult:
    name = type(handler).__name__
    if isinstance(handler, QueueHandler):
        text = "the summaries go into a queue, whose listener is not examined"
        return warned(text, "Check that its listener writes mozlog to stdout or stderr")
    line = handler.format(record)
    if not is_mozlog(line):
        remedy = "Use dockerflow_wsgi.logging.MozlogFormatter as the formatter of the handler"
        return failed(f"a summary that the {name} writes is not mozlog: {line[:200]}", remedy)
    path = handler.baseFilename if isinstance(handler, logging.FileHandler) else ""
    if path and not path.startswith(("/dev/", "/proc/")):
        remedy = "Add a MozlogHandler(): containers log to stdout or stderr"
        return failed(f"the {name} writes the summaries to the file {path}", remedy)
    return passed(f"mozlog, by a {name}", line=line)


def is_mozlog(line: str) -> bool:
    """Return whether a line is the mozlog of a summary, with a timestamp in nanoseconds.

    The format is that of Mozilla's wiki, "Firefox/Services/Logging".
    """
    try:
        envelope = json.loads(line)
        is_summary = envelope["Type"] == "request.summary" and isinstance(envelope["Fields"], dict)
        return is_summary and envelope["Timestamp"] > 10**18 and "\n" not in line
    except (ValueError, TypeError, KeyError):
        return False
