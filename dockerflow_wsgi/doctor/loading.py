"""Imports the app, as a server does, and sees that it is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..checks.registry import CheckRegistry
from ..errors import ConfigurationError, TargetError
from ..server import get_middleware
from ..target import Target, load_target, require_wsgi
from ..unwrapping import find_middlewares, name_of
from .exits import REMEDY as NO_EXIT
from .exits import told_exit
from .finding import Finding, Probe, failed, passed
from .patience import watched
from .remedies import remedy_of

if TYPE_CHECKING:
    from ..middleware import DockerflowMiddleware

IMPORT, SETTINGS = "import", "settings"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of the import.

    Attributes:
        app: The app; ``None`` if there is none. A registry becomes the app that ``serve`` makes.
        middlewares: Those in it, the one that requests reach first in front.
        probes: The import's, and that of the settings if they are wrong.
        is_registry: Whether it is a `CheckRegistry`.
    """

    app: Any
    middlewares: tuple[DockerflowMiddleware, ...]
    probes: tuple[Probe, ...]
    is_registry: bool = False


def load(name: str, target: Target, timeout_s: float, give_up: Callable[[Probe], object]) -> Loaded:
    """Import an app, on this thread as a server does.

    Args:
        name: ``MODULE:APP`` as the operator wrote it.
        target: The same, parsed.
        timeout_s: How long it may take, in seconds.
        give_up: Called with the probe if the import hangs, on another thread, or is about to
            end the process; it ends it.

    Returns:
        What came of it.
    """
    started_s = monotonic()

    def stop(reason: str, remedy: str, stack: list[str]) -> None:
        where = f"; it was at {stack[-1]}" if stack else ""
        finding = failed(f"{reason}{where}", remedy, stack=stack)
        give_up(Probe(IMPORT, finding, monotonic() - started_s))

    overdue = partial(stop, f"not imported after {timeout_s:g} s", _LATER)
    exits = partial(stop, "the app calls os._exit() while it is imported", NO_EXIT)
    try:
        with watched(timeout_s, overdue), told_exit(exits):
            found = load_target(target)
            app = found if not isinstance(found, CheckRegistry) else _served(found)
            require_wsgi(app, target)
    except TargetError as error:
        probes = [Probe(IMPORT, _broken(error), monotonic() - started_s)]
        if error.problems:
            wrong = failed("; ".join(error.problems), error.remedy, problems=error.problems)
            probes.append(Probe(SETTINGS, wrong))
        return Loaded(None, (), tuple(probes))
    one = Probe(IMPORT, passed(f"{name} is {name_of(found)}"), monotonic() - started_s)
    return Loaded(app, tuple(find_middlewares(app)), (one,), app is not found)


_LATER = "Let it do this when it serves, or wait longer with --timeout S"


def _served(registry: CheckRegistry) -> Any:
    try:
        return get_middleware(registry)
    except ConfigurationError as error:
        reason, remedy = "the configuration is wrong", "Fix each of its problems"
        raise TargetError(reason, remedy, problems=error.problems) from error


def _broken(error: TargetError) -> Finding:
    remedy = "See the step settings" if error.problems else remedy_of(error.__cause__)
    source = error.stack[-1] if error.stack and remedy else ""
    reason = error.reason if error.problems or not source else f"{error.reason} (at {source})"
    return failed(reason, remedy or error.remedy, stack=error.stack)
