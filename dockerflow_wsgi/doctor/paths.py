"""What a running service answers to the paths."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from ..checks.messages import CRITICAL, ERROR, STATUSES
from ..endpoints import HEARTBEAT_PATH, HTML, JSON, LBHEARTBEAT_PATH, VERSION_PATH
from .container import check_version_object
from .finding import OK, Finding, failed, passed, warned
from .http import NoAnswerError, Service

if TYPE_CHECKING:
    from .asking import Answer

_PATHS = (VERSION_PATH, HEARTBEAT_PATH, LBHEARTBEAT_PATH)
_INSTALL = "Let the service answer it before anything else: wrap it in DockerflowMiddleware"
_SEE_LOG = "See the service's log for this request"
_NO_INSTANCE = f"{_SEE_LOG}; or, where a proxy has no instance, ask the instance with --url"
_PATIENCE_MS = 5000  # of AWS's and Google's load balancers
_ELSEWHERE = "or correct host, port and path of --url"
_BAD = {STATUSES[ERROR], STATUSES[CRITICAL]}


def probe_http(service: Service) -> str:
    """Ask for anything; whatever is answered, it is HTTP.

    Raises:
        NoAnswerError: It is none.
    """
    service.ask(LBHEARTBEAT_PATH)
    return "it speaks HTTP"


def check_version(service: Service) -> Finding:
    """Ask for ``/__version__``; ``version`` in the details is what it tells."""
    answer, _ = service.ask(VERSION_PATH)
    if problem := _refusal(service, VERSION_PATH, answer):
        return problem
    path = service.shown_path(VERSION_PATH)
    version = _json(answer)
    if not isinstance(version, dict):
        text = f"{path} answers 200 with {_shown_type(answer)}, not with a JSON object"
        return failed(text, _INSTALL)
    return replace(check_version_object(version, path), details={"version": version})


def check_heartbeat(service: Service) -> Finding:
    """Ask for ``/__heartbeat__``; ``status`` in the details is what it tells."""
    answer, taken_ms = service.ask(HEARTBEAT_PATH)
    report = _json(answer)
    told = report.get("status") if isinstance(report, dict) else None
    finding = _heartbeat_finding(service, answer, report)
    if finding.status == OK and taken_ms >= _PATIENCE_MS:
        text = f"{finding.message}, but after {taken_ms / 1000:.1f} s: probers may give up before"
        finding = warned(text, "Make its checks faster", **finding.details)
    more = {"status": str(told or answer.code), "heartbeat_ms": taken_ms}
    return replace(finding, details={**finding.details, **more})


def _heartbeat_finding(service: Service, answer: Answer, report: Any) -> Finding:
    path = service.shown_path(HEARTBEAT_PATH)
    if answer.code >= 500 and isinstance(report, dict) and "checks" in report:
        text = f"{path} answers {answer.status}: {_failing(report)}"
        remedy = "Mend what the checks say; doctor MODULE:APP there says more"
        return failed(text, remedy, answer=report)
    if problem := _refusal(service, HEARTBEAT_PATH, answer):
        return problem
    return _report_finding(path, answer, report)


def _report_finding(path: str, answer: Answer, report: Any) -> Finding:
    shown = f"{path} answers 200 with {_shown_type(answer)}"
    if answer.media_type == HTML:
        return warned(f"{shown}: a page, as for people", "Let it tell the checks as JSON")
    if answer.media_type != JSON and report is None:
        return passed(f"answers 200, with {_shown_type(answer)}")
    if not isinstance(report, dict):
        return failed(f"{shown} that is no JSON object", _INSTALL)
    if not {"status", "checks"} <= report.keys():
        text = f"{path} answers 200, but its JSON has no status and checks"
        return warned(text, "Let it tell the status and each check's", answer=report)
    if str(report["status"]) in _BAD:
        text = f"{path} answers 200, though it says {report['status']}: {_failing(report)}"
        return warned(text, "Let it answer 500 then, for probers heed the code", answer=report)
    return passed(f"answers 200 with the status {report['status']}", answer=report)


def check_lbheartbeat(service: Service) -> Finding:
    """Ask for ``/__lbheartbeat__``; ``latency_ms`` in the details is how long it took."""
    answer, latency_ms = service.ask(LBHEARTBEAT_PATH)
    if answer.code == 204:
        text = f"{service.shown_path(LBHEARTBEAT_PATH)} answers 204, which AWS's load balancers"
        return failed(f"{text} take for a failure", "Let it answer 200", latency_ms=latency_ms)
    if problem := _refusal(service, LBHEARTBEAT_PATH, answer):
        return replace(problem, details={"latency_ms": latency_ms})
    return passed(f"answers 200 in {latency_ms:.0f} ms", latency_ms=latency_ms)


def check_unknown_path(service: Service) -> Finding:
    """Ask for paths that cannot exist: what is answered alike to all paths proves nothing."""
    unknown = [service.ask(f"/__dockerflow_doctor_{token_hex(8)}__")[0] for _ in range(2)]
    shown = f"a path that cannot exist is answered {unknown[0].status}"
    if not 200 <= unknown[0].code < 300:
        return passed(shown)
    alike = [path for path in _PATHS if _is_alike(service.ask(path)[0], unknown)]
    if not alike:
        return passed(f"{shown}, but unlike the endpoints")
    text = f"{shown}, as {', '.join(alike)}: their 200s say nothing"
    return failed(text, "Let it answer 404 there: see what catches all paths")


def check_methods(service: Service) -> Finding:
    """Tell how other methods are answered; that is never a failure."""
    head, trace = _code_of(service, "HEAD"), _code_of(service, "TRACE")
    return passed(f"HEAD is answered {head}, TRACE {trace}; best are 200 and 405")


def _code_of(service: Service, method: str) -> str:
    try:
        return str(service.ask(LBHEARTBEAT_PATH, method)[0].code)
    except NoAnswerError as error:
        return f"not ({error})"


def _is_alike(answer: Answer, unknown: Collection[Answer]) -> bool:
    """Tell whether an answer may be the one to any path.

    What differs between two unknown paths (a page that names its path, or the time) cannot tell
    an endpoint from them.
    """
    for mark in (_code, _media_type, _caching, _body):
        marks = {mark(one) for one in unknown}
        if len(marks) == 1 and mark(answer) not in marks:
            return False
    return True


def _code(answer: Answer) -> int:
    return answer.code


def _media_type(answer: Answer) -> str:
    return answer.media_type


def _caching(answer: Answer) -> str:
    return answer.headers.get("cache-control", "")


def _body(answer: Answer) -> bytes:
    return answer.body


def _refusal(service: Service, path: str, answer: Answer) -> Finding | None:
    """Find what keeps an answer from being 200."""
    if answer.code == 200:
        return None
    text = f"{service.shown_path(path)} answers {answer.status}"
    said = _json(answer)
    if isinstance(said, dict) and isinstance(said.get("error"), str):
        text += f": {said['error']}"
    if 300 <= answer.code < 400:
        text += f" to {answer.location or '?'}"
        return failed(text, "Let it answer itself: probers follow no redirect, and have no login")
    if answer.code in {401, 403}:
        return failed(text, "Let it be asked without a login")
    if answer.code == 404:
        return failed(text, _remedy_of_absence(service, path, is_ours=isinstance(said, dict)))
    if answer.code >= 500:
        is_a_proxys = answer.code in {502, 503, 504} and not isinstance(said, dict)
        return failed(text, _NO_INSTANCE if is_a_proxys else _SEE_LOG)
    return failed(text, _INSTALL)


def _remedy_of_absence(service: Service, path: str, *, is_ours: bool) -> str:
    own_path = service.parts.path.rstrip("/")
    if own_path.endswith(_PATHS):
        return f"Leave {own_path} out of --url: the endpoints are asked below it"
    if path == VERSION_PATH and is_ours:
        return f"Write version.json when the container is built, {_ELSEWHERE}"
    return f"{_INSTALL}, {_ELSEWHERE}"


def _failing(report: dict[str, Any]) -> str:
    """Name the checks that are not ok, with what the worst of them say."""
    details = report.get("details")
    checks = report.get("checks")
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


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _shown_type(answer: Answer) -> str:
    return answer.media_type or "no content type"
