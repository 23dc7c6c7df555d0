"""The Flask app in the rock.

To serve it without a rock, from the root of the repository:

    pip install '.[flask]' gunicorn
    gunicorn --chdir examples/rock app:app

If your package index does not have dockerflow-wsgi, build a wheel into this directory, and name it
in requirements.txt, as shown under "Rocks" in examples/README.md. The gunicorn of a rock listens on
0.0.0.0:8000, and sends metrics to the rock's StatsD exporter.
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
    """Return a greeting."""
    return "hello\n"


@dockerflow.check
def disk_has_space():
    """Warn below 100 MB of free disk space."""
    free_mb = shutil.disk_usage(app.root_path).free // 1_000_000
    if free_mb < 100:
        return [checks.Warning(f"Only {free_mb} MB of disk space are free", id="acme.W001")]
    return []
