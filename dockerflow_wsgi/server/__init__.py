"""Serves the endpoints of processes that serve no HTTP, from Python or by the command ``serve``.

Imported with the package, so it brings no ``wsgiref`` along before something is served.
"""

from .app import endpoints_of
from .background import DEFAULT_PORT, BackgroundServer, serve_in_background

__all__ = ["DEFAULT_PORT", "BackgroundServer", "endpoints_of", "serve_in_background"]
