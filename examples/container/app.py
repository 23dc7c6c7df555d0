"""The app in the container: replace it by your own.

The first lines of Dockerfile build and run the image. Without a container:

    pip install . gunicorn
    gunicorn --chdir examples/container app:wrapped_app
"""

import logging

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogHandler

# Does nothing under gunicorn.conf.py, which has set up logging already.
logging.basicConfig(handlers=[MozlogHandler(name="acme")], level=logging.INFO)


def app(environ, start_response):
    """Answer with the path of the request."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"This is {environ['PATH_INFO']}\n".encode("latin-1")]


wrapped_app = DockerflowMiddleware(app)
