"""What the pages of every framework's small app have in common.

Each app has ``/page``, ``/error``, ``/stream``, ``/breaks``, ``/file``, ``/redirect``, ``/upload``
and ``/cookies``, written as the framework's own documentation would.
"""

from __future__ import annotations

from dockerflow_wsgi import get_request_id

GREETING = "<h1>hello</h1>"
FILE = __file__
COOKIES = {"flavour": "oat", "size": "large"}


def fail():
    """Raise what no framework knows."""
    raise ValueError("broken view")


def chunks(environ):
    """Yield chunks that tell the request's ID, and note in the environ how far this went."""
    progress = environ.setdefault("test.progress", [])
    for number in range(3):
        progress.append(number)
        yield f"{number} {get_request_id()}\n".encode()


def breaking_chunks():
    """Yield a chunk, then raise."""
    yield b"all is well so far\n"
    fail()


def receipt(title, filename, content):
    """Tell what was uploaded."""
    return f"{title}: {filename}, {len(content)} bytes"
