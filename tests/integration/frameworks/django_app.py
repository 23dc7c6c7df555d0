"""A Django app without a project's folder: this module is its URL configuration."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect as redirect_to
from django.urls import path
from frameworks import pages

from dockerflow_wsgi import get_request_id

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG_PROPAGATE_EXCEPTIONS=False,
    LOGGING_CONFIG=None,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECURE_SSL_REDIRECT=False,
)
django.setup()


def make_app(*, propagate=False, allowed_hosts=("*",), ssl_redirect=False):
    """Make the app, and replace the settings of the process.

    Args:
        propagate: Whether an exception reaches the server; by default it becomes a page.
        allowed_hosts: Hosts that Django answers for.
        ssl_redirect: Whether plain HTTP is redirected to HTTPS.
    """
    settings.DEBUG_PROPAGATE_EXCEPTIONS = propagate
    settings.ALLOWED_HOSTS = list(allowed_hosts)
    settings.SECURE_SSL_REDIRECT = ssl_redirect
    return WSGIHandler()


def page(_request):
    return HttpResponse(pages.GREETING)


def error(_request):
    pages.fail()


def stream(request):
    return StreamingHttpResponse(pages.chunks(request.environ), content_type="text/plain")


def breaks(_request):
    return StreamingHttpResponse(pages.breaking_chunks(), content_type="text/plain")


def file(_request):
    return FileResponse(open(pages.FILE, "rb"))


def redirect(_request):
    return redirect_to("page")


def upload(request):
    file = request.FILES["file"]
    return HttpResponse(pages.receipt(request.POST["title"], file.name, file.read()))


def cookies(_request):
    response = HttpResponse("enjoy")
    for name, value in pages.COOKIES.items():
        response.set_cookie(name, value)
    return response


async def asynchronous(_request):
    return HttpResponse(str(get_request_id()))


urlpatterns = [
    path("page", page, name="page"),
    path("error", error),
    path("stream", stream),
    path("breaks", breaks),
    path("file", file),
    path("redirect", redirect),
    path("upload", upload),
    path("cookies", cookies),
    path("async", asynchronous),
]
