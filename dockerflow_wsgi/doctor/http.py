"""Asks a running service over HTTP."""

from __future__ import annotations

import base64
import http.client
import ssl
from dataclasses import dataclass
from functools import partial
from time import monotonic
from urllib.parse import SplitResult, unquote, urlsplit

from ..redaction import format_error, redact
from .asking import MAX_BYTES, Answer
from .ladder import Address
from .patience import OverdueError, Task


class NoAnswerError(Exception):
    """A service gave no answer; the text says why."""


class NoHTTPError(NoAnswerError):
    """What a service answered is no HTTP."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running service.

    Attributes:
        parts: Its URL.
        timeout_s: How long it may take to answer, in seconds.
    """

    parts: SplitResult
    timeout_s: float

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return redact(self.parts.geturl())

    def shown_path(self, path: str) -> str:
        """The path that is asked; the whole URL where it is below another path."""
        return f"{self.shown.rstrip('/')}{path}" if self.parts.path.strip("/") else path

    @property
    def is_encrypted(self) -> bool:
        """Whether it is to speak TLS."""
        return self.parts.scheme == "https"

    @property
    def address(self) -> Address:
        """Where it listens."""
        port = self.parts.port or (443 if self.is_encrypted else 80)
        return Address(self.parts.hostname or "", port)

    def ask(self, path: str, method: str = "GET") -> tuple[Answer, float]:
        """Ask for a path, without following redirects: probers do not either.

        Args:
            path: The path below the service's own.
            method: The method.

        Returns:
            The answer, and how long it took in milliseconds.

        Raises:
            NoAnswerError: There was none, or none in time.
        """
        started_s, asked = monotonic(), self.shown_path(path)
        try:
            answer = Task(partial(self._exchange, path, method)).result(self.timeout_s)
        except (OverdueError, TimeoutError):
            raise NoAnswerError(f"{asked}: no answer within {self.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            kind = type(error).__name__
            raise NoHTTPError(f"{asked}: no HTTP answer: {kind}: {format_error(error)}") from None
        return answer, (monotonic() - started_s) * 1000

    def _exchange(self, path: str, method: str) -> Answer:
        connection = self._connection()
        try:
            connection.request(method, self.parts.path.rstrip("/") + path, headers=self._headers())
            with connection.getresponse() as response:
                headers = {name.lower(): value for name, value in response.getheaders()}
                status = f"{response.status} {response.reason}".strip()
                return Answer(response.status, status, headers, self._body(response))
        finally:
            connection.close()

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        body, give_up_s = b"", monotonic() + self.timeout_s
        while len(body) < MAX_BYTES:
            if monotonic() > give_up_s:
                raise TimeoutError
            chunk = response.read1(MAX_BYTES - len(body))
            if not chunk:
                return body
            body += chunk
        return body

    def _connection(self) -> http.client.HTTPConnection:
        address = self.address
        if self.is_encrypted:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                address.host, address.port, timeout=self.timeout_s, context=context
            )
        return http.client.HTTPConnection(address.host, address.port, timeout=self.timeout_s)

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "dockerflow-wsgi doctor", "Accept": "application/json"}
        if self.parts.username:
            pair = f"{unquote(self.parts.username)}:{unquote(self.parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return headers


def parse_url(text: str, timeout_s: float) -> Service:
    """Read a service's URL.

    Args:
        text: The URL; without a path below which the endpoints lie, usually.
        timeout_s: How long the service may take to answer, in seconds.

    Returns:
        The service.

    Raises:
        ValueError: It is no URL of a service.
    """
    shown = redact(text.partition("?")[0])
    problem = ValueError(f"{shown!r} is malformed: expected a URL such as https://host:8000")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise problem from None  # its own text shows a part of what may be a password
    if parts.scheme not in {"http", "https"} and "://" not in text:
        raise ValueError(f"{shown!r} has no scheme: did you mean 'http://{shown}'?")
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise problem
    if any(character.isspace() or not character.isprintable() for character in text):
        raise problem
    return Service(parts._replace(query="", fragment=""), timeout_s)
