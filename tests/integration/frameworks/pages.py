"""Functions that the apps of all frameworks share.

Each app has ``/page``, ``/error``, ``/stream``, ``/breaks``, ``/file``, ``/redirect``, ``/upload``
and ``/cookies``, written in the style of the framework's documentation.
"""

from __future__ import annotations

from dockerflow_wsgi import get_request_id

GREETING = "<h1>hello</h1>"
FILE = __file__
COOKIES = {"flavour": "oat", "size": "large"}


def fail():
    """Raise an exception that frameworks do not handle."""
    raise ValueError("broken view")


def chunks(environ):
    """Yield chunks with the request's ID, and record the progress in the environ."""
    progress = environ.setdefault("test.progress", [])
    for number in range(3):
        progress.append(number)
        yield f"{number} {get_request_id()}\n".encode()


def breaking_chunks():
    """Yield a chunk, then raise."""
    yield b"all is well so far\n"
    fail()


def receipt(title, filename, content):
    """Return a text about an upload."""
    return f"{title}: {filename}, {len(content)} bytes"
