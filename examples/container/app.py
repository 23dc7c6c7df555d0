"""The app in the container: put your own in its place."""

import logging

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogHandler

# Does nothing under gunicorn.conf.py, which has set up logging already.
logging.basicConfig(handlers=[MozlogHandler(name="acme")], level=logging.INFO)


def app(environ, start_response):
    """Tell which page was asked for."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"This is {environ['PATH_INFO']}\n".encode("latin-1")]


wrapped_app = DockerflowMiddleware(app)
