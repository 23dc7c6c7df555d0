"""The app in the container; replace it with your app.

The Dockerfile starts with the commands that build and run the image. Without a container:

    pip install . gunicorn
    gunicorn --chdir examples/container app:wrapped_app
"""

import logging

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.logging import MozlogHandler

# Without effect if gunicorn.conf.py has already set up logging.
logging.basicConfig(handlers=[MozlogHandler(name="acme")], level=logging.INFO)


def app(environ, start_response):
    """Return the path of the request."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"This is {environ['PATH_INFO']}\n".encode("latin-1")]


wrapped_app = DockerflowMiddleware(app)
