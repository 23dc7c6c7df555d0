"""Requests a page with and without the middleware, and compares the responses."""

from __future__ import annotations

import io
from typing import NamedTuple

from wsgi import call, make_environ


class Answer(NamedTuple):
    """The response of an app to a server."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def request_ids(self):
        """The values of each ``X-Request-ID``."""
        return [value for name, value in self.headers if name.lower() == "x-request-id"]

    def get(self, wanted):
        """Return a header's only value."""
        (value,) = (value for name, value in self.headers if name.lower() == wanted.lower())
        return value

    def as_unwrapped(self):
        """Return the response without request IDs and the date."""
        headers = [
            header for header in self.headers if header[0].lower() not in {"x-request-id", "date"}
        ]
        body = self.body
        for request_id in self.request_ids:
            body = body.replace(request_id.encode(), b"None")
        return Answer(self.status, headers, body)


def ask(app, path="/page", method="GET", body=b"", **keys):
    """Call an app, and return its response."""
    keys = {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body), **keys}
    server, content = call(app, make_environ(path, method, **keys))
    return Answer(server.status, server.starts[-1][1], content)


def assert_summary(record, answer, path, method="GET"):
    """Assert that a summary belongs to a response."""
    assert (record.path, record.method) == (path, method)
    assert record.code == int(answer.status[:3])
    assert [record.rid] == answer.request_ids
    assert record.errno == (record.code if record.code >= 500 else 0)
