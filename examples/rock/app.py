"""The Flask app in the rock.

Serve it without a rock, from the root of the repository:

    pip install '.[flask]' gunicorn
    gunicorn --chdir examples/rock app:app

Until your package index has dockerflow-wsgi, build a wheel into this directory, and name it in
requirements.txt, as shown under "Rocks" in examples/README.md. A rock's own gunicorn listens on
0.0.0.0:8000, and sends its metrics to the rock's StatsD exporter.
"""

import logging
import shutil

from flask import Flask

from dockerflow_wsgi.flask import Dockerflow, checks
from dockerflow_wsgi.logging import MozlogHandler

logging.basicConfig(handlers=[MozlogHandler(name="acme")], level=logging.INFO)

app = Flask(__name__)
dockerflow = Dockerflow(app, version_path=app.root_path)  # in the rock, /flask/app


@app.get("/")
def hello():
    """Greet."""
    return "hello\n"


@dockerflow.check
def disk_has_space():
    """Warn below 100 MB of free disk space."""
    free_mb = shutil.disk_usage(app.root_path).free // 1_000_000
    if free_mb < 100:
        return [checks.Warning(f"Only {free_mb} MB of disk space are free", id="acme.W001")]
    return []
