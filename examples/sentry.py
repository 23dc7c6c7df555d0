"""A Flask app with one event in Sentry for each exception.

    pip install '.[flask]' sentry-sdk gunicorn
    SENTRY_DSN=https://key@example.com/1 gunicorn examples.sentry:app

Use the DSN of your project, and request http://localhost:8000/broken to send an event. Sentry's
Flask integration reports the exception. The logging integration would report the summary of the
request, an ERROR record with the same text, as a second event, so its logger is ignored.
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
    """Add the request ID to events, to find the request in the log."""
    sentry_sdk.set_tag("request_id", g.request_id)


@app.get("/")
def index():
    """Return a greeting."""
    return "hello\n"


@app.get("/broken")
def broken():
    """Raise an exception."""
    raise RuntimeError("This page is broken")
