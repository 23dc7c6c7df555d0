"""The Sentry example, with the real SDK and a transport that prints the events."""

from __future__ import annotations

import json
import sys

from programs import run

PROGRAM = """
import json
import sentry_sdk
from sentry_sdk.transport import Transport

class PrintingTransport(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.type == "event":
                print(json.dumps({"event": item.payload.json}, default=str))

real_init = sentry_sdk.init
sentry_sdk.init = lambda dsn: real_init("https://key@127.0.0.1:9/1", transport=PrintingTransport)

from examples.sentry import app
client = app.test_client()
client.get("/", headers={"X-Request-ID": "good"})
client.get("/broken", headers={"X-Request-ID": "bad"})
"""


def test_an_exception_is_one_event_with_the_request_id():
    """Sentry gets one event per exception, which has its traceback and the request ID."""
    done = run([sys.executable, "-c", PROGRAM], check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (event,) = [line["event"] for line in lines if "event" in line]
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("RuntimeError", "This page is broken")
    assert exception["stacktrace"]["frames"]
    assert event["tags"]["request_id"] == "bad"


def test_the_exception_is_in_the_summary():
    """The log has an ERROR summary with the exception's text and the same request ID."""
    done = run([sys.executable, "-c", PROGRAM], check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    summaries = [line for line in lines if line.get("Type") == "request.summary"]
    assert [line["Severity"] for line in summaries] == [6, 3]
    assert summaries[1]["Fields"]["msg"] == "This page is broken"
    assert summaries[1]["Fields"]["rid"] == "bad"
