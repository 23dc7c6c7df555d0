"""With each framework, responses are the same as without the middleware, and are logged."""

from __future__ import annotations

import logging
from wsgiref.validate import validator

import pytest
from frameworks import django_app, pages
from frameworks.answer import ask
from wsgi import Server, make_environ

from dockerflow_wsgi import DockerflowMiddleware, get_request_id

FORM = (
    b"--b0undary\r\n"
    b'Content-Disposition: form-data; name="title"\r\n\r\n'
    b"holidays\r\n"
    b"--b0undary\r\n"
    b'Content-Disposition: form-data; name="file"; filename="beach.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n" + bytes(range(256)) * 8 + b"\r\n"
    b"--b0undary--\r\n"
)


class TestPages:
    """Pages, redirects, cookies and uploads are unchanged."""

    def test_a_page(self, ask_both):
        """Status, headers and body are those of the app."""
        answer = ask_both("/page")
        assert answer.status == "200 OK"
        assert answer.body == pages.GREETING.encode()

    def test_head(self, ask_both):
        """A response to ``HEAD`` has the page's headers and the framework's body."""
        assert ask_both("/page", "HEAD").status == "200 OK"

    def test_an_unknown_page(self, ask_both):
        """An unknown page is the app's 404."""
        assert ask_both("/nowhere").status.startswith("404 ")

    def test_a_redirect(self, ask_both):
        """A redirect's location has the host of the client's request, or no host."""
        answer = ask_both("/redirect", HTTP_HOST="acme.test")
        assert answer.status.startswith("302 ")
        assert answer.get("Location") in {"http://acme.test/page", "/page"}

    def test_cookies(self, ask_both):
        """Several headers with the same name are kept, in order."""
        answer = ask_both("/cookies")
        values = [value for name, value in answer.headers if name.lower() == "set-cookie"]
        assert [value.split(";")[0].strip() for value in values] == [
            f"{name}={value}" for name, value in pages.COOKIES.items()
        ]

    def test_an_upload(self, ask_both):
        """A form with a file reaches the app through an input that complies with PEP 3333."""
        content_type = "multipart/form-data; boundary=b0undary"
        answer = ask_both(
            "/upload", "POST", body=FORM, CONTENT_TYPE=content_type, middleware=validator
        )
        assert answer.status == "200 OK"
        assert answer.body == b"holidays: beach.bin, 2048 bytes"

    def test_a_request_id_of_the_client(self, ask_both):
        """The app and the response have the client's request ID, and no other."""
        assert ask_both("/page", HTTP_X_REQUEST_ID="client-1").request_ids == ["client-1"]

    def test_an_async_view_of_django_sees_its_request_id(self, summaries):
        """An ``async`` view, which Django runs on another event loop, has the request ID."""
        answer = ask(DockerflowMiddleware(django_app.make_app()), "/async")
        assert answer.body.decode() == summaries[0].rid


class TestStreams:
    """Streams and files are sent as without the middleware."""

    def test_a_stream_sees_its_request_id(self, ask_both):
        """The request ID can be read in a stream, after the view has returned."""
        answer = ask_both("/stream")
        (request_id,) = answer.request_ids
        assert answer.body == b"".join(b"%d %s\n" % (n, request_id.encode()) for n in range(3))
        assert get_request_id() is None

    def test_a_stream_is_streamed(self, framework):
        """Each chunk is made when the server asks for it, as without the middleware."""
        wrapped = steps(framework.wrapped())
        assert wrapped == steps(framework.make_app())
        assert wrapped[1:] == [1, 2, 3]

    def test_a_stream_that_breaks(self, framework, summaries):
        """An exception in the middle of a stream reaches the server and the summary."""
        app = framework.wrapped()
        with pytest.raises(ValueError, match="broken view"):
            ask(app, "/breaks")
        (summary,) = summaries
        assert (summary.levelno, summary.code, summary.errno) == (logging.ERROR, 200, 500)
        assert summary.getMessage() == "broken view"

    def test_a_file(self, ask_both):
        """A file has the same content and headers as without the middleware."""
        with open(pages.FILE, "rb") as file:
            assert ask_both("/file").body == file.read()

    def test_a_file_wrapper(self, framework, summaries):
        """The server gets the object of ``wsgi.file_wrapper``, which frameworks use for files."""

        class Wrapper:
            def __init__(self, file, block_size=8192):
                self.file = file
                self.block_size = block_size
                self.close = file.close

            def __iter__(self):
                return iter(lambda: self.file.read(self.block_size), b"")

        environ = make_environ("/file", **{"wsgi.file_wrapper": Wrapper})
        body = framework.wrapped()(environ, Server().start_response)
        assert isinstance(body, Wrapper)
        assert not summaries
        body.close()
        assert body.file.closed
        assert [summary.path for summary in summaries] == ["/file"]


def steps(app):
    """Return the progress of the app's stream after the call, and after each chunk."""
    progress = []
    body = app(make_environ("/stream", **{"test.progress": progress}), Server().start_response)
    seen = [len(progress)]
    seen.extend(len(progress) for _chunk in body)
    body.close()
    return seen


class TestErrors:
    """Error pages and exceptions are those of the framework."""

    def test_an_error_page(self, framework, ask_both, summaries):
        """An error page is the framework's; only the Flask extension logs the exception."""
        answer = ask_both("/error")
        assert answer.status.startswith("500 ")
        if framework.name == "Flask-extension":
            assert summaries[0].levelno == logging.ERROR
            assert summaries[0].getMessage() == "broken view"
        else:
            assert summaries[0].levelno == logging.INFO

    def test_an_exception_that_reaches_the_server(self, framework, summaries):
        """An exception reaches the server unchanged, and is in the summary."""
        with pytest.raises(ValueError, match="broken view"):
            ask(framework.make_app(propagate=True), "/error")
        wrapped = framework.wrapped(propagate=True)
        with pytest.raises(ValueError, match="broken view"):
            ask(wrapped, "/error", HTTP_X_REQUEST_ID="failing")
        (summary,) = summaries
        assert (summary.levelno, summary.errno, summary.rid) == (logging.ERROR, 500, "failing")
        assert (summary.path, summary.method) == ("/error", "GET")
        assert summary.getMessage() == "broken view"
        assert get_request_id() is None
