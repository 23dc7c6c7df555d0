"""A Flask app that counts heartbeats, and measures checks, with StatsD.

    pip install '.[flask]' statsd gunicorn
    gunicorn examples.statsd_app:app

STATSD_HOST and STATSD_PORT are the address of the daemon, by default localhost and 8125; in a rock,
the port is 9125. While a file named "maintenance" exists, the check fails.
"""

import os
from pathlib import Path

from flask import Flask
from statsd import StatsClient

from dockerflow_wsgi.flask import Dockerflow, checks
from dockerflow_wsgi.flask.signals import heartbeat_failed, heartbeat_passed

MAINTENANCE_FILE = Path(os.environ.get("MAINTENANCE_FILE", "maintenance"))

app = Flask(__name__)
dockerflow = Dockerflow(app)
statsd = StatsClient(
    os.environ.get("STATSD_HOST", "localhost"), int(os.environ.get("STATSD_PORT", "8125"))
)


@dockerflow.check
def maintenance():
    """Fail while a file exists."""
    if MAINTENANCE_FILE.exists():
        return [checks.Warning(f"The file {MAINTENANCE_FILE} exists", id="statsd_app.W001")]
    return []


@heartbeat_passed.connect_via(app)
def heartbeat_passed_handler(sender, level, report, **extra):
    """Count a heartbeat that passed."""
    statsd.incr("heartbeat.pass")
    send_durations(report)


@heartbeat_failed.connect_via(app)
def heartbeat_failed_handler(sender, level, report, **extra):
    """Count a heartbeat that failed."""
    statsd.incr("heartbeat.fail")
    send_durations(report)


def send_durations(report):
    """Send the duration of each check."""
    for result in report.results:
        statsd.timing(f"heartbeat.check.{result.name}", result.duration_s * 1000)


@app.route("/")
def hello():
    """Return a greeting."""
    return "hello\n"
