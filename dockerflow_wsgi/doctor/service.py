"""Looks at running services, written in any language."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .connecting import connected, find_stranger
from .finding import Finding, Probe, failed, passed, probe, skipped, warned
from .http import NoAnswerError, NoHTTPError, Service
from .ladder import Ladder, RungError
from .paths import (
    check_heartbeat,
    check_lbheartbeat,
    check_methods,
    check_unknown_path,
    check_version,
    probe_http,
)
from .patience import Task
from .tls import wrap_tls

AGREEMENT, TLS = "agreement", "tls"
_RUNGS = ("dns", "tcp", TLS, "protocol")
_STEPS: dict[str, Callable[[Service], Finding]] = {
    "endpoint_version": check_version,
    "endpoint_heartbeat": check_heartbeat,
    "endpoint_lbheartbeat": check_lbheartbeat,
    "unknown_path": check_unknown_path,
    "methods": check_methods,
}
SKIPPABLE = (*_RUNGS, *_STEPS, AGREEMENT)

_MAX_REQUESTS = 8  # of a step; each is bounded by itself


@dataclass(frozen=True, slots=True)
class Instance:
    """A service and what was found of it.

    Attributes:
        service: The service.
        probes: One for each step.
    """

    service: Service
    probes: tuple[Probe, ...]

    def told(self, name: str) -> Any:
        """Return what a step found: its ``version``, ``status`` or ``latency_ms``."""
        details = (one.finding.details for one in self.probes)
        return next((one[name] for one in details if name in one), None)

    @property
    def kind(self) -> tuple[str, str] | None:
        """Its version and commit; ``None`` if it tells none."""
        version = self.told("version")
        return (str(version.get("version")), str(version.get("commit"))) if version else None


def examine_service(service: Service, skip: Collection[str]) -> Iterator[Probe]:
    """Take all steps; those beyond a connection that fails are skipped.

    Args:
        service: The service.
        skip: Names of steps that are not wanted.

    Yields:
        A probe for each step.
    """
    connection = _connection_probes(service, skip)
    yield from connection
    is_reached = all(one.ok for one in connection)
    for name, step in _STEPS.items():
        taken = partial(step, service) if is_reached else _unreached
        yield probe(name, partial(_answered, taken), _MAX_REQUESTS * service.timeout_s, skip)


def examine_services(services: Sequence[Service], skip: Collection[str]) -> list[Instance]:
    """Look at services, all at once.

    Args:
        services: The services.
        skip: Names of steps that are not wanted.

    Returns:
        The instances, in the same order.
    """

    def look_at(service: Service) -> Instance:
        return Instance(service, tuple(examine_service(service, skip)))

    tasks = [Task(partial(look_at, service)) for service in services]
    return [task.result(None) for task in tasks]


def differing(instances: Sequence[Instance]) -> list[Instance]:
    """Find the instances of another version than most; those that tell none do not count."""
    count = Counter(one.kind for one in instances if one.kind is not None)
    if len(count) < 2:
        return []
    (most, votes), (_, next_votes) = count.most_common(2)
    # Where no version has a majority, each may be the wrong one.
    return [one for one in instances if one.kind and (one.kind != most or votes == next_votes)]


def agreement(instances: Sequence[Instance], skip: Collection[str]) -> Probe:
    """Tell whether the instances are of one version."""
    if AGREEMENT in skip:
        return Probe(AGREEMENT, skipped("as asked by --skip"))
    odd = [instance.service.shown for instance in differing(instances)]
    if odd:
        text = f"the instances are of different versions: see {', '.join(odd)}"
        return Probe(AGREEMENT, warned(text, "Finish the deployment, or redeploy these", odd=odd))
    return Probe(AGREEMENT, passed("all instances that tell a version tell the same one"))


def _connection_probes(service: Service, skip: Collection[str]) -> list[Probe]:
    ladder = Ladder("the service", service.address, service.timeout_s)
    ladder.climb(partial(_connect, service))
    found = {rung: passed(text) for rung, text in ladder.rungs}
    if ladder.fall is not None:
        text = f"{service.address}: {ladder.fall.reason}"
        found[ladder.fall.rung] = failed(text, ladder.fall.remedy)
    rungs = [rung for rung in _RUNGS if rung != TLS or service.is_encrypted]
    for rung in set(rungs) & set(skip):
        found[rung] = skipped("as asked by --skip")
    return [Probe(rung, found.get(rung, skipped("the step before failed"))) for rung in rungs]


def _connect(service: Service, ladder: Ladder) -> None:
    with connected(ladder) as connection:
        if service.is_encrypted:
            context = ssl.create_default_context()
            wrap_tls(ladder, connection, context, service.address.host).close()
    try:
        ladder.reached("protocol", probe_http(service))
    except NoHTTPError as error:
        stranger = find_stranger(ladder)
        is_other = stranger not in {"", "an HTTP server"}
        told = f"{stranger} answers, not an HTTP server" if is_other else str(error)
        raise RungError("protocol", told, _remedy(service, stranger)) from None
    except NoAnswerError as error:
        remedy = "See whether the service is stopped or overloaded, and restart it"
        raise RungError("protocol", str(error), remedy) from None


def _remedy(service: Service, stranger: str) -> str:
    if stranger == "a TLS server" and not service.is_encrypted:
        return "Write https:// in place of http://"
    return "Correct host and port: they must be the service's"


def _answered(step: Callable[[], Finding]) -> Finding:
    try:
        return step()
    except NoAnswerError as error:
        return failed(str(error), "See whether the service is stopped or overloaded")


def _unreached() -> Finding:
    return skipped("there is no connection")
