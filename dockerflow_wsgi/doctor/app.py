"""Looks at an app, step by step."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..checks.messages import level_to_text
from ..checks.run import THREAD_PREFIX
from ..redaction import safe_str
from ..unwrapping import name_of
from .checks import PREFIX, run_checks
from .container import check_port, check_user, check_version
from .endpoints import (
    check_heartbeat_endpoint,
    check_lbheartbeat_endpoint,
    check_version_endpoint,
)
from .exits import REMEDY as NO_EXIT
from .finding import Finding, Probe, failed, passed, probe, skipped, warned
from .loading import IMPORT, SETTINGS, Loaded
from .quiet import quiet_hooks, quiet_logs
from .subject import Subject
from .summary import check_summary

if TYPE_CHECKING:
    from typing import TypeAlias

    from ..middleware import DockerflowMiddleware
    from ..settings import Settings

    Steps: TypeAlias = dict[str, Callable[[], Finding]]

MIDDLEWARE, VERSION, SUMMARY, CHECKS = "middleware", "version_json", "summary", "checks"

_CONTAINER: Steps = {"port": check_port, "user": check_user}
_ENDPOINTS: dict[str, Callable[[Subject], Finding]] = {
    "endpoint_version": check_version_endpoint,
    "endpoint_heartbeat": check_heartbeat_endpoint,
    "endpoint_lbheartbeat": check_lbheartbeat_endpoint,
    SUMMARY: check_summary,
}
UNSKIPPABLE = (IMPORT, MIDDLEWARE)
SKIPPABLE = (SETTINGS, VERSION, *_CONTAINER, *_ENDPOINTS, CHECKS)


def examine_app(loaded: Loaded, timeout_s: float, skip: Collection[str] = ()) -> Iterator[Probe]:
    """Take all steps, the import excepted, which was taken.

    Args:
        loaded: What came of the import.
        timeout_s: How long a step may take, in seconds.
        skip: Names of steps that are not wanted.

    Yields:
        A probe for each step, the import's in front.
    """
    yield from loaded.probes
    yield probe(MIDDLEWARE, partial(_check_middleware, loaded), timeout_s)
    subject = _subject(loaded, timeout_s)
    steps = _steps(subject, loaded.is_registry)
    if CHECKS in skip:
        steps[CHECKS] = partial(skipped, "as asked by --skip")
    with quiet_logs(), quiet_hooks(loaded.middlewares):
        for name, step in steps.items():
            if all(name != taken.name for taken in loaded.probes):
                bound_s = subject.request_timeout_s if subject and name in _ENDPOINTS else timeout_s
                yield probe(name, step, bound_s, skip)
        if subject and CHECKS not in steps:
            yield from run_checks(subject, frozenset(skip))


def exit_probe(stack: list[str]) -> Probe:
    """Make the last probe, of what ends the process.

    Args:
        stack: Where it does, on this thread.

    Returns:
        The check's, if this is a check's thread.
    """
    thread = threading.current_thread().name
    name = PREFIX + thread[len(THREAD_PREFIX) :] if thread.startswith(THREAD_PREFIX) else CHECKS
    where = f"; it was at {stack[-1]}" if stack else ""
    return Probe(name, failed(f"the app calls os._exit(){where}", NO_EXIT, stack=stack))


def unknown_names(loaded: Loaded, skip: Collection[str]) -> list[str]:
    """Return the names that no step has; a check's may be any, as long as there is no app."""
    names = checks_of(loaded)
    known = {*UNSKIPPABLE, *SKIPPABLE, *names, *(PREFIX + name for name in names)}
    unknown = sorted(set(skip) - known)
    return unknown if loaded.middlewares else []


def checks_of(loaded: Loaded) -> tuple[str, ...]:
    """Return the names of an app's checks."""
    return loaded.middlewares[0].registry.names if loaded.middlewares else ()


def settings_of(loaded: Loaded) -> dict[str, Any] | None:
    """Return an app's settings, as they are shown."""
    return _shown(loaded.middlewares[0].settings) if loaded.middlewares else None


def _subject(loaded: Loaded, timeout_s: float) -> Subject | None:
    if not loaded.middlewares:
        return None
    return Subject(loaded.app, loaded.middlewares[0], timeout_s)


def _steps(subject: Subject | None, is_registry: bool) -> Steps:
    """Give each step something to do; `CHECKS` is among them if no check is to be run."""
    if subject is None:
        nothing = partial(skipped, "there is no middleware to look at")
        return {name: _CONTAINER.get(name, nothing) for name in SKIPPABLE}
    middleware = subject.middleware
    steps = _own_steps(middleware)
    if middleware.settings.disabled:
        off = partial(skipped, "Dockerflow is switched off: see the step settings")
        return steps | dict.fromkeys((*_ENDPOINTS, CHECKS), off)
    steps |= {name: partial(step, subject) for name, step in _ENDPOINTS.items()}
    if is_registry:
        steps[SUMMARY] = partial(skipped, "serve logs as mozlog, unless the module sets logging up")
    if not len(middleware.registry):
        steps[CHECKS] = partial(passed, "no check is registered")
    return steps


def _own_steps(middleware: DockerflowMiddleware) -> Steps:
    return {
        SETTINGS: partial(_check_settings, middleware.settings),
        VERSION: partial(check_version, middleware.version_endpoint),
        **_CONTAINER,
    }


def _check_middleware(loaded: Loaded) -> Finding:
    if loaded.app is None:
        return skipped("there is no app to look at")
    count = len(loaded.middlewares)
    if not count:
        text = f"there is no DockerflowMiddleware around {name_of(loaded.app)}, nor within it"
        name = "app.wsgi_app" if hasattr(type(loaded.app), "wsgi_app") else "application"
        return failed(text, f"Wrap the app: {name} = DockerflowMiddleware({name})")
    if loaded.is_registry:
        return passed("serve makes one of the registry", found=count)
    text = f"DockerflowMiddleware around {name_of(loaded.middlewares[0].app)}"
    if count > 1:
        text = f"{count} were found; used is the outermost, that requests reach first: {text}"
        remedy = "Wrap the app once, unless the others are mounted apps' own"
        return warned(text, remedy, found=count)
    return passed(text, found=count)


def _check_settings(settings: Settings) -> Finding:
    shown, defaults = _shown(settings), _shown(type(settings)())
    if settings.disabled:
        text = "Dockerflow is switched off: every request goes straight to the app"
        return failed(text, "Unset DOCKERFLOW_DISABLED, and disabled", settings=shown)
    changed = [f"{name}={value}" for name, value in shown.items() if value != defaults[name]]
    return passed(" ".join(changed) or "all at their defaults", settings=shown)


def _shown(settings: Settings) -> dict[str, Any]:
    fields = dataclasses.fields(settings)
    return {field.name: _value(field.name, getattr(settings, field.name)) for field in fields}


def _value(name: str, value: Any) -> Any:
    if name == "heartbeat_failed_level":
        return level_to_text(value)
    if isinstance(value, tuple):
        return (" or " if name == "version_path" else ",").join(map(safe_str, value))
    return name_of(value) if callable(value) else value
