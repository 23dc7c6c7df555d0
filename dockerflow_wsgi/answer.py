"""A complete response of ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

JSON = "application/json"


class Answer:
    """A complete response.

    Args:
        code: The HTTP status.
        body: The body, which a ``HEAD`` request does not get.
        headers: Further headers.
        content_type: The body's media type.

    Attributes:
        status: The status line's code and reason.
        headers: All headers but the request ID's.
        body: The body.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        code: int,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        content_type: str = JSON,
    ) -> None:
        self.status = f"{code} {_reason(code)}"
        self.body = body
        self.headers = (
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            *headers,
        )


def error_answer(code: int, text: str, *headers: tuple[str, str]) -> Answer:
    """Make the answer that says what is wrong.

    Args:
        code: The HTTP status.
        text: What is wrong, and what to do.
        *headers: Further headers.

    Returns:
        An answer with the JSON body ``{"error": text}``.
    """
    return Answer(code, to_json({"error": text}), headers)


def to_json(shown: Mapping[str, Any]) -> bytes:
    """Write a mapping as JSON in UTF-8.

    Args:
        shown: The mapping.

    Returns:
        The JSON, all of it ASCII, and a line break.

    Raises:
        TypeError: A value is of a type that JSON does not have.
        ValueError: A number is not finite, or a container contains itself.
    """
    return json.dumps(dict(shown), allow_nan=False).encode() + b"\n"


def _reason(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Heartbeat Failed"  # a status of the user's choice that the standard lacks
