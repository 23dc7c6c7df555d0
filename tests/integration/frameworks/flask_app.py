"""A Flask app."""

from __future__ import annotations

from flask import Flask, Response, make_response, send_file, url_for
from flask import redirect as redirect_to
from flask import request as current
from frameworks import pages


def make_app(*, propagate=False):
    """Make the app.

    Args:
        propagate: Whether an exception reaches the server; by default it becomes a page.
    """
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = propagate
    for view in (page, error, stream, breaks, file, redirect, cookies):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    app.add_url_rule("/upload", view_func=upload, methods=["POST"])
    return app


def page():
    return pages.GREETING


def error():
    pages.fail()


def stream():
    return Response(pages.chunks(current.environ), content_type="text/plain")


def breaks():
    return Response(pages.breaking_chunks(), content_type="text/plain")


def file():
    return send_file(pages.FILE)


def redirect():
    return redirect_to(url_for("page"))


def upload():
    file = current.files["file"]
    return pages.receipt(current.form["title"], file.filename, file.read())


def cookies():
    response = make_response("enjoy")
    for name, value in pages.COOKIES.items():
        response.set_cookie(name, value)
    return response
