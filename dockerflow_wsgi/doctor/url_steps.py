"""The steps for services that run, in any language."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_hex
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from werkzeug.wrappers import Response

from ..checks import CRITICAL, ERROR, STATUSES
from ..endpoints import HEARTBEAT_PATH, JSON, LBHEARTBEAT_PATH, VERSION_PATH
from ..redaction import format_error, redact
from .app_steps import check_version_object
from .diagnosis import (
    OK,
    OverdueError,
    Send,
    StepError,
    StepResult,
    call_within,
    failed,
    passed,
    run_step,
    skipped,
    warned,
)
from .services import HTTP_SERVER, TLS_SERVER, Service, connect, identify, start_tls

MAX_BYTES = 1 << 20  # of a body; an endpoint's is shorter

_CONNECTION_STEPS = ("dns", "tcp", "tls", "protocol")
_PATHS = (VERSION_PATH, HEARTBEAT_PATH, LBHEARTBEAT_PATH)
_INSTALL = "Answer it before anything else: wrap the app in DockerflowMiddleware"
_SEE_LOG = "See the service's log for this request, or that of the proxy in front of it"
_OVERLOADED = "Check whether the service is stopped or overloaded, and restart it"
_REFUSALS = {
    204: "Return 200: AWS's load balancers take 204 for a failure",
    401: "Answer it without a login",
    403: "Answer it without a login",
    404: f"{_INSTALL}; or correct host, port and path of --url",
}
_MAX_REQUESTS = 8  # of a step


@dataclass(frozen=True, slots=True)
class Target:
    """A running service."""

    parts: SplitResult  # of its URL
    timeout_s: float  # for one answer

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return redact(self.parts.geturl())

    @property
    def service(self) -> Service:
        """Its address."""
        has_tls = self.parts.scheme == "https"
        port = self.parts.port or (443 if has_tls else 80)
        return Service("an HTTP server", (self.parts.hostname or "", port), has_tls=has_tls)

    def shown_path(self, path: str) -> str:
        """The path; the whole URL if it is below another path."""
        return f"{self.shown.rstrip('/')}{path}" if self.parts.path.strip("/") else path

    def get(self, path: str, method: str = "GET") -> Response:
        """Request a path, without following redirects: probers do not either."""
        shown = self.shown_path(path)
        try:
            return call_within(partial(self._request, path, method), self.timeout_s)
        except (OverdueError, TimeoutError):
            reason = f"{shown}: no answer within {self.timeout_s:g} s"
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{shown}: no HTTP answer: {type(error).__name__}: {format_error(error)}"
        raise StepError("protocol", reason, _OVERLOADED)

    def _request(self, path: str, method: str) -> Response:
        host, port = self.parts.hostname or "", self.parts.port
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout_s)
        if self.service.has_tls:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                host, port, timeout=self.timeout_s, context=context
            )
        headers = {"User-Agent": "dockerflow-wsgi doctor", "Accept": JSON}
        if self.parts.username:
            pair = f"{unquote(self.parts.username)}:{unquote(self.parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        with closing(connection):
            connection.request(method, self.parts.path.rstrip("/") + path, headers=headers)
            with connection.getresponse() as answer:
                status = f"{answer.status} {answer.reason}".strip()
                return Response(answer.read(MAX_BYTES), status, answer.getheaders())


def parse_url(text: str, timeout_s: float) -> Target:
    """Parse the URL of a service; raises ``ValueError``."""
    shown = redact(text.partition("?")[0])
    problem = ValueError(f"{shown!r} is malformed: expected a URL such as https://host:8000")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise problem from None  # its own text may show a part of a password
    if "://" not in text:
        raise ValueError(f"{shown!r} has no scheme: did you mean 'http://{shown}'?")
    is_http = parts.scheme in {"http", "https"}
    if not is_http or not parts.hostname or port == 0 or " " in text or not text.isprintable():
        raise problem
    return Target(parts._replace(query="", fragment=""), timeout_s)


def examine(
    urls: Sequence[str], timeout_s: float, skip: Sequence[str], send: Send
) -> Callable[[], None]:
    """Return a function that runs the steps of services once."""

    def run_once() -> None:
        for url in urls:
            target = parse_url(url, timeout_s)
            send({"start": "protocol", "bound_s": 30 * timeout_s})  # of all steps
            for result in examine_one(target, skip):
                send({**result.to_dict(), **({"url": target.shown} if len(urls) > 1 else {})})

    return run_once


def examine_one(target: Target, skip: Sequence[str]) -> Iterator[StepResult]:
    """Run the steps of a service; those after a connection that fails are skipped."""
    connection = _check_connection(target)
    for name in _CONNECTION_STEPS:
        if name != "tls" or target.service.has_tls:
            result = connection.get(name) or skipped("the step before failed")
            yield replace(skipped() if name in skip else result, name=name)
    is_connected = all(result.status == OK for result in connection.values())
    for name, step in _STEPS.items():
        run = partial(step, target) if is_connected else partial(skipped, "no connection")
        yield run_step(name, run, _MAX_REQUESTS * target.timeout_s, skip)


def _check_connection(target: Target) -> dict[str, StepResult]:
    service = target.service
    found: dict[str, StepResult] = {}
    try:
        with connect(service, target.timeout_s) as connection:
            if service.has_tls:
                start_tls(service, connection, verify=True).close()
        _require_http(target, service)
        service.steps.append(("protocol", "it speaks HTTP"))
    except StepError as error:
        found[error.step.lower()] = failed(f"{service}: {error.reason}", error.remedy)
    return {**{name: passed(text) for name, text in service.steps}, **found}


def _require_http(target: Target, service: Service) -> None:
    try:
        target.get(LBHEARTBEAT_PATH)
    except StepError:
        other = identify(service)
        if other in {"", HTTP_SERVER} or service.has_tls:
            raise
        remedy = "Correct host and port: they must be those of the service"
        remedy = "Write https:// instead of http://" if other == TLS_SERVER else remedy
        reason = f"{other} answers, not an HTTP server"
        raise StepError("protocol", reason, remedy) from None


def _check_version(target: Target) -> StepResult:
    answer = target.get(VERSION_PATH)
    _require_200(target, VERSION_PATH, answer)
    path, version = target.shown_path(VERSION_PATH), _json(answer)
    if not isinstance(version, dict):
        shown = answer.mimetype or "no content type"
        return failed(f"{path} answers 200 with {shown}, not with a JSON object", _INSTALL)
    return replace(check_version_object(version, path), details={"version": version})


def _check_heartbeat(target: Target) -> StepResult:
    answer = target.get(HEARTBEAT_PATH)
    report = _json(answer)
    status = report.get("status") if isinstance(report, dict) else None
    result = _heartbeat_result(target, answer, report, str(status))
    return replace(result, details={"answer": report, "status": str(status or answer.status_code)})


def _heartbeat_result(target: Target, answer: Response, report: Any, status: str) -> StepResult:
    text = f"{target.shown_path(HEARTBEAT_PATH)} answers {answer.status}"
    if answer.status_code >= 500 and isinstance(report, dict) and "checks" in report:
        remedy = "Fix what the checks report; doctor MODULE:APP on its host reports more"
        return failed(f"{text}: {_failing(report)}", remedy)
    _require_200(target, HEARTBEAT_PATH, answer)
    if answer.mimetype == JSON and not isinstance(report, dict):
        return failed(f"{text} with {JSON} that is not a JSON object", _INSTALL)
    if status in {STATUSES[ERROR], STATUSES[CRITICAL]}:
        text = f"{text}, though its status is {status}: {_failing(report)}"
        return warned(text, "Return 500 then: load balancers only look at the HTTP status")
    return passed(f"answers 200 with {answer.mimetype}, status {status}")


def _check_lbheartbeat(target: Target) -> StepResult:
    started_s = monotonic()
    answer = target.get(LBHEARTBEAT_PATH)
    latency_ms = (monotonic() - started_s) * 1000
    _require_200(target, LBHEARTBEAT_PATH, answer)
    return passed(f"answers 200 in {latency_ms:.0f} ms", latency_ms=latency_ms)


def _check_unknown_path(target: Target) -> StepResult:
    """Request paths that cannot exist: an answer that all paths have proves nothing."""
    unknown = [target.get(f"/__dockerflow_doctor_{token_hex(8)}__") for _ in range(2)]
    shown = f"a path that cannot exist is answered with {unknown[0].status}"
    if not 200 <= unknown[0].status_code < 300:
        return passed(shown)
    alike = [path for path in _PATHS if _is_alike(target.get(path), unknown)]
    if not alike:
        return passed(f"{shown}, but unlike the endpoints")
    text = f"{shown}, like {', '.join(alike)}: their 200s prove nothing"
    return failed(text, "Return 404 there: find what answers all paths")


def _is_alike(answer: Response, unknown: Sequence[Response]) -> bool:
    """Return whether an answer has all that two unknown paths have in common."""

    def marks(one: Response) -> tuple[object, ...]:
        return one.status_code, one.mimetype, one.headers.get("Cache-Control"), one.data

    common = zip(marks(answer), *map(marks, unknown), strict=True)
    return all(mark == first for mark, first, second in common if first == second)


def _check_methods(target: Target) -> StepResult:
    """Report how other methods are answered; that is never a failure."""
    shown = []
    for method in ("HEAD", "TRACE"):
        try:
            shown.append(f"{method} is answered {target.get(LBHEARTBEAT_PATH, method).status_code}")
        except StepError as error:
            shown.append(f"{method} is not answered ({error})")
    return passed(f"{', '.join(shown)}; best are 200 and 405")


_STEPS: dict[str, Callable[[Target], StepResult]] = {
    "endpoint_version": _check_version,
    "endpoint_heartbeat": _check_heartbeat,
    "endpoint_lbheartbeat": _check_lbheartbeat,
    "unknown_path": _check_unknown_path,
    "methods": _check_methods,
}
SKIPPABLE = (*_CONNECTION_STEPS, *_STEPS, "agreement")


def _require_200(target: Target, path: str, answer: Response) -> None:
    code, body = answer.status_code, _json(answer)
    if code == 200:
        return
    text = f"{target.shown_path(path)} answers {answer.status}"
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        text += f": {body['error']}"
    remedy = _REFUSALS.get(code, _INSTALL if code < 500 else _SEE_LOG)
    if 300 <= code < 400:
        text += f" to {answer.headers.get('Location', '?').partition('?')[0]}"
        remedy = "Answer it without a redirect: probers follow none, and have no login"
    raise StepError(path, text, remedy)


def _failing(report: dict[str, Any]) -> str:
    """Name the checks that are not ok, with their messages."""
    checks, details = report.get("checks"), report.get("details")
    if not isinstance(checks, dict):
        return str(report.get("status"))
    texts = []
    for name, status in checks.items():
        try:
            messages = "; ".join(map(str, details[name]["messages"].values()))  # type: ignore[index]
        except (AttributeError, KeyError, TypeError):  # another package's report
            messages = str(status)
        texts += [f"{name}: {messages}"] if status != "ok" else []
    return ", ".join(texts) or str(report.get("status"))


def _json(answer: Response) -> Any:
    try:
        return json.loads(answer.data)
    except (ValueError, RecursionError):
        return None
