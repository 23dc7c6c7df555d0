"""The app that the adapters serve; each body logs its ``close()``."""

from __future__ import annotations

import json
import logging
import threading

from flask import Flask, Response

from dockerflow_wsgi import DockerflowMiddleware, get_request_id
from dockerflow_wsgi.logging import MozlogHandler

BROKEN = "broken body"

logger = logging.getLogger("adapter_app")
flask_app = Flask(__name__)


class GeneratorBody:
    """A body without a length."""

    def __init__(self, chunks):
        self._chunks = chunks
        self._request_id = get_request_id()

    def __iter__(self):
        return iter(self._chunks)

    def close(self):
        """Log the call."""
        logger.info("closed", extra={"rid": self._request_id})


class ListBody(GeneratorBody):
    """A body with a length."""

    def __len__(self):
        return len(self._chunks)


def make_list(_environ, start_response):
    """Serve a body with one chunk."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ListBody([b"list"])


def make_generator(_environ, start_response):
    """Serve a body that is made chunk by chunk."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return GeneratorBody(f"{number} {get_request_id()}\n".encode() for number in range(3))


def make_broken(_environ, start_response):
    """Serve a body that raises after its first chunk."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    def chunks():
        yield b"begun"
        raise RuntimeError(BROKEN)

    return GeneratorBody(chunks())


class UnclosableBody(GeneratorBody):
    """A body whose ``close()`` raises."""

    def close(self):
        """Log the call, and raise."""
        super().close()
        raise RuntimeError(BROKEN)


def make_unclosable(_environ, start_response):
    """Serve a body whose ``close()`` raises."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return UnclosableBody([b"complete"])


@flask_app.route("/flask")
def flask_page():
    """Serve a page that logs its ``close()``."""
    request_id = get_request_id()
    response = Response("flask")
    response.call_on_close(lambda: logger.info("closed", extra={"rid": request_id}))
    return response


PAGES = {
    "/list": make_list,
    "/generator": make_generator,
    "/flask": flask_app,
    "/broken": make_broken,
    "/unclosable": make_unclosable,
}


def app(environ, start_response):
    """Serve the pages; the summary gets the thread's ID."""
    environ["dockerflow.summary"]["served_by"] = threading.get_ident()
    return PAGES[environ["PATH_INFO"]](environ, start_response)


wrapped = DockerflowMiddleware(app)


def application(environ, start_response):
    """Serve the wrapped app; ``/outside`` shows the thread's ID and its current request ID."""
    if environ["PATH_INFO"] != "/outside":
        return wrapped(environ, start_response)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([threading.get_ident(), get_request_id()]).encode()]


def set_up_logging():
    """Log to standard output, in a separate program."""
    logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO)
    return application
