"""A Flask app whose exceptions are one event each in Sentry.

    pip install '.[flask]' sentry-sdk gunicorn
    SENTRY_DSN=https://key@example.com/1 gunicorn examples.sentry:app

Request http://localhost:8000/broken to send an event. Sentry's integration for Flask reports the
exception. Sentry's logging integration would report the request's summary, an ERROR record with
the same text, as a second event, so its logger is ignored.
"""

import logging
import os

import sentry_sdk
from flask import Flask, g
from sentry_sdk.integrations.logging import ignore_logger

from dockerflow_wsgi.flask import Dockerflow
from dockerflow_wsgi.logging import MozlogHandler

logging.basicConfig(handlers=[MozlogHandler(name="sentry")], level=logging.INFO)
sentry_sdk.init(os.environ.get("SENTRY_DSN"))  # without a DSN, nothing is sent
ignore_logger("request.summary")

app = Flask(__name__)
dockerflow = Dockerflow(app)


@app.before_request
def tag_request_id():
    """Add the request ID to the event, so that it leads to the log."""
    sentry_sdk.set_tag("request_id", g.request_id)


@app.get("/")
def index():
    """Answer normally."""
    return "hello\n"


@app.get("/broken")
def broken():
    """Raise an exception."""
    raise RuntimeError("This page is broken")
