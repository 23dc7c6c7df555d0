"""A Pyramid app."""

from __future__ import annotations

from frameworks import pages
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.response import FileResponse, Response


def make_app(*, propagate=False):
    """Make the app.

    Args:
        propagate: Whether an exception reaches the server, as Pyramid does by default, or
            becomes the page of an exception view.
    """
    with Configurator() as config:
        for view in (page, error, stream, breaks, file, redirect, upload, cookies):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__)
        if not propagate:
            config.add_exception_view(sorry, context=Exception)
        return config.make_wsgi_app()


def sorry(_error, _request):
    return Response("sorry", status=500)


def page(_request):
    return Response(pages.GREETING)


def error(_request):
    pages.fail()


def stream(request):
    return Response(app_iter=pages.chunks(request.environ), content_type="text/plain")


def breaks(_request):
    return Response(app_iter=pages.breaking_chunks(), content_type="text/plain")


def file(request):
    return FileResponse(pages.FILE, request)


def redirect(request):
    return HTTPFound(request.route_url("page"))


def upload(request):
    file = request.POST["file"]
    return Response(pages.receipt(request.POST["title"], file.filename, file.file.read()))


def cookies(_request):
    response = Response("enjoy")
    for name, value in pages.COOKIES.items():
        response.set_cookie(name, value)
    return response
