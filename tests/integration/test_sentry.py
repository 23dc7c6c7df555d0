"""Sentry's events for a request that raises, in a separate interpreter."""

from __future__ import annotations

import sys

import pytest
from programs import run

APP = """
import sentry_sdk
from flask import Flask
from sentry_sdk.transport import Transport
from dockerflow_wsgi.flask import Dockerflow

class Printing(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.type == "event":
                print(item.payload.json.get("logger"), "exception" in item.payload.json)

sentry_sdk.init("https://key@127.0.0.1:9/1", transport=Printing)
{setting}
app = Flask("shop")
app.logger.disabled = True
Dockerflow(app)

@app.route("/")
def index():
    raise ValueError("boom")

app.test_client().get("/").close()
"""
IGNORE = """
from sentry_sdk.integrations.logging import ignore_logger
ignore_logger("request.summary")
"""


@pytest.mark.parametrize(
    ("setting", "events"),
    [("", ["None True", "request.summary False"]), (IGNORE, ["None True"])],
    ids=["default", "ignored"],
)
def test_an_exception_is_one_event_if_the_summary_is_ignored(setting, events):
    """Sentry gets an event of the exception, and one of the summary unless it is ignored."""
    done = run([sys.executable, "-c", APP.format(setting=setting)], check=True)
    assert sorted(done.stdout.splitlines()) == sorted(events)
