"""A Bottle app."""

from __future__ import annotations

import os

from bottle import Bottle, request, response, static_file
from bottle import redirect as redirect_to
from frameworks import pages


def make_app(*, propagate=False):
    """Make the app.

    Args:
        propagate: Whether an exception reaches the server; by default it becomes a page.
    """
    app = Bottle()
    app.config["catchall"] = not propagate
    for view in (page, error, stream, breaks, file, redirect, cookies):
        app.get(f"/{view.__name__}", callback=view)
    app.post("/upload", callback=upload)
    return app


def page():
    return pages.GREETING


def error():
    pages.fail()


def stream():
    return pages.chunks(request.environ)


def breaks():
    return pages.breaking_chunks()


def file():
    return static_file(os.path.basename(pages.FILE), os.path.dirname(pages.FILE))


def redirect():
    redirect_to(f"{request.script_name}page", 302)


def upload():
    file = request.files.file
    return pages.receipt(request.forms.title, file.raw_filename, file.file.read())


def cookies():
    for name, value in pages.COOKIES.items():
        response.set_cookie(name, value)
    return "enjoy"
