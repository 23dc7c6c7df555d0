"""The steps for an app that is imported."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from logging.handlers import QueueHandler
from time import monotonic
from typing import Any, TypeAlias

from werkzeug.test import Client, TestResponse

from ..checks import CheckRegistry, level_to_text
from ..endpoints import HEARTBEAT_PATH, LBHEARTBEAT_PATH, VERSION_PATH
from ..errors import ConfigurationError, TargetError, VersionError
from ..find_middleware import find_middlewares
from ..import_string import import_string, parse_import_string, require_wsgi
from ..middleware import LOGGERS, DockerflowMiddleware
from ..redaction import format_error, safe_str
from ..request_id import new_request_id
from ..settings import Settings, environment_source
from ..version import FILE_NAME, KEYS, call_version_callback, find_placeholder
from .diagnosis import (
    ERROR,
    OK,
    WARNING,
    MisuseError,
    Send,
    StepResult,
    failed,
    masked,
    passed,
    place_of_error,
    run_step,
    skipped,
    warned,
)
from .services import CheckSteps, NotFound

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
_WITH_KEYS = f"{_REWRITE}, with {', '.join(KEYS)}"
_OUTERMOST = "Make the middleware the outermost wrapper of the app that the server gets"
_ADD_HANDLER = (
    "Configure logging, in Django by LOGGING, elsewhere for example by  import logging;  "
    "from dockerflow_wsgi.logging import MozlogHandler;  "
    "logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO); or --skip summary, if "
    "the server's own configuration does it"
)
_LEAVE_ENABLED = 'Configure logging with "disable_existing_loggers": False'


@dataclass(frozen=True, slots=True)
class App:
    """An app that was imported.

    Attributes:
        app: The WSGI app; ``None`` if the import failed.
        results: The result of the import, and of the settings if they are wrong.
        middlewares: The middlewares in the app, the outermost first.
        bypassed: The name of a Flask app whose middleware requests do not reach; or empty.
        is_registry: Whether a `CheckRegistry` was imported.
    """

    app: Any
    results: tuple[StepResult, ...]
    middlewares: tuple[DockerflowMiddleware, ...] = ()
    bypassed: str = ""
    is_registry: bool = False


def examine(target: str, timeout_s: float, skip: Sequence[str], send: Send) -> Callable[[], None]:
    """Import an app, and return a function that runs its steps once."""
    app = _load(target)
    middleware = app.middlewares[0] if app.middlewares else None
    if middleware is not None:
        checks = tuple(f"check:{name}" for name in middleware.registry.names)
        known = {*UNSKIPPABLE, *SKIPPABLE, *checks, *middleware.registry.names}
        if unknown := sorted(set(skip) - known):
            steps = ", ".join((*SKIPPABLE, *checks))
            raise MisuseError(f"--skip {', '.join(unknown)}: unknown step; the steps are: {steps}")
        send({"config": {"settings": masked(_shown(middleware.settings))}})
    names = frozenset(skip)
    check_steps = CheckSteps(middleware, timeout_s, names, send) if middleware else None
    return partial(_run_once, app, check_steps, timeout_s, names, send)


def _load(target: str) -> App:
    started_s = monotonic()
    try:
        parsed = parse_import_string(target, "application")
        found = import_string(parsed)
        is_registry = isinstance(found, CheckRegistry)
        app = DockerflowMiddleware(NotFound(), registry=found) if is_registry else found
        require_wsgi(app, parsed)
    except ConfigurationError as error:  # of the environment, for a registry
        wrong = TargetError("the configuration is wrong", "", problems=error.problems)
        return App(None, _import_failures(wrong, monotonic() - started_s))
    except TargetError as error:
        return App(None, _import_failures(error, monotonic() - started_s))
    shown = target if ":" in target else f"{target}:application"
    result = passed(f"{shown} is {_name_of(found)}")
    result = replace(result, name="import", duration_s=monotonic() - started_s)
    middlewares, bypassed = find_middlewares(app, DockerflowMiddleware)
    return App(app, (result,), tuple(middlewares), bypassed, is_registry)


def _import_failures(error: TargetError, duration_s: float) -> tuple[StepResult, ...]:
    reason, remedy = error.reason, _remedy_of(error.__cause__) or error.remedy
    if remedy != error.remedy and error.stack:
        reason = f"{reason} (at {error.stack[-1]})"
    if not error.problems:
        result = failed(reason, remedy, stack=error.stack)
        return (replace(result, name="import", duration_s=duration_s),)
    result = failed(reason, "See the step settings", stack=error.stack)
    is_twice = any("wrap" in problem for problem in error.problems)
    fix = "Remove one of the two wrappers: DockerflowMiddleware(...) or Dockerflow(app)"
    wrong = failed(
        "; ".join(error.problems),
        fix if is_twice else "Fix each of the problems",
        problems=error.problems,
    )
    return (
        replace(result, name="import", duration_s=duration_s),
        replace(wrong, name="settings"),
    )


def _remedy_of(error: BaseException | None) -> str:
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    innermost = frames[-1].filename if frames else ""
    if isinstance(error, KeyError) and error.args and innermost in {os.__file__, "<frozen os>"}:
        return f"Set the environment variable {error.args[0]}"
    if isinstance(error, ValueError) or type(error).__name__ == "ArgumentError":
        packages = ("sqlalchemy", "redis", "valkey", "urllib")
        if any(part.startswith(packages) for part in innermost.split(os.sep)):
            return "Correct the value that this line gets, such as an environment variable"
    return ""


def _name_of(app: Any) -> str:
    """Name an app without its ``repr``, which may have anything in it."""
    kind = type(app)
    try:
        name = getattr(app, "__qualname__", None) or kind.__qualname__
        return f"{name} ({getattr(app, '__module__', '?')})"
    except Exception:  # an object of the user
        return f"{kind.__qualname__} ({kind.__module__})"


def _run_once(
    app: App, checks: CheckSteps | None, timeout_s: float, skip: frozenset[str], send: Send
) -> None:
    for result in app.results:
        send(result.to_dict())
    known = {result.name for result in app.results}
    if checks is not None:
        checks.restart()
    with record_logs() as logs:
        steps: Steps = {"middleware": partial(_check_middleware, app)}
        steps |= steps_of(app, checks, logs)
        for name, step in steps.items():
            if name in known:
                continue
            bound_s = timeout_s + (checks.timeout_s if checks and "endpoint" in name else 0)
            send({"start": name, "bound_s": bound_s})
            send(run_step(name, step, bound_s, skip).to_dict())
        if checks is not None and "checks" not in steps:
            for result in checks.results():
                send(result.to_dict())


def steps_of(app: App, checks: CheckSteps | None, logs: list[logging.LogRecord]) -> Steps:
    """Return the steps of an app by name, without the import, the middleware and the checks."""
    container: Steps = {"port": check_port, "user": check_user}
    if checks is None:
        nothing = partial(skipped, "there is no middleware to look at")
        return {name: container.get(name, nothing) for name in SKIPPABLE}
    middleware = checks.middleware
    steps: Steps = {
        "settings": partial(_check_settings, middleware.settings),
        "version_json": partial(check_version, middleware),
        **container,
        "endpoint_version": partial(_check_endpoint, app.app, middleware, VERSION_PATH),
        "endpoint_heartbeat": partial(_check_heartbeat, app.app, checks),
        "endpoint_lbheartbeat": partial(_check_endpoint, app.app, middleware, LBHEARTBEAT_PATH),
        "summary": partial(check_summary, app.app, logs),
    }
    through_app = [name for name in steps if name.startswith("endpoint")] + ["summary"]
    if middleware.settings.disabled:
        off = partial(skipped, "Dockerflow is disabled: see the step settings")
        return {**steps, **dict.fromkeys((*through_app, "checks"), off)}
    if app.bypassed:
        steps |= dict.fromkeys(through_app, partial(skipped, "see the step middleware"))
    if app.is_registry:
        steps["summary"] = partial(skipped, "serve logs mozlog, unless the module configures logs")
    if not checks.names:
        steps["checks"] = partial(passed, "no check is registered")
    return steps


def _check_middleware(app: App) -> StepResult:
    if app.app is None:
        return skipped("there is no app to look at")
    name = _name_of(app.app)
    count = len(app.middlewares)
    if app.bypassed:
        text = f"app.wsgi_app of the Flask app {app.bypassed!r} was taken before Dockerflow(app)"
        remedy = "Create Dockerflow(app) before anything that uses app.wsgi_app"
        return failed(f"{text} wrapped it: requests to {name} do not reach the middleware", remedy)
    if not count:
        if _is_answered(app.app):
            text = f"{name} answers the endpoints, but does not show its DockerflowMiddleware"
            remedy = (
                'Keep the wrapped app in an attribute "app" of the wrapper, or run doctor on it'
            )
            return warned(text, remedy, found=0)
        wrapped = "app.wsgi_app" if hasattr(type(app.app), "wsgi_app") else "application"
        remedy = f"Wrap the app: {wrapped} = DockerflowMiddleware({wrapped})"
        return failed(f"there is no DockerflowMiddleware around {name}", remedy, found=0)
    if app.is_registry:
        return passed("serve creates one for the registry", found=count)
    text = f"DockerflowMiddleware around {_name_of(app.middlewares[0].app)}"
    if count > 1:
        text = f"{count} were found; the outermost is used: {text}"
        return warned(text, "Wrap the app once, unless the others are mounted apps", found=count)
    return passed(text, found=count)


def _is_answered(app: Any) -> bool:
    request_id = new_request_id()
    try:
        answer = ask(app, LBHEARTBEAT_PATH, **{"X-Request-ID": request_id})
    except BaseException:  # user code
        return False
    return answer.status_code == 200 and answer.headers.get("X-Request-ID") == request_id


def _check_settings(settings: Settings) -> StepResult:
    shown, defaults = _shown(settings), _shown(type(settings)())
    if settings.disabled:
        text = "Dockerflow is disabled: every request goes straight to the app"
        return failed(text, "Unset DOCKERFLOW_DISABLED, and disabled", settings=shown)
    if warnings := environment_source(os.environ).warnings:
        return warned("; ".join(warnings), "Correct the names, or unset them", settings=shown)
    changed = [f"{name}={value}" for name, value in shown.items() if value != defaults[name]]
    return passed(" ".join(changed) or "all have their defaults", settings=shown)


def _shown(settings: Settings) -> dict[str, Any]:
    shown = dataclasses.asdict(settings)
    for name, value in shown.items():
        if isinstance(value, tuple):
            shown[name] = (" or " if name == "version_path" else ",").join(map(safe_str, value))
        elif callable(value):
            shown[name] = _name_of(value)
    return {**shown, "heartbeat_failed_level": level_to_text(settings.heartbeat_failed_level)}


def check_version(middleware: DockerflowMiddleware) -> StepResult:
    """Look at the version object, where the middleware looks for it."""
    endpoint = middleware.version_endpoint
    directory = endpoint.file.directory()
    path = os.path.abspath(os.path.join(directory, FILE_NAME))
    version: Mapping[str, Any] | None
    try:
        if endpoint.callback is not None:
            version = call_version_callback(endpoint.callback, directory)
            if version is None:
                remedy = f"Return a mapping with {', '.join(KEYS)}"
                return failed("the version callback returned None: there is no version", remedy)
            return check_version_object(version, "the version callback", is_callback=True)
        body = endpoint.file.read()
    except VersionError as error:
        unreadable = isinstance(error.__cause__, OSError)
        remedy = "Make it readable for the user of the app" if unreadable else _REWRITE
        return failed(f"{error.path or 'the version callback'}: {error}", remedy)
    if body is None:
        places = ", ".join(map(os.path.abspath, endpoint.file.paths))
        return failed(f"file not found: {places}", f"{_REWRITE}, or set version_path")
    return check_version_object(json.loads(body), path)


def check_version_object(
    version: Mapping[str, Any], origin: str, *, is_callback: bool = False
) -> StepResult:
    """Look at the keys and values of a version object."""
    unresolved = [
        f"{key} is {version[key]!r}" for key in KEYS if find_placeholder(version.get(key))
    ]
    if unresolved:
        remedy = "Replace the placeholder when the image is built: dockerflow-wsgi version does it"
        return failed(f"{origin}: {', '.join(unresolved)}, which nothing replaced", remedy)
    if missing := [key for key in KEYS if key not in version]:
        make = warned if is_callback else failed
        return make(f"{origin} has no {' and no '.join(missing)}", _WITH_KEYS, version=version)
    blank = [key for key in KEYS if key != "version" and not safe_str(version[key] or "").strip()]
    if blank:
        return warned(f"{origin}: {', '.join(blank)} is blank", _WITH_KEYS, version=version)
    shown = " ".join(f"{key} {version[key]}" for key in ("version", "commit") if version[key])
    return passed(f"{origin}: {shown}", version=version)


def check_port() -> StepResult:
    """Look at ``$PORT``, on which the server should listen."""
    port = os.environ.get("PORT")
    remedy = "Set PORT to a number from 1 to 65535"
    if port is None:
        return passed("PORT is not set: the server should listen on 8000")
    port = port.strip()
    if not port:
        return warned("PORT is empty, which gunicorn refuses", remedy)
    if not (port.isascii() and port.isdigit()):
        return failed(f"PORT={port!r} is not a number", remedy)
    if int(port[:9]) > 65535:
        return failed(f"PORT={port} is out of range", remedy)
    if int(port) == 0:
        return warned("PORT=0: the system chooses a port, which no prober knows", remedy)
    return passed(f"PORT={port}")


def check_user() -> StepResult:
    """Look at the user; in a container it should be ``app`` with the IDs 10001."""
    if not hasattr(os, "geteuid"):
        return skipped("this system has no user IDs")
    user, group = os.geteuid(), os.getegid()
    text = f"runs as {'root' if user == 0 else f'uid {user}'}, gid {group}"
    if (user, group) == (_APP_ID, _APP_ID):
        return passed(text, uid=user, gid=group)
    if "KUBERNETES_SERVICE_HOST" not in os.environ and not any(
        map(os.path.exists, CONTAINER_FILES)
    ):
        return passed(f"{text}; this is not a container", uid=user, gid=group)
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
        place = place_of_error(error)
        text = f"{path} raised {type(error).__name__}: {format_error(error)}"
        return failed(f"{place}: {text}" if place else text, _OUTERMOST)
    sent = answer.headers.get("X-Request-ID")
    names = [name for name, _ in expected.headers if name != "Content-Length"]
    is_same = all(answer.headers.get(name) == expected.headers[name] for name in names)
    is_callback = path == VERSION_PATH and middleware.version_endpoint.callback is not None
    is_same &= answer.status == expected.status
    is_same &= answer.data == expected.data or is_callback
    if not is_same or (settings.echo_request_id and not sent):
        to = f" to {answer.headers['Location'].partition('?')[0]}" if answer.location else ""
        text = f"something else answers {path}: {answer.status}{to} {answer.mimetype or ''}"
        text = f"{text.strip()}. The middleware would answer {expected.status} {expected.mimetype}"
        return failed(f"{text} with a request ID", _OUTERMOST, status=answer.status)
    if settings.echo_request_id and settings.trust_request_id and sent != request_id:
        text = f"{path} is answered with another X-Request-ID than the request's: "
        return failed(f"{text}something else answers, or replaces it", _OUTERMOST)
    if method == "GET" and answer.status_code != 200:
        return warned(f"answers {answer.status}", "See the step version_json")
    return passed(f"answers {answer.status}")


def _check_heartbeat(app: Any, checks: CheckSteps) -> StepResult:
    """Compare the 405 to another method, which runs no check and calls no hook; run the checks."""
    result = _check_endpoint(app, checks.middleware, HEARTBEAT_PATH, "TRACE")
    if result.status != OK:
        return result
    report = checks.report()
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
    if problem := _logger_problem(logger):
        return problem
    logs.clear()
    with suppress(BaseException):  # the steps of the endpoints report it
        ask(app, LBHEARTBEAT_PATH, "TRACE")
    records = [record for record in logs if record.name == "request.summary"]
    if not records:
        text = "a request left no summary: it did not reach the middleware, or a filter dropped it"
        return failed(text, "See the step endpoint_lbheartbeat, and the filters of the logger")
    handlers = [handler for handler in _handlers(logger) if handler.level <= logging.INFO]
    if not handlers:
        text = "no handler gets the summaries: those of request.summary are above INFO"
        return failed(text, "Set the level of the handler to INFO")
    results = [_check_handler(handler, copy.copy(records[0])) for handler in handlers]
    result = min(results, key=lambda one: (OK, WARNING, ERROR).index(one.status))
    disabled = [name for name in LOGGERS if logging.getLogger(name).disabled]
    if result.status == OK and disabled:
        text = f"messages of checks are not logged: {' and '.join(disabled)} is disabled"
        return warned(text, _LEAVE_ENABLED)
    return result


def _logger_problem(logger: logging.Logger) -> StepResult | None:
    if logger.disabled:
        text = "the logger request.summary is disabled, as logging.config does with existing ones"
        return failed(text, _LEAVE_ENABLED)
    if not any(True for _ in _handlers(logger)):
        if not logger.propagate:
            text = "the logger request.summary has no handler, and its propagate is False"
            return failed(text, "Set propagate to True, or add a handler to it")
        return failed("the logger request.summary has no handler", _ADD_HANDLER)
    if logger.manager.disable >= logging.INFO:
        return failed("logging.disable() drops INFO", "Remove the call of logging.disable()")
    level = logger.getEffectiveLevel()
    if level > logging.INFO:
        text = f"the logger request.summary is at {logging.getLevelName(level)}, above INFO"
        return failed(text, 'Call logging.getLogger("request.summary").setLevel(logging.INFO)')
    return None


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that get the records, behind a queue's listener and a target too."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            listener, target = getattr(handler, "listener", None), getattr(handler, "target", None)
            if listener is not None:
                yield from listener.handlers
            else:
                yield target if isinstance(target, logging.Handler) else handler
        current = current.parent if current.propagate else None


def _check_handler(handler: logging.Handler, record: logging.LogRecord) -> StepResult:
    name = type(handler).__name__
    if isinstance(handler, QueueHandler):
        text = "the summaries go into a queue, whose listener cannot be found"
        return warned(text, "Check that its listener writes mozlog to stdout or stderr")
    try:
        if not handler.filter(record):
            return failed(f"a filter of the {name} drops the summaries", "Remove that filter")
        line = handler.format(record)
    except Exception as error:  # user code
        text = f"the formatter of the {name} raised {type(error).__name__}: {format_error(error)}"
        return failed(text, "Use MozlogFormatter, or fix the formatter")
    if problem := mozlog_problem(line):
        text = f"a summary that the {name} writes {problem}"
        remedy = "Use dockerflow_wsgi.logging.MozlogFormatter as the formatter of the handler"
        return failed(text, remedy, line=line)
    if not _writes_to_a_stream(handler):
        remedy = "Add a MozlogHandler(): containers log to stdout or stderr"
        return failed(f"the {name} that gets the summaries writes elsewhere", remedy, line=line)
    return passed(f"mozlog, by a {name}", line=line)


def _writes_to_a_stream(handler: logging.Handler) -> bool:
    path, stream = getattr(handler, "baseFilename", None), getattr(handler, "stream", None)
    if path is not None:
        return str(path).startswith(_STREAM_PATHS)
    try:
        return stream in (sys.stdout, sys.stderr) or stream.fileno() in {1, 2}  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return False


def mozlog_problem(line: str) -> str:
    """Return what keeps a line from being the mozlog of a summary; empty if nothing does.

    The rules are those of Mozilla's wiki, "Firefox/Services/Logging"; each field may be absent.
    """
    try:
        envelope = json.loads(line)
    except ValueError:
        return "is not JSON"
    if "\n" in line:
        return "is JSON of several lines"
    if not isinstance(envelope, dict):
        return "is JSON, but not an object"
    timestamp, fields = envelope.get("Timestamp"), envelope.get("Fields")
    if not isinstance(timestamp, int) or timestamp < _YEAR_2000_NS:
        return "is JSON, but not mozlog: it has no Timestamp in nanoseconds"
    if envelope.get("Type") != "request.summary":
        return "is JSON, but its Type is not request.summary"
    if not isinstance(fields, dict):
        return "is JSON, but not mozlog: it has no Fields"
    for name, value in {**envelope, **fields}.items():
        inner = value.values() if isinstance(value, dict) and name != "Fields" else ()
        if any(isinstance(item, dict) for item in inner):
            return f"is mozlog, but its field {name} nests deeper than one object"
        expected = _MOZLOG_TYPES.get(name)
        if expected and (not isinstance(value, expected) or isinstance(value, bool)):
            return f"is JSON, but {name} is of type {type(value).__name__}, not {expected.__name__}"
    return ""


_MOZLOG_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("Type", "Logger", "Hostname", "EnvVersion"), str),
    **dict.fromkeys(("Severity", "Pid", "errno", "code", "t"), int),
    **dict.fromkeys(("agent", "lang", "method", "path", "rid", "uid"), str),
}
