"""The three paths, asked through the app: whether the middleware's own answer arrives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..checks.messages import STATUSES
from ..endpoints import HEARTBEAT_PATH, JSON, LBHEARTBEAT_PATH, VERSION_PATH
from ..redaction import format_error
from ..request_id import new_request_id
from ..response import REQUEST_ID_HEADER
from ..stack import place_of_error
from .asking import Answer, ask
from .finding import Finding, failed, passed, warned

if TYPE_CHECKING:
    from .subject import Subject

_LEVELS = {status: level for level, status in STATUSES.items()}
_OUTERMOST = "Make the middleware the outermost wrapper of the app that the server is given"


def check_version_endpoint(subject: Subject) -> Finding:
    """Ask for ``/__version__``."""
    return _compared(subject, VERSION_PATH)


def check_lbheartbeat_endpoint(subject: Subject) -> Finding:
    """Ask for ``/__lbheartbeat__``."""
    return _compared(subject, LBHEARTBEAT_PATH)


def check_heartbeat_endpoint(subject: Subject) -> Finding:
    """Ask for ``/__heartbeat__``, which runs the checks; their own steps say how these went."""
    answer, problem = _ask(subject, HEARTBEAT_PATH)
    if answer is None:
        return problem
    report = _json(answer.body)
    names = list(subject.middleware.registry.names)
    failed_code = subject.middleware.settings.heartbeat_failed_status_code
    is_right = answer.code in {200, failed_code} and answer.media_type == JSON
    if not is_right or not _is_report(report, names):
        told = f"200 or {failed_code} {JSON} with the checks {', '.join(names) or '(none)'}"
        return _foreign(HEARTBEAT_PATH, answer, told)
    level = subject.middleware.settings.heartbeat_failed_level
    bad = [name for name, status in report["checks"].items() if _LEVELS.get(status, 0) >= level]
    if answer.code != 200:
        text = f"answers {answer.status}, because of {', '.join(bad)}"
        return warned(text, "See the steps of these checks", answer=report)
    return passed(f"answers 200 with the status {report['status']}", answer=report)


def _compared(subject: Subject, path: str) -> Finding:
    expected = ask(subject.middleware.endpoints[path], path)
    answer, problem = _ask(subject, path)
    if answer is None:
        return problem
    is_same = (answer.code, answer.media_type) == (expected.code, expected.media_type)
    is_made_anew = path == VERSION_PATH and subject.middleware.version_endpoint.callback is not None
    if not is_same or (answer.body != expected.body and not is_made_anew):
        return _foreign(path, answer, f"{expected.status} {expected.media_type}")
    if answer.code != 200:
        return warned(f"answers {answer.status}", "See the step version_json")
    return passed(f"answers {answer.status}")


def _ask(subject: Subject, path: str) -> tuple[Answer | None, Finding]:
    """Ask through the app; the answer must have come by way of a middleware."""
    settings = subject.middleware.settings
    request_id = new_request_id()
    key = f"HTTP_{settings.request_id_header[0].upper().replace('-', '_')}"
    try:
        answer = ask(subject.app, path, **{key: request_id})
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the app's own
        place = place_of_error(error)
        text = f"{path} raised {type(error).__name__}: {format_error(error)}"
        return None, failed(f"{place}: {text}" if place else text, _OUTERMOST)
    sent = answer.headers.get(REQUEST_ID_HEADER.lower())
    if settings.echo_request_id and not sent:
        return None, _foreign(path, answer, f"an answer with an {REQUEST_ID_HEADER}")
    if settings.echo_request_id and settings.trust_request_id and sent != request_id:
        text = (
            f"{path} is answered with another {REQUEST_ID_HEADER} than the request's: by something "
            "else, or by way of a wrapper that replaces it"
        )
        return None, failed(text, _OUTERMOST)
    return answer, passed("")


def _is_report(report: Any, names: list[str]) -> bool:
    if not isinstance(report, dict) or "status" not in report:
        return False
    checks = report.get("checks")
    return isinstance(checks, dict) and list(checks) == names


def _foreign(path: str, answer: Answer, expected: str) -> Finding:
    to = f" to {answer.location}" if answer.location else ""
    shown = f"{answer.status or 'no status'}{to} {answer.media_type}".strip()
    text = f"something else answers {path}: {shown}. The middleware would give {expected}"
    headers = {"content-type": answer.media_type, "location": answer.location}
    headers["server"] = answer.headers.get("server", "")  # others may hold a cookie, or a token
    return failed(text, _OUTERMOST, status=answer.status, headers=headers)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
