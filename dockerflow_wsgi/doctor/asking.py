"""Asks a WSGI app, as a server does."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from wsgiref.util import setup_testing_defaults

MAX_BYTES = 1 << 20  # of a body; what is longer is no answer of an endpoint


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    Attributes:
        code: The status code; 0 if the status begins with none.
        status: The status, with its reason phrase.
        headers: By name in lower case.
        body: The body, or its beginning.
    """

    code: int
    status: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def location(self) -> str:
        """Where it redirects to, without the query, which may hold a token."""
        return self.headers.get("location", "").partition("?")[0]


def ask(app: Any, path: str, method: str = "GET", **keys: str) -> Answer:
    """Ask an app for a path.

    Args:
        app: The WSGI app.
        path: The path.
        method: The method.
        **keys: Further keys of the environ.

    Returns:
        The answer.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []
    chunks: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
        started.append((status, list(headers)))
        return chunks.append

    body = app(_environ(path, method, keys), start_response)
    try:
        for chunk in body:
            chunks.append(chunk)
            if sum(map(len, chunks)) > MAX_BYTES:
                break
    finally:
        if hasattr(body, "close"):
            body.close()
    status, headers = started[-1] if started else ("", [])
    code = int(status[:3]) if status[:3].isdigit() else 0
    named = {name.lower(): value for name, value in headers}
    return Answer(code, status, named, b"".join(chunks)[:MAX_BYTES])


def _environ(path: str, method: str, keys: Mapping[str, str]) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "dockerflow-wsgi doctor",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        **keys,
    }
    setup_testing_defaults(environ)
    return environ
