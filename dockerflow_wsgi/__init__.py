"""Makes any WSGI application comply with Mozilla's Dockerflow."""

from . import checks
from .checks import CheckRegistry
from .errors import ConfigurationError
from .middleware import DockerflowMiddleware
from .request_id import get_request_id, request_id_context
from .server import serve_in_background

__all__ = [
    "CheckRegistry",
    "ConfigurationError",
    "DockerflowMiddleware",
    "checks",
    "get_request_id",
    "request_id_context",
    "serve_in_background",
]
