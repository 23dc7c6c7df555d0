"""The steps for services that run, in any language."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_hex
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Response

from ..checks import CRITICAL, ERROR, STATUSES
from ..endpoints import HEARTBEAT_PATH, JSON, LBHEARTBEAT_PATH, VERSION_PATH
from ..redaction import format_error, redact
from .app_steps import check_version_object
from .diagnosis import MisuseError, StepError, StepResult, failed, passed, run_steps, warned
from .services import Service, connect, resolve, start_tls
from .user_code import OverdueError, call_within

MAX_BYTES = 1 << 20  # of a body; an endpoint's is shorter

_CONNECTION_STEPS = ("dns", "tcp", "tls", "protocol")
_PATHS = (VERSION_PATH, HEARTBEAT_PATH, LBHEARTBEAT_PATH)
_INSTALL = "Correct host, port and path of --url, or wrap the app in DockerflowMiddleware"
_MAX_REQUESTS = 8  # of a step


@dataclass(frozen=True, slots=True)
class Target:
    """A running service."""

    url: str  # without a query
    service: Service  # its address
    prefix: str  # the path of the URL
    timeout_s: float  # for one answer

    def get(self, path: str, method: str = "GET") -> Response:
        """Request a path, without following redirects, as probers do; may raise a `StepError`."""
        try:
            return call_within(partial(self._request, path, method), self.timeout_s)
        except (OverdueError, TimeoutError):
            reason = f"{self.prefix}{path}: no answer within {self.timeout_s:g} s"
            remedy = "Check whether the service is stopped or overloaded, and restart it"
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = f"{type(error).__name__}: {format_error(error)}"
            reason = f"{self.prefix}{path}: no HTTP answer: {cause}"
            remedy = "Correct scheme, host and port of --url, or see the service's log"
        raise StepError("protocol", reason, remedy)

    def _request(self, path: str, method: str) -> Response:
        service = self.service
        kind = http.client.HTTPSConnection if service.has_tls else http.client.HTTPConnection
        headers = {"User-Agent": "dockerflow-wsgi doctor", "Accept": JSON}
        with closing(kind(service.host, service.port, timeout=self.timeout_s)) as connection:
            connection.request(method, self.prefix + path, headers=headers)
            with connection.getresponse() as answer:
                status = f"{answer.status} {answer.reason}".strip()
                return Response(answer.read(MAX_BYTES), status, answer.getheaders())


def parse_url(text: str, timeout_s: float) -> Target:
    """Parse the URL of a service; may raise a `MisuseError`."""
    shown = redact(text.partition("?")[0])
    problem = MisuseError(
        f"--url {shown!r}: expected a URL such as https://host:8000, without a password"
    )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise problem from None  # its own text may show a part of a password
    has_tls, host = parts.scheme == "https", parts.hostname
    is_right = parts.scheme in {"http", "https"} and port != 0 and parts.username is None
    if not is_right or not host or " " in text or not text.isprintable():
        raise problem
    service = Service("the service", host, port or (443 if has_tls else 80), has_tls)
    return Target(shown.partition("#")[0], service, parts.path.rstrip("/"), timeout_s)


def examine(targets: Sequence[Target], skip: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Run the steps of services once, and yield the result of each; of several, with its URL."""
    for target in targets:
        for result in examine_one(target, skip):
            yield {**result.to_dict(), **({"url": target.url} if len(targets) > 1 else {})}


def examine_one(target: Target, skip: Sequence[str]) -> Iterator[StepResult]:
    """Run the steps of a service."""
    steps = {name: partial(step, target) for name, step in _STEPS.items()}
    if not target.service.has_tls:
        del steps["tls"]
    return run_steps(steps, _MAX_REQUESTS * target.timeout_s, skip, _CONNECTION_STEPS)


def _check_dns(target: Target) -> StepResult:
    return passed(resolve(target.service, target.timeout_s))


def _check_tcp(target: Target) -> StepResult:
    connect(target.service, target.timeout_s).close()
    return passed(f"connected to {target.service}")


def _check_tls(target: Target) -> StepResult:
    with start_tls(target.service, target.timeout_s, verify=True) as connection:
        return passed(connection.version() or "connected")


def _check_protocol(target: Target) -> StepResult:
    target.get(LBHEARTBEAT_PATH)
    return passed("it speaks HTTP")


