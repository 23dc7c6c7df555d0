"""An app without a logging configuration, and three configurations that log mozlog.

    pip install . gunicorn

A JSON file for logging.config.dictConfig:

    gunicorn --log-config-json examples/logging/logging.json examples.logging.app:wrapped_app

An ini file for logging.config.fileConfig:

    gunicorn --log-config examples/logging/logging.ini examples.logging.app:wrapped_app

Python, in gunicorn's configuration:

    gunicorn --config examples/logging/gunicorn.conf.py examples.logging.app:wrapped_app
"""

import logging

from dockerflow_wsgi import DockerflowMiddleware

logger = logging.getLogger(__name__)


def app(environ, start_response):
    """Log a line for each page; ``/broken`` raises."""
    logger.info("A page was requested", extra={"page": environ["PATH_INFO"]})
    if environ["PATH_INFO"] == "/broken":
        raise RuntimeError("This page is broken")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


wrapped_app = DockerflowMiddleware(app)
