"""A Falcon app."""

from __future__ import annotations

import falcon
from frameworks import pages


def make_app(*, propagate=False):
    """Make the app.

    Args:
        propagate: Whether an exception reaches the server, by a handler that raises it again;
            by default it becomes a response.
    """
    app = falcon.App()
    for resource in (Page, Error, Stream, Breaks, File, Redirect, Upload, Cookies):
        app.add_route(f"/{resource.__name__.lower()}", resource())
    if propagate:
        app.add_error_handler(Exception, raise_again)
    return app


def raise_again(_request, _response, error, _parameters):
    raise error


class Page:
    def on_get(self, _request, response):
        response.content_type = falcon.MEDIA_HTML
        response.text = pages.GREETING

    on_head = on_get


class Error:
    def on_get(self, _request, _response):
        pages.fail()


class Stream:
    def on_get(self, request, response):
        response.stream = pages.chunks(request.env)


class Breaks:
    def on_get(self, _request, response):
        response.stream = pages.breaking_chunks()


class File:
    def on_get(self, _request, response):
        response.stream = open(pages.FILE, "rb")  # noqa: SIM115 - Falcon closes it


class Redirect:
    def on_get(self, request, _response):
        raise falcon.HTTPFound(f"{request.prefix}/page")


class Upload:
    def on_post(self, request, response):
        title, file = "", ("", b"")
        for part in request.get_media():
            if part.name == "title":
                title = part.text
            else:
                file = (part.filename, part.stream.read())
        response.text = pages.receipt(title, *file)


class Cookies:
    def on_get(self, _request, response):
        for name, value in pages.COOKIES.items():
            response.set_cookie(name, value)
        response.text = "enjoy"
