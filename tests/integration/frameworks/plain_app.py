"""A plain WSGI app, with the form parser of the standard library."""

from __future__ import annotations

import sys
from email.parser import BytesParser
from wsgiref.util import FileWrapper, application_uri

from frameworks import pages


def make_app(*, propagate=False):
    """Make the app.

    Args:
        propagate: Whether an exception reaches the server, or becomes the app's own page.
    """

    def app(environ, start_response):
        page = PAGES.get(environ["PATH_INFO"], missing)
        try:
            return page(environ, start_response)
        except ValueError:
            if propagate:
                raise
            headers = [("Content-Type", "text/plain")]
            start_response("500 Internal Server Error", headers, sys.exc_info())
            return [b"sorry"]

    return app


def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [pages.GREETING.encode()]


def missing(_environ, start_response):
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"nothing here"]


def error(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    pages.fail()


def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return pages.chunks(environ)


def breaks(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return pages.breaking_chunks()


def file(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/x-python")])
    return environ.get("wsgi.file_wrapper", FileWrapper)(open(pages.FILE, "rb"))


def redirect(environ, start_response):
    location = application_uri(environ).rstrip("/") + "/page"
    start_response("302 Found", [("Content-Type", "text/plain"), ("Location", location)])
    return [b"over there"]


def upload(environ, start_response):
    content = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    head = f"Content-Type: {environ['CONTENT_TYPE']}\r\n\r\n".encode()
    title, file = BytesParser().parsebytes(head + content).get_payload()
    text = pages.receipt(title.get_payload(), file.get_filename(), file.get_payload(decode=True))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


def cookies(_environ, start_response):
    set_cookies = [("Set-Cookie", f"{name}={value}") for name, value in pages.COOKIES.items()]
    start_response("200 OK", [("Content-Type", "text/plain"), *set_cookies])
    return [b"enjoy"]


PAGES = {
    "/page": page,
    "/error": error,
    "/stream": stream,
    "/breaks": breaks,
    "/file": file,
    "/redirect": redirect,
    "/upload": upload,
    "/cookies": cookies,
}