def _check_version(target: Target) -> StepResult:
    answer = target.get(VERSION_PATH)
    if refusal := _refusal(target, VERSION_PATH, answer):
        return refusal
    version = _json(answer)
    if not isinstance(version, dict):
        text = f"{VERSION_PATH} answers 200 with {answer.mimetype}, not with a JSON object"
        return failed(text, _INSTALL)
    return check_version_object(version, VERSION_PATH)


def _check_heartbeat(target: Target) -> StepResult:
    answer = target.get(HEARTBEAT_PATH)
    report = _json(answer)
    status = report.get("status") if isinstance(report, dict) else None
    result = _refusal(target, HEARTBEAT_PATH, answer)
    if not result and status in (STATUSES[ERROR], STATUSES[CRITICAL]):
        text = f"{HEARTBEAT_PATH} answers 200, though its status is {status}: {_shown(answer)}"
        result = warned(text, "Return 500 then: load balancers only look at the HTTP status")
    result = result or passed(f"answers 200 with {answer.mimetype}")
    return replace(result, details={"answer": report, "status": str(status or answer.status_code)})


def _check_lbheartbeat(target: Target) -> StepResult:
    started_s = monotonic()
    answer = target.get(LBHEARTBEAT_PATH)
    latency_ms = (monotonic() - started_s) * 1000
    return _refusal(target, LBHEARTBEAT_PATH, answer) or passed(
        f"answers 200 in {latency_ms:.0f} ms", latency_ms=latency_ms
    )


def _check_unknown_path(target: Target) -> StepResult:
    """Request paths that cannot exist: endpoints with the same answer prove nothing."""
    first, second = (target.get(f"/__dockerflow_doctor_{token_hex(8)}__") for _ in range(2))
    shown = f"a path that cannot exist is answered with {first.status}"
    if not 200 <= first.status_code < 300:
        return passed(shown)
    common = _marks(first) & _marks(second)  # a page may show its path, or the time
    alike = [path for path in _PATHS if common <= _marks(target.get(path))]
    if not alike:
        return passed(f"{shown}, but unlike the endpoints")
    text = f"{shown}, like {', '.join(alike)}: such a 200 proves nothing"
    return failed(text, "Return 404 for unknown paths, or find the layer that answers all paths")


def _marks(answer: Response) -> set[tuple[int, object]]:
    """Return the properties by which answers are compared."""
    cache_control = answer.headers.get("Cache-Control")
    return {*enumerate((answer.status_code, answer.mimetype, cache_control, answer.data))}


def _check_methods(target: Target) -> StepResult:
    """Report how other methods are answered; that is never a failure."""
    shown = []
    for method in ("HEAD", "TRACE"):
        try:
            shown.append(f"{method} is answered {target.get(LBHEARTBEAT_PATH, method).status_code}")
        except StepError as error:
            shown.append(f"{method} is not answered ({error})")
    return passed(f"{', '.join(shown)}; expected are 200 and 405")


_STEPS: dict[str, Callable[[Target], StepResult]] = {
    "dns": _check_dns,
    "tcp": _check_tcp,
    "tls": _check_tls,
    "protocol": _check_protocol,
    "endpoint_version": _check_version,
    "endpoint_heartbeat": _check_heartbeat,
    "endpoint_lbheartbeat": _check_lbheartbeat,
    "unknown_path": _check_unknown_path,
    "methods": _check_methods,
}
SKIPPABLE = (*_STEPS, "agreement")


def _refusal(target: Target, path: str, answer: Response) -> StepResult | None:
    """Return a failure if an endpoint is not answered with 200; redirects are not followed."""
    if answer.status_code == 200:
        return None
    text = f"{target.prefix}{path} answers {answer.status}"
    if answer.location:
        text += f" to {answer.location.partition('?')[0]}"
    if has_reason := isinstance(_json(answer), dict):
        text += f": {_shown(answer)}"
    if has_reason or answer.status_code >= 500:
        return failed(text, "Fix the reported problem, or see the log of the service or its proxy")
    return failed(text, _INSTALL)


def _shown(answer: Response) -> str:
    """Return what a JSON answer reports: an error, the failing checks, or all."""
    body = _json(answer)
    if isinstance(body, dict):
        body = body.get("error") or body.get("details") or body.get("checks") or body
    return body if isinstance(body, str) else json.dumps(body)


def _json(answer: Response) -> Any:
    try:
        return json.loads(answer.data)
    except (ValueError, RecursionError):
        return None
