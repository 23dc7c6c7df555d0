"""The steps for services that run, in any language."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_hex
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from werkzeug.wrappers import Response

from ..checks import CRITICAL, ERROR, STATUSES
from ..endpoints import HEARTBEAT_PATH, HTML, JSON, LBHEARTBEAT_PATH, VERSION_PATH
from ..redaction import format_error, redact
from .app_steps import check_version_object
from .diagnosis import (
    OK,
    OverdueError,
    Send,
    StepResult,
    call_within,
    failed,
    passed,
    run_step,
    skipped,
    warned,
)
from .services import TLS_SERVER, Service, ServiceError, connect, identify, start_tls

MAX_BYTES = 1 << 20  # of a body; an endpoint's is shorter
PROBER_TIMEOUT_MS = 5000  # of AWS's and Google's load balancers

_CONNECTION_STEPS = ("dns", "tcp", "tls", "protocol")
_PATHS = (VERSION_PATH, HEARTBEAT_PATH, LBHEARTBEAT_PATH)
_INSTALL = "Answer it before anything else: wrap the app in DockerflowMiddleware"
_SEE_LOG = "See the service's log for this request"
_ELSEWHERE = "or correct host, port and path of --url"
_OVERLOADED = "Check whether the service is stopped or overloaded, and restart it"
_MAX_REQUESTS = 8  # of a step


class NoAnswerError(Exception):
    """A service did not answer; the text has the reason."""


class NotHTTPError(NoAnswerError):
    """A service answered something that is not HTTP."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running service.

    Attributes:
        parts: Its URL.
        timeout_s: Seconds that it may take to answer.
    """

    parts: SplitResult
    timeout_s: float

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
            return call_within(partial(self._exchange, path, method), self.timeout_s)
        except (OverdueError, TimeoutError):
            raise NoAnswerError(f"{shown}: no answer within {self.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{type(error).__name__}: {format_error(error)}"
            raise NotHTTPError(f"{shown}: no HTTP answer: {reason}") from None

    def _exchange(self, path: str, method: str) -> Response:
        host, port = self.service.address or ("", 0)
        if self.service.has_tls:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                host, port, timeout=self.timeout_s, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.timeout_s)  # type: ignore[assignment]
        headers = {"User-Agent": "dockerflow-wsgi doctor", "Accept": JSON}
        if self.parts.username:
            pair = f"{unquote(self.parts.username)}:{unquote(self.parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        body, give_up_s = b"", monotonic() + self.timeout_s
        try:
            connection.request(method, self.parts.path.rstrip("/") + path, headers=headers)
            with connection.getresponse() as answer:
                while len(body) < MAX_BYTES and (chunk := answer.read1(MAX_BYTES - len(body))):
                    body += chunk
                    if monotonic() > give_up_s:
                        raise TimeoutError
                status = f"{answer.status} {answer.reason}".strip()
                return Response(body, status, answer.getheaders())
        finally:
            connection.close()


def parse_url(text: str, timeout_s: float) -> Target:
    """Parse the URL of a service."""
    shown = redact(text.partition("?")[0])
    problem = ValueError(f"{shown!r} is malformed: expected a URL such as https://host:8000")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise problem from None  # its own text may show a part of a password
    is_http = parts.scheme in {"http", "https"}
    if not is_http and "://" not in text:
        raise ValueError(f"{shown!r} has no scheme: did you mean 'http://{shown}'?")
    if not is_http or not parts.hostname or port == 0 or " " in text or not text.isprintable():
        raise problem
    return Target(parts._replace(query="", fragment=""), timeout_s)


def examine(
    urls: Sequence[str], timeout_s: float, skip: Sequence[str], send: Send
) -> Callable[[], None]:
    """Return a function that runs the steps of services once, at the same time."""

    def run_once() -> None:
        bound_s = 30 * timeout_s  # each request is limited by itself
        send({"start": "protocol", "bound_s": bound_s})
        targets = [parse_url(url, timeout_s) for url in urls]
        threads = [
            threading.Thread(target=examine_one, args=(target, skip, send), daemon=True)
            for target in targets
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run_once


def examine_one(target: Target, skip: Sequence[str], send: Send) -> None:
    """Run the steps of a service; those after a connection that fails are skipped."""

    def report(result: StepResult) -> None:
        send({**result.to_dict(), "url": target.shown})

    connection = _check_connection(target)
    for name in _CONNECTION_STEPS:
        if name != "tls" or target.service.has_tls:
            result = connection.get(name) or skipped("the step before failed")
            report(replace(skipped() if name in skip else result, name=name))
    is_connected = all(result.status == OK for result in connection.values())
    for name, step in _STEPS.items():
        run = (
            partial(_answered, step, target) if is_connected else partial(skipped, "no connection")
        )
        report(run_step(name, run, _MAX_REQUESTS * target.timeout_s, skip))


def _check_connection(target: Target) -> dict[str, StepResult]:
    service = target.service
    found: dict[str, StepResult] = {}
    try:
        with connect(service, target.timeout_s) as connection:
            if service.has_tls:
                start_tls(service, connection, verify=True).close()
        target.get(LBHEARTBEAT_PATH)
        service.steps.append(("protocol", "it speaks HTTP"))
    except ServiceError as error:
        found[error.step] = failed(f"{service}: {error.reason}", error.remedy)
    except NotHTTPError as error:
        other, remedy = (
            identify(service),
            "Correct host and port: they must be those of the service",
        )
        text = f"{other} answers, not an HTTP server" if other else str(error)
        if other == TLS_SERVER and not service.has_tls:
            remedy = "Write https:// instead of http://"
        found["protocol"] = failed(f"{service}: {text}", remedy)
    except NoAnswerError as error:
        found["protocol"] = failed(f"{service}: {error}", _OVERLOADED)
    return {**{name: passed(text) for name, text in service.steps}, **found}


def _answered(step: Callable[[Target], StepResult], target: Target) -> StepResult:
    try:
        return step(target)
    except NoAnswerError as error:
        return failed(str(error), _OVERLOADED)


def _check_version(target: Target) -> StepResult:
    answer = target.get(VERSION_PATH)
    if problem := _refusal(target, VERSION_PATH, answer):
        return problem
    path, version = target.shown_path(VERSION_PATH), _json(answer)
    if not isinstance(version, dict):
        shown = answer.mimetype or "no content type"
        return failed(f"{path} answers 200 with {shown}, not with a JSON object", _INSTALL)
    return replace(check_version_object(version, path), details={"version": version})


def _check_heartbeat(target: Target) -> StepResult:
    started_s = monotonic()
    answer = target.get(HEARTBEAT_PATH)
    taken_ms = (monotonic() - started_s) * 1000
    report = _json(answer)
    result = _heartbeat_result(target, answer, report)
    if result.status == OK and taken_ms >= PROBER_TIMEOUT_MS:
        text = f"{result.message}, but after {taken_ms / 1000:.1f} s: probers may give up before"
        result = warned(text, "Make its checks faster", **result.details)
    status = report.get("status") if isinstance(report, dict) else None
    more = {"status": str(status or answer.status_code), "heartbeat_ms": taken_ms}
    return replace(result, details={**result.details, **more})


def _heartbeat_result(target: Target, answer: Response, report: Any) -> StepResult:
    path = target.shown_path(HEARTBEAT_PATH)
    if answer.status_code >= 500 and isinstance(report, dict) and "checks" in report:
        text = f"{path} answers {answer.status}: {_failing(report)}"
        remedy = "Fix what the checks report; doctor MODULE:APP on its host reports more"
        return failed(text, remedy, answer=report)
    if problem := _refusal(target, HEARTBEAT_PATH, answer):
        return problem
    shown = f"{path} answers 200 with {answer.mimetype or 'no content type'}"
    if answer.mimetype == HTML:
        return warned(f"{shown}: a page for people", "Report the checks as JSON")
    if answer.mimetype != JSON and report is None:
        return passed(shown)
    if not isinstance(report, dict):
        return failed(f"{shown} that is not a JSON object", _INSTALL)
    if not {"status", "checks"} <= report.keys():
        text = f"{path} answers 200, but its JSON has no status and checks"
        return warned(text, "Report the status, and that of each check", answer=report)
    if str(report["status"]) in {STATUSES[ERROR], STATUSES[CRITICAL]}:
        text = f"{path} answers 200, though its status is {report['status']}: {_failing(report)}"
        remedy = "Return 500 then: load balancers only look at the HTTP status"
        return warned(text, remedy, answer=report)
    return passed(f"answers 200 with the status {report['status']}", answer=report)


def _check_lbheartbeat(target: Target) -> StepResult:
    started_s = monotonic()
    answer = target.get(LBHEARTBEAT_PATH)
    latency_ms = (monotonic() - started_s) * 1000
    path = target.shown_path(LBHEARTBEAT_PATH)
    if answer.status_code == 204:
        text = f"{path} answers 204, which AWS's load balancers take for a failure"
        result = failed(text, "Return 200")
    else:
        ok = passed(f"answers 200 in {latency_ms:.0f} ms")
        result = _refusal(target, LBHEARTBEAT_PATH, answer) or ok
    return replace(result, details={"latency_ms": latency_ms})


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
        except NoAnswerError as error:
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


def _refusal(target: Target, path: str, answer: Response) -> StepResult | None:
    """Return the failure of an answer that is not 200."""
    code, body = answer.status_code, _json(answer)
    if code == 200:
        return None
    text = f"{target.shown_path(path)} answers {answer.status}"
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        text += f": {body['error']}"
    if 300 <= code < 400:
        location = answer.headers.get("Location", "?").partition("?")[0]
        remedy = "Answer it without a redirect: probers follow none, and have no login"
        return failed(f"{text} to {location}", remedy)
    if code in {401, 403}:
        return failed(text, "Answer it without a login")
    if code == 404:
        own_path = target.parts.path.rstrip("/")
        remedy = f"{_INSTALL}, {_ELSEWHERE}"
        if own_path.endswith(_PATHS):
            remedy = f"Remove {own_path} from --url: the endpoints are below it"
        elif path == VERSION_PATH and isinstance(body, dict):
            remedy = f"Write version.json when the container is built, {_ELSEWHERE}"
        return failed(text, remedy)
    is_proxy = code in {502, 503, 504} and not isinstance(body, dict)
    instance = f"{_SEE_LOG}; or, if a proxy has no instance, use --url with the instance"
    return failed(text, _INSTALL if code < 500 else instance if is_proxy else _SEE_LOG)


def _failing(report: dict[str, Any]) -> str:
    """Name the checks that are not ok, with the first message of each."""
    details, checks = report.get("details"), report.get("checks")
    if not isinstance(checks, dict):
        return str(report.get("status"))
    texts = []
    for name, status in checks.items():
        detail = details.get(name, {}) if isinstance(details, dict) else {}
        messages = detail.get("messages", {}) if isinstance(detail, dict) else {}
        first = next(iter(messages.values()), "") if isinstance(messages, dict) else ""
        if status != "ok":
            texts.append(f"{name}: {first or status}")
    return "; ".join(texts) or str(report.get("status"))


def _json(answer: Response) -> Any:
    try:
        return json.loads(answer.data)
    except (ValueError, RecursionError):
        return None
