"""The response of the wrapped app passes through unchanged, and is logged when it ends."""

from __future__ import annotations

import contextvars
import gc
import logging
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from programs import run
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator
from wsgi import Server, hello, ignore_start, make_environ, request

from dockerflow_wsgi import DockerflowMiddleware, get_request_id


class Body:
    """An iterable with ``close()`` that counts its calls; not its own iterator."""

    def __init__(self, *chunks):
        self.chunks = chunks
        self.iterations = 0
        self.closes = 0

    def __iter__(self):
        self.iterations += 1
        return iter(self.chunks)

    def close(self):
        self.closes += 1


class SizedBody(Body):
    """A body with a length."""

    def __len__(self):
        return len(self.chunks)


class IteratorBody(Body):
    """A body that is its own iterator."""

    def __init__(self, *chunks):
        super().__init__(*chunks)
        self.remaining = iter(chunks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.remaining)


class OwnIterator:
    """An iterator of an app's own class, without ``close()``."""

    def __init__(self, chunks):
        self.chunks = iter(chunks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)


def app_returning(body, status="200 OK"):
    """Make an app that returns a body."""

    def app(_environ, start_response):
        start_response(status, [("Content-Type", "text/plain")])
        return body

    return app


def serve(body, **keys):
    """Call a wrapped app that returns a body, and return what the server gets."""
    return DockerflowMiddleware(app_returning(body))(make_environ(**keys), ignore_start)


def werkzeug_body(chunks):
    """Make the body that Flask and Werkzeug return."""
    return Response(chunks)(make_environ(), ignore_start)


def streaming_id(_environ, start_response):
    """Stream the current request ID, three times."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(3):
        yield (get_request_id() or "none").encode()


def read_and_close(result):
    """Read and close the body, as PEP 3333 requires of a server."""
    list(result)
    result.close()


def read_and_close_twice(result):
    """Read the body, and call ``close()`` twice."""
    read_and_close(result)
    result.close()


def close_unread(result):
    """Close the body unread, as servers do after a HEAD request."""
    result.close()


def close_half_way(result):
    """Read one chunk and close the body, as servers do when the client disconnects."""
    iterator = iter(result)
    next(iterator)
    result.close()


def read_and_forget(result):
    """Read the body without closing it, as some adapters do."""
    b"".join(result)


def close_the_iterator(result):
    """Read the body and close its iterator instead, as some middlewares do."""
    iterator = iter(result)
    list(iterator)
    iterator.close()


def close_the_iterator_half_way(result):
    """Read one chunk and close the iterator instead."""
    iterator = iter(result)
    next(iterator)
    iterator.close()


def close_the_unread_iterator(result):
    """Close the iterator before the first chunk."""
    iter(result).close()


def drop_unread(_result):
    """Return without using the body."""


def drop_the_unread_iterator(result):
    """Call ``iter()`` without ``next()``."""
    iter(result)


def drop_half_way(result):
    """Read one chunk and drop the body."""
    next(iter(result))


ENDS = [
    read_and_close,
    read_and_close_twice,
    close_unread,
    close_half_way,
    read_and_forget,
    close_the_iterator,
    close_the_iterator_half_way,
    close_the_unread_iterator,
    drop_unread,
    drop_the_unread_iterator,
    drop_half_way,
]

every_end = pytest.mark.parametrize("end", ENDS)


@pytest.fixture
def no_garbage_collection():
    """Turn off the collection of reference cycles."""
    gc.disable()
    yield
    gc.enable()


class TestUnchangedResponse:
    """Status, headers and body reach the server as the app made them."""

    def test_status_headers_and_body(self):
        """Only the request ID is added, at the end and in a new list."""
        headers = [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]

        def app(_environ, start_response):
            start_response("418 I'm a teapot", headers)
            return [b"short ", b"and stout"]

        server = Server()
        body = DockerflowMiddleware(app)(make_environ(), server.start_response)

        assert server.status == "418 I'm a teapot"
        assert server.starts[0][1][:-1] == headers
        assert server.starts[0][1][-1][0] == "X-Request-ID"
        assert len(headers) == 3
        assert list(body) == [b"short ", b"and stout"]

    def test_headers_without_the_request_id(self):
        """With ``echo_request_id=False``, the server gets the app's list itself."""
        headers = [("Content-Type", "text/plain")]

        def app(_environ, start_response):
            start_response("200 OK", headers)
            return []

        server = Server()
        DockerflowMiddleware(app, echo_request_id=False)(make_environ(), server.start_response)
        assert server.starts[0][1] is headers

    def test_headers_in_an_iterator(self):
        """PEP 3333 requires a list, but most servers accept any iterable."""

        def app(_environ, start_response):
            start_response("200 OK", iter([("Content-Type", "text/plain")]))
            return []

        server = Server()
        DockerflowMiddleware(app)(make_environ(), server.start_response).close()
        assert server.headers["Content-Type"] == "text/plain"
        assert "X-Request-ID" in server.headers

    @pytest.mark.parametrize("kind", [iter, ClosingIterator, OwnIterator, list])
    def test_chunks_are_the_same_objects(self, kind, summaries):
        """Chunks are neither joined, split, converted nor left out."""
        given = [b"a", b"", bytearray(b"b"), None, 0]
        result = serve(kind(given))
        got = list(result)
        result.close()
        assert all(one is other for one, other in zip(got, given, strict=True))
        assert [record.levelname for record in summaries] == ["INFO"]

    @pytest.mark.parametrize("kind", [iter, ClosingIterator, OwnIterator])
    def test_no_chunk_is_made_in_advance(self, kind):
        """Each chunk is made when the server asks for it, also the first one."""
        made = []

        def chunks():
            for number in range(3):
                made.append(number)
                yield b"x"

        result = serve(kind(chunks()))
        assert made == []
        iterator = iter(result)
        assert made == []
        next(iterator)
        assert made == [0]
        next(iterator)
        assert made == [0, 1]

    @pytest.mark.parametrize("body", [[b"one"], (b"one", b"two"), [], SizedBody(b"a", b"b")])
    def test_length(self, body):
        """``len()`` works if it works on the app's iterable, before and after ``close()``."""
        result = serve(body)
        assert len(result) == len(body)
        result.close()
        assert len(result) == len(body)

    @pytest.mark.parametrize("body", [iter([b"one"]), Body(b"one"), (chunk for chunk in [b"one"])])
    def test_no_length(self, body):
        """``len()`` fails if it fails on the app's iterable: the body may be a stream."""
        with pytest.raises(TypeError):
            len(serve(body))

    def test_sequence_without_an_iterator(self):
        """A body that has only ``__getitem__`` can be iterated."""

        class Sequence:
            def __getitem__(self, index):
                return (b"one", b"two")[index]

        assert list(serve(Sequence())) == [b"one", b"two"]

    def test_iterator_of_the_iterator(self):
        """``iter()`` on the iterator returns the iterator, which continues."""
        iterator = iter(serve([b"one", b"two"]))
        assert next(iterator) == b"one"
        assert list(iterator) == [b"two"]

    def test_closed_iterator(self):
        """An iterator that was closed has no further chunks."""
        iterator = iter(serve([b"one", b"two"]))
        next(iterator)
        iterator.close()
        assert list(iterator) == []

    def test_list_is_read_twice(self):
        """A middleware in front may read an app's list twice."""
        result = serve([b"one", b"two"])
        assert list(result) == list(result) == [b"one", b"two"]

    def test_list_is_read_after_close(self):
        """An app's list can be read after ``close()``, as without the middleware."""
        result = serve([b"x", b"y"])
        result.close()
        assert list(result) == [b"x", b"y"]

    @pytest.mark.parametrize("parts", [[], [b"a"], ["ä"], [b"a", "b"], ["a", b"b"]])
    def test_werkzeug_response(self, summaries, parts):
        """Werkzeug's bodies of bytes and text pass through."""
        result = serve(werkzeug_body(parts))
        assert list(result) == [part if type(part) is bytes else part.encode() for part in parts]
        result.close()
        assert [record.levelname for record in summaries] == ["INFO"]


class TestStartResponse:
    """``start_response`` may be called late, again or never; the last status wins."""

    def test_late_call(self, summaries):
        """A generator app starts its response with the first chunk."""

        def app(_environ, start_response):
            start_response("201 Created", [("Content-Type", "text/plain")])
            yield b"late"

        response = request(DockerflowMiddleware(app))
        assert response.status == "201 Created"
        assert "X-Request-ID" in response.headers
        assert summaries[0].code == 201

    def test_no_call(self, summaries):
        """If the app does not call ``start_response``, the summary has no ``code``."""
        result = DockerflowMiddleware(lambda _environ, _start: [])(make_environ(), ignore_start)
        assert list(result) == []
        assert not hasattr(summaries[0], "code")

    def test_second_call_with_exc_info(self, summaries):
        """An error page replaces the page: its status counts, and ``exc_info`` is passed on."""

        def app(_environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            try:
                raise ValueError("late trouble")
            except ValueError:
                start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"error page"]

        server = Server()
        DockerflowMiddleware(app)(make_environ(), server.start_response).close()
        assert server.starts[0][2] is None
        assert server.starts[1][2][0] is ValueError
        assert (summaries[0].code, summaries[0].errno) == (500, 500)

    def test_refused_second_call(self, summaries):
        """A server that has sent the headers raises ``exc_info``: the first status remains."""

        class HeadersSent(Server):
            def start_response(self, status, headers, exc_info=None):
                if exc_info:
                    raise exc_info[1].with_traceback(exc_info[2])
                return super().start_response(status, headers)

        def app(_environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"half"
            try:
                raise ValueError("late trouble")
            except ValueError:
                start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())

        result = DockerflowMiddleware(app)(make_environ(), HeadersSent().start_response)
        with pytest.raises(ValueError, match="late trouble"):
            list(result)
        assert (summaries[0].code, summaries[0].errno) == (200, 500)

    def test_write(self):
        """The server's ``write`` is returned to the app."""
        writes = []

        def app(_environ, start_response):
            write = start_response("200 OK", [("Content-Type", "text/plain")])
            writes.append(write)
            write(b"written ")
            return [b"returned"]

        server = Server()
        result = DockerflowMiddleware(app)(make_environ(), server.start_response)
        assert writes == [server.write]
        assert server.written == [b"written "]
        assert list(result) == [b"returned"]

    @pytest.mark.parametrize(("status", "code"), [("200", 200), ("204 No Content", 204)])
    def test_status_without_a_phrase(self, summaries, status, code):
        """A status may be the number alone."""
        app = DockerflowMiddleware(app_returning([], status))
        app(make_environ(), ignore_start).close()
        assert summaries[0].code == code


class TestEndOfTheResponse:
    """The response is logged once, when it ends, and the app's ``close()`` is called once."""

    @every_end
    @pytest.mark.parametrize("kind", [Body, SizedBody, IteratorBody])
    def test_every_end(self, summaries, no_garbage_collection, end, kind):
        """However a response ends, it is closed and logged exactly once."""
        body = kind(b"one", b"two")
        end(serve(body))
        assert body.closes == 1
        assert [(record.levelno, record.code) for record in summaries] == [(logging.INFO, 200)]
        assert get_request_id() is None

    @every_end
    @pytest.mark.parametrize("kind", [list, tuple, iter, OwnIterator])
    def test_body_without_close(self, summaries, no_garbage_collection, end, kind):
        """A response whose body has no ``close()`` is logged once, too."""
        end(serve(kind([b"one", b"two"])))
        assert [(record.levelno, record.code) for record in summaries] == [(logging.INFO, 200)]
        assert get_request_id() is None

    @every_end
    def test_generator(self, summaries, no_garbage_collection, end):
        """A generator app that was started runs its ``finally`` clause, once."""
        ended = []

        def app(_environ, start_response):
            start_response("200 OK", [])
            try:
                yield b"one"
                yield b"two"
            finally:
                ended.append(get_request_id())

        end(DockerflowMiddleware(app)(make_environ(HTTP_X_REQUEST_ID="r"), ignore_start))
        assert ended in ([], ["r"])
        assert (ended == []) == ("unread" in end.__name__)
        assert [record.levelno for record in summaries] == [logging.INFO]
        assert get_request_id() is None

    @every_end
    def test_werkzeug_response(self, summaries, no_garbage_collection, end):
        """The functions of Werkzeug's ``call_on_close`` run once, with the request ID."""
        closed = []
        response = Response([b"one", b"two"])
        response.call_on_close(lambda: closed.append(get_request_id()))
        end(serve(response(make_environ(), ignore_start), HTTP_X_REQUEST_ID="r"))
        assert closed == ["r"]
        assert len(summaries) == 1
        assert get_request_id() is None

    def test_body_is_iterated_once(self):
        """The app's ``__iter__`` is called once, and not before the server calls ``iter()``."""
        body = Body(b"one")
        result = serve(body)
        assert body.iterations == 0
        list(result)
        result.close()
        assert body.iterations == 1

    def test_unread_body_is_not_iterated(self):
        """``close()`` on an unread body does not iterate it."""
        body = Body(b"one")
        serve(body).close()
        assert (body.iterations, body.closes) == (0, 1)

    def test_logged_at_the_end_of_the_body(self, summaries):
        """The summary is logged after the last chunk, without ``close()``."""
        body = Body(b"one", b"two")
        result = serve(body)
        iterator = iter(result)
        for _ in range(2):
            next(iterator)
            assert (len(summaries), body.closes) == (0, 0)
        assert next(iterator, None) is None
        assert (len(summaries), body.closes) == (1, 1)
        result.close()
        assert (len(summaries), body.closes) == (1, 1)

    def test_logged_at_close(self, summaries):
        """The summary is logged at ``close()`` if the body was not read to its end."""
        result = serve([b"one", b"two"])
        iterator = iter(result)
        next(iterator)
        assert len(summaries) == 0
        result.close()
        assert len(summaries) == 1

    def test_logged_when_the_iterator_is_closed(self, summaries):
        """The summary is logged at ``close()`` on the iterator, while the body still exists."""
        body = Body(b"one", b"two")
        result = serve(body)
        iterator = iter(result)
        next(iterator)
        iterator.close()
        assert (len(summaries), body.closes) == (1, 1)
        del result

    def test_logged_when_the_body_raises(self, summaries):
        """The summary is logged at the exception, and the app's ``close()`` is called."""

        class Failing(Body):
            def __iter__(self):
                yield b"one"
                raise OSError("disk gone")

        body = Failing()
        result = serve(body)
        with pytest.raises(OSError, match="disk gone"):
            list(result)
        assert body.closes == 1
        assert [record.getMessage() for record in summaries] == ["disk gone"]
        result.close()
        assert body.closes == 1
        assert len(summaries) == 1

    def test_close_is_called_before_the_summary(self, summaries):
        """Fields that the app's ``close()`` adds are in the summary."""
        environ = make_environ()

        class Closing(Body):
            def close(self):
                environ["dockerflow.summary"]["n"] = 3

        DockerflowMiddleware(app_returning(Closing()))(environ, ignore_start).close()
        assert summaries[0].n == 3

    def test_client_disconnects(self, summaries):
        """A body that is closed half way is not an error of the app."""
        ended = []

        def chunks():
            try:
                yield b"one"
                yield b"two"
            finally:
                ended.append(True)

        result = serve(chunks())
        next(iter(result))
        result.close()
        assert ended == [True]
        assert [(record.levelno, record.getMessage()) for record in summaries] == [
            (logging.INFO, "")
        ]

    def test_middleware_that_changes_chunks(self, summaries):
        """A generator around the body may stop half way; the server then closes the body."""
        body = Body(b"a", b"b")
        result = serve(body)

        def change():
            for chunk in result:
                yield chunk.upper()

        changed = change()
        assert next(changed) == b"A"
        changed.close()
        result.close()
        assert (len(summaries), body.closes) == (1, 1)

    def test_middleware_that_delegates(self, summaries):
        """A generator with ``yield from`` closes the iterator when it is closed."""
        body = Body(b"a", b"b")
        result = serve(body)

        def delegate():
            yield from result

        delegated = delegate()
        assert next(delegated) == b"a"
        delegated.close()
        assert (len(summaries), body.closes) == (1, 1)
        result.close()
        assert (len(summaries), body.closes) == (1, 1)


class TestErrors:
    """Exceptions are recorded and raised unchanged."""

    @pytest.mark.parametrize(
        "error", [ValueError("no"), SystemExit("no"), GeneratorExit("no"), KeyboardInterrupt("no")]
    )
    def test_app_raises(self, summaries, error):
        """The server gets the same exception object, and the summary has its text."""

        def app(_environ, _start_response):
            raise error

        with pytest.raises(type(error)) as caught:
            DockerflowMiddleware(app)(make_environ(), ignore_start)
        assert caught.value is error
        (summary,) = summaries
        assert (summary.levelno, summary.errno) == (logging.ERROR, 500)
        assert summary.getMessage() == "no"
        assert not hasattr(summary, "code")
        assert get_request_id() is None

    @pytest.mark.parametrize("kind", [iter, ClosingIterator, OwnIterator])
    @pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt("broken")])
    def test_body_raises(self, kind, summaries, error):
        """The chunks before the exception are passed on, and none after it."""

        def chunks():
            yield b"a"
            raise error

        result = serve(kind(chunks()))
        iterator = iter(result)
        assert next(iterator) == b"a"
        with pytest.raises(type(error)) as raised:
            next(iterator)
        assert raised.value is error
        assert list(iterator) == []
        result.close()
        assert [(record.levelname, record.getMessage()) for record in summaries] == [
            ("ERROR", "broken"),
        ]

    def test_body_that_could_continue(self, summaries):
        """A body does not continue after an exception, even if the app's iterator would."""

        class Continuing(Body):
            def __init__(self):
                super().__init__()
                self.steps = iter([b"a", TimeoutError("later"), b"b"])

            def __iter__(self):
                return self

            def __next__(self):
                step = next(self.steps)
                if isinstance(step, Exception):
                    raise step
                return step

        body = Continuing()
        iterator = iter(serve(body))
        assert next(iterator) == b"a"
        with pytest.raises(TimeoutError, match="later"):
            next(iterator)
        assert body.closes == 1
        assert list(iterator) == []
        assert [record.getMessage() for record in summaries] == ["later"]

    def test_not_iterable(self, summaries):
        """Reading a result that is not iterable fails, and the error is logged."""
        result = serve(None)
        with pytest.raises(TypeError, match="not iterable"):
            list(result)
        result.close()
        assert [record.errno for record in summaries] == [500]

    @pytest.mark.parametrize("parts", [["\ud800"], [b"a", "\ud800"]])
    def test_text_that_cannot_be_encoded(self, summaries, parts):
        """Werkzeug's error for a lone surrogate is logged."""
        response = Response(parts, headers={"Content-Length": "1"})
        result = serve(response(make_environ(), ignore_start))
        with pytest.raises(UnicodeEncodeError):
            list(result)
        result.close()
        assert [record.levelname for record in summaries] == ["ERROR"]

    @pytest.mark.parametrize("step", ["__iter__", "__next__", "close"])
    @pytest.mark.parametrize("error", [SystemExit("stop"), GeneratorExit("stop"), OSError("stop")])
    def test_every_step(self, summaries, step, error):
        """``iter()``, each chunk and ``close()`` may raise; the ID is gone after ``close()``."""

        class Stopping:
            def __iter__(self):
                self.raise_at("__iter__")
                return self

            def __next__(self):
                self.raise_at("__next__")
                raise StopIteration

            def close(self):
                self.raise_at("close")

            def raise_at(self, here):
                if here == step:
                    raise error

        result = serve(Stopping())

        def read():
            try:
                list(result)
            finally:
                result.close()

        with pytest.raises(type(error)) as raised:
            read()
        assert raised.value is error
        assert [(record.levelno, record.getMessage()) for record in summaries] == [
            (logging.ERROR, "stop")
        ]
        assert get_request_id() is None

    @pytest.mark.parametrize(
        "end", [read_and_close, close_unread, close_half_way, close_the_iterator_half_way]
    )
    def test_close_raises(self, summaries, end):
        """An exception of the app's ``close()`` is recorded, and raised where it was called."""

        class Unclosable(Body):
            def close(self):
                raise OSError("cannot close")

        with pytest.raises(OSError, match="cannot close"):
            end(serve(Unclosable(b"one", b"two")))
        assert [record.getMessage() for record in summaries] == ["cannot close"]
        assert get_request_id() is None

    def test_close_is_not_called_again_after_it_raised(self):
        """The app's ``close()`` is called once, even if it raises."""

        class Unclosable(Body):
            def close(self):
                super().close()
                raise OSError("cannot close")

        body = Unclosable(b"one")
        result = serve(body)
        with pytest.raises(OSError, match="cannot close"):
            list(result)
        result.close()
        assert body.closes == 1

    def test_close_of_a_dropped_body_raises(self, listen, summaries):
        """Nobody can handle the exception, so it is logged."""
        errors = listen("dockerflow_wsgi")

        class Unclosable(Body):
            def close(self):
                raise OSError("cannot close")

        drop_unread(serve(Unclosable(b"one")))
        assert [record.getMessage() for record in summaries] == ["cannot close"]
        assert len(errors) == 1
        assert "cannot close" in errors[0].exc_text
        assert get_request_id() is None

    @pytest.mark.parametrize("step", ["__iter__", "__next__"])
    def test_close_raises_after_the_body(self, listen, summaries, step):
        """The first exception is raised and recorded; the one of ``close()`` is logged."""
        errors = listen("dockerflow_wsgi")

        class Failing:
            def __iter__(self):
                if step == "__iter__":
                    raise ValueError("the cause")
                return self

            def __next__(self):
                raise ValueError("the cause")

            def close(self):
                raise OSError("the consequence")

        result = serve(Failing())
        with pytest.raises(ValueError, match="the cause"):
            list(result)
        result.close()
        assert [record.getMessage() for record in summaries] == ["the cause"]
        assert len(errors) == 1
        assert "the consequence" in errors[0].exc_text

    def test_close_cannot_be_looked_up(self, summaries):
        """An exception of a property ``close`` is an error of the app."""

        class Odd:
            def __iter__(self):
                return iter(())

            @property
            def close(self):
                raise LookupError("odd")

        result = serve(Odd())
        with pytest.raises(LookupError, match="odd"):
            result.close()
        assert [record.getMessage() for record in summaries] == ["odd"]
        assert get_request_id() is None


class TestWebSockets:
    """`StopIteration` ends a WebSocket connection under gunicorn; it is not a failure."""

    def test_app_raises_stop_iteration(self, summaries):
        """The exception is raised unchanged, and the summary is not an error."""
        error = StopIteration()

        def app(_environ, _start_response):
            raise error

        with pytest.raises(StopIteration) as raised:
            DockerflowMiddleware(app)(make_environ("/chat"), ignore_start)
        assert raised.value is error
        (summary,) = summaries
        assert (summary.levelno, summary.errno, summary.path) == (logging.INFO, 0, "/chat")
        assert summary.getMessage() == ""
        assert not hasattr(summary, "code")
        assert get_request_id() is None

    def test_close_raises_stop_iteration(self, summaries):
        """``StopIteration`` from the ``close()`` of the app's body is not a failure either."""
        error = StopIteration()

        class Ending(Body):
            def close(self):
                raise error

        result = serve(Ending())
        with pytest.raises(StopIteration) as raised:
            close_unread(result)
        assert raised.value is error
        result.close()
        assert [(record.levelno, record.errno) for record in summaries] == [(logging.INFO, 0)]
        assert get_request_id() is None


class FileWrapper:
    """The file wrapper of gunicorn and wsgiref: a class that takes over the file's ``close``."""

    def __init__(self, file, _block_size=8192):
        self.file = file
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self):
        return iter(self.file)


class FileWrapperWithMethod:
    """The file wrapper of waitress: a class with a method ``close``."""

    def __init__(self, file, _block_size=8192):
        self.file = file

    def __iter__(self):
        return iter(self.file)

    def close(self):
        self.file.close()


def file_wrapper_function(file, _block_size=8192):
    """Return the file itself, as uWSGI's file wrapper does."""
    return file


FILE_WRAPPERS = [FileWrapper, FileWrapperWithMethod, file_wrapper_function]


def serve_file(file, wrapper, **keys):
    """Call a wrapped app that returns a file in the server's file wrapper."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](file)

    environ = make_environ(**{"wsgi.file_wrapper": wrapper}, **keys)
    return DockerflowMiddleware(app)(environ, ignore_start)


class TestFiles:
    """The server gets the object that its ``wsgi.file_wrapper`` made, and can send it itself."""

    @pytest.mark.parametrize("wrapper", FILE_WRAPPERS)
    def test_same_object(self, summaries, tmp_path, wrapper):
        """The object is returned, and the summary is logged at its ``close()``."""
        (tmp_path / "file").write_bytes(b"content")
        made = []

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            file = (tmp_path / "file").open("rb")
            made.append(environ["wsgi.file_wrapper"](file, 4096))
            return made[0]

        environ = make_environ(**{"wsgi.file_wrapper": wrapper})
        result = DockerflowMiddleware(app)(environ, ignore_start)
        assert result is made[0]
        assert b"".join(result) == b"content"
        assert len(summaries) == 0
        result.close()
        assert [record.code for record in summaries] == [200]
        assert getattr(result, "file", result).closed
        assert get_request_id() is None

    @pytest.mark.parametrize("wrapper", FILE_WRAPPERS)
    def test_closed_once(self, summaries, wrapper):
        """The file is closed once, even if the server calls ``close()`` again."""
        file = Body(b"x")
        result = serve_file(file, wrapper)
        for _ in range(3):
            result.close()
        assert file.closes == 1
        assert len(summaries) == 1

    def test_dropped(self, summaries, no_garbage_collection):
        """A file wrapper that is dropped is closed and logged."""
        file = Body(b"x")
        drop_unread(serve_file(file, FileWrapper))
        assert file.closes == 1
        assert len(summaries) == 1
        assert get_request_id() is None

    @pytest.mark.parametrize("wrapper", [FileWrapperWithMethod])
    def test_dropped_with_a_method(self, summaries, wrapper):
        """A file wrapper with a ``close`` method is closed and logged by the garbage collector."""
        gc.collect()  # the garbage of other tests
        summaries.records.clear()
        file = Body(b"x")
        drop_unread(serve_file(file, wrapper))
        gc.collect()
        assert file.closes == 1
        assert len(summaries) == 1
        assert get_request_id() is None

    def test_class_stays_in_the_environ(self):
        """Gunicorn looks the class up again to recognize its instances."""
        environ = make_environ(**{"wsgi.file_wrapper": FileWrapper})
        DockerflowMiddleware(hello)(environ, ignore_start).close()
        assert environ["wsgi.file_wrapper"] is FileWrapper

    def test_another_body(self, summaries):
        """A body that the file wrapper did not make is wrapped like any other."""
        environ = make_environ(**{"wsgi.file_wrapper": file_wrapper_function})
        chunks = (chunk for chunk in (b"x", b"y"))
        result = DockerflowMiddleware(app_returning(chunks))(environ, ignore_start)
        assert len(summaries) == 0
        assert list(result) == [b"x", b"y"]
        assert len(summaries) == 1

    @pytest.mark.parametrize("wrapper", FILE_WRAPPERS)
    def test_not_kept_alive(self, no_garbage_collection, wrapper):
        """A closed file is freed without a garbage collection."""
        result = serve_file(Body(b"x"), wrapper)
        freed = weakref.ref(result)
        result.close()
        del result
        assert freed() is None

    def test_object_without_attributes(self, summaries):
        """If ``close`` cannot be replaced, the summary is logged right away."""

        class Fixed:
            __slots__ = ("closes",)

            def __init__(self, _file):
                self.closes = 0

            def close(self):
                self.closes += 1

        result = serve_file(None, Fixed)
        assert (len(summaries), result.closes) == (1, 0)
        assert get_request_id() is None
        result.close()
        assert (len(summaries), result.closes) == (1, 1)

    def test_file_without_close(self, summaries):
        """A file wrapper without ``close`` gets one, and is logged."""
        result = serve_file([b"content"], FileWrapper)
        assert isinstance(result, FileWrapper)
        assert list(result) == [b"content"]
        for _ in range(2):
            result.close()
        assert [record.code for record in summaries] == [200]

    @pytest.mark.parametrize("wrapper", FILE_WRAPPERS)
    def test_close_raises(self, summaries, wrapper):
        """An exception of the file's ``close()`` is recorded and raised."""

        class Unclosable:
            def close(self):
                raise OSError("stale handle")

        result = serve_file(Unclosable(), wrapper)
        with pytest.raises(OSError, match="stale handle"):
            result.close()
        assert [record.getMessage() for record in summaries] == ["stale handle"]
        assert get_request_id() is None


class TestRequestID:
    """Each step of a response has the ID of its request, and it stays until ``close()``."""

    @pytest.mark.parametrize("is_file", [False, True], ids=["body", "file wrapper"])
    def test_every_step(self, is_file):
        """``iter()``, each chunk and ``close()`` see the ID, also after another request's steps."""
        seen = []

        class Noting:
            def __init__(self, _file=None):
                pass

            def __iter__(self):
                seen.append(get_request_id())
                yield b""
                seen.append(get_request_id())

            def close(self):
                seen.append(get_request_id())

        keys = {"wsgi.file_wrapper": Noting} if is_file else {}
        result = serve(Noting(), HTTP_X_REQUEST_ID="one", **keys)
        between = serve([b"x"], HTTP_X_REQUEST_ID="two")
        if not is_file:  # a server sends a file without iterating
            for _ in result:
                list(between)
        result.close()
        assert seen == ["one"] * (1 if is_file else 3)
        between.close()
        assert get_request_id() is None

    def test_iter_after_another_request(self):
        """The app's ``__iter__`` sees the ID, also if another request is served in between."""

        class Noting:
            def __iter__(self):
                seen.append(get_request_id())
                return iter(())

        seen = []
        bodies = [serve(Noting(), HTTP_X_REQUEST_ID=rid) for rid in "ab"]
        for body in bodies:
            assert list(body) == []
        assert seen == ["a", "b"]

    def test_readable_until_close(self, summaries):
        """Access logs written between the last chunk and ``close()`` have the ID."""
        result = serve([b"one"], HTTP_X_REQUEST_ID="r")
        assert get_request_id() == "r"
        assert list(result) == [b"one"]
        assert len(summaries) == 1
        assert get_request_id() == "r"
        result.close()
        assert get_request_id() is None

    def test_readable_until_dropped(self):
        """Without ``close()``, the ID stays until the body is dropped."""
        result = serve([b"one"], HTTP_X_REQUEST_ID="r")
        list(result)
        assert get_request_id() == "r"
        del result
        assert get_request_id() is None

    def test_readable_after_an_exception(self):
        """A server that logs an exception of the body can read the ID."""
        result = serve((1 / 0 for _ in range(1)), HTTP_X_REQUEST_ID="r")
        with pytest.raises(ZeroDivisionError):
            list(result)
        assert get_request_id() == "r"
        result.close()
        assert get_request_id() is None

    @pytest.mark.parametrize("kind", [iter, ClosingIterator, OwnIterator])
    def test_interleaved_chunks(self, kind):
        """Responses that take turns on one thread keep their IDs."""

        def chunks():
            while True:
                yield get_request_id()

        iterators = [iter(serve(kind(chunks()), HTTP_X_REQUEST_ID=rid)) for rid in "abc"]
        seen = [[next(iterator) for iterator in iterators] for _ in range(3)]
        assert seen == [["a", "b", "c"]] * 3

    def test_interleaved_close(self):
        """Closing one response does not change the ID of another."""
        app = DockerflowMiddleware(streaming_id)
        one = app(make_environ(HTTP_X_REQUEST_ID="one"), ignore_start)
        two = app(make_environ(HTTP_X_REQUEST_ID="two"), ignore_start)
        ones, twos = iter(one), iter(two)
        seen = [next(ones), next(twos), next(twos), next(ones)]
        one.close()
        seen.append(next(twos))
        two.close()
        assert seen == [b"one", b"two", b"two", b"one", b"two"]
        assert get_request_id() is None

    @pytest.mark.parametrize("kind", [list, iter, tuple, werkzeug_body])
    @pytest.mark.parametrize("count", [1, 3])
    def test_code_between_the_chunks(self, kind, count):
        """A server or a middleware in front sees the ID of the last chunk that it read."""
        bodies = {rid: serve(kind([b"chunk"] * count), HTTP_X_REQUEST_ID=rid) for rid in ("a", "b")}
        iterators = {rid: iter(body) for rid, body in bodies.items()}
        for expected in [b"chunk"] * count + [None]:
            for rid, iterator in iterators.items():
                assert next(iterator, None) == expected
                assert get_request_id() == rid
        for body in bodies.values():
            body.close()
        assert get_request_id() is None

    def test_werkzeug_response_with_a_generator(self, summaries):
        """A generator in a Werkzeug response sees the ID, and its exception is logged."""

        def chunks():
            yield get_request_id().encode()
            raise ValueError("broken")

        result = serve(werkzeug_body(chunks()), HTTP_X_REQUEST_ID="r")
        iterator = iter(result)
        other = serve([b"another request"])
        assert next(iterator) == b"r"
        with pytest.raises(ValueError, match="broken"):
            next(iterator)
        result.close()
        other.close()
        assert [record.getMessage() for record in summaries] == ["broken", ""]

    @pytest.mark.parametrize("kind", [list, iter, tuple, ClosingIterator])
    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize("is_begun", [True, False])
    def test_reading_after_close(self, kind, count, is_begun):
        """Reading a body that was closed does not change the ID of the current request."""
        result = serve(kind(iter([b"x"] * count)), HTTP_X_REQUEST_ID="inner")
        iterator = iter(result) if is_begun else None
        result.close()
        outer = serve([b""], HTTP_X_REQUEST_ID="outer")
        seen = [get_request_id() for _chunk in iterator or result]
        assert [*seen, get_request_id()] == ["outer"] * (count + 1)
        outer.close()

    @pytest.mark.parametrize("chunks_read", [0, 1, 2])
    def test_late_drop(self, summaries, chunks_read):
        """A body that is dropped during another request does not change that request's ID."""
        body = Body(b"one")
        late = serve(body, HTTP_X_REQUEST_ID="late")
        iterator = iter(late)
        for _ in range(chunks_read):
            next(iterator, None)
        current = serve([b"x"], HTTP_X_REQUEST_ID="current")
        del late, iterator
        assert get_request_id() == "current"
        assert body.closes == 1
        current.close()
        assert get_request_id() is None
        assert sorted(record.rid for record in summaries) == ["current", "late"]

    def test_late_drop_by_the_garbage_collector(self, summaries):
        """A body in a reference cycle is collected during another request without an effect."""
        cycle = [serve(Body(b"one"), HTTP_X_REQUEST_ID="late")]
        next(iter(cycle[0]))
        cycle.append(cycle)
        del cycle
        seen = []

        def app(environ, start_response):
            gc.collect()
            seen.append(get_request_id())
            return hello(environ, start_response)

        request(DockerflowMiddleware(app), HTTP_X_REQUEST_ID="current")
        assert seen == ["current"]
        assert get_request_id() is None
        assert sorted(record.rid for record in summaries) == ["current", "late"]

    def test_body_that_closes_another_one(self):
        """A response whose ``close()`` closes an inner response keeps its ID until the end."""
        inner = serve([b"a", b"b"], HTTP_X_REQUEST_ID="inner")

        class Proxy:
            def __iter__(self):
                return iter(inner)

            def close(self):
                inner.close()

        outer = serve(Proxy(), HTTP_X_REQUEST_ID="outer")
        assert list(outer) == [b"a", b"b"]
        assert get_request_id() == "outer"
        outer.close()
        assert get_request_id() is None


class TestThreads:
    """Responses may be served, closed and dropped on any thread."""

    @every_end
    def test_end_on_another_thread(self, summaries, end):
        """The request ID is gone in every thread when the response has ended on another one."""
        results = [
            DockerflowMiddleware(streaming_id)(make_environ(HTTP_X_REQUEST_ID="one"), ignore_start)
        ]
        assert get_request_id() == "one"
        thread = threading.Thread(target=lambda: end(results.pop()))
        thread.start()
        thread.join()
        assert get_request_id() is None
        assert [record.rid for record in summaries] == ["one"]

    def test_end_in_another_context(self, summaries):
        """The ID is gone in copied contexts, too, in which asyncio runs callbacks."""
        context = contextvars.copy_context()
        result = serve([b"x"], HTTP_X_REQUEST_ID="one")
        context.run(result.close)
        assert context.run(get_request_id) is None
        assert get_request_id() is None
        assert len(summaries) == 1

    def test_many_threads(self, summaries):
        """Each chunk has the ID of its request, and each request has one summary."""
        app = DockerflowMiddleware(streaming_id)

        def send(number):
            return request(app, HTTP_X_REQUEST_ID=f"id-{number}").body == b"id-%d" % number * 3

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(send, range(200)))
        assert sorted(record.rid for record in summaries) == sorted(f"id-{n}" for n in range(200))


@pytest.mark.usefixtures("no_garbage_collection")
class TestMemory:
    """A response leaves no reference cycle, so it is freed without a garbage collection."""

    @every_end
    @pytest.mark.parametrize("kind", [Body, SizedBody, IteratorBody])
    def test_body_is_freed(self, end, kind):
        """The app's body and the environ's objects are freed when the server drops them."""
        freed = []

        class Connection:
            pass

        def app(environ, start_response):
            body = kind(b"one", b"two")
            environ["app.connection"] = Connection()
            freed.extend([weakref.ref(body), weakref.ref(environ["app.connection"])])
            start_response("200 OK", [])
            return body

        end(DockerflowMiddleware(app)(make_environ(), ignore_start))
        assert [one() for one in freed] == [None, None]

    @every_end
    def test_generator_app_is_freed(self, end):
        """A generator app, which holds the environ and ``start_response``, is freed."""
        freed = []

        class Connection:
            pass

        def app(environ, start_response):
            environ["app.connection"] = Connection()
            freed.append(weakref.ref(environ["app.connection"]))
            start_response("200 OK", [])
            yield b"one"
            yield b"two"

        end(DockerflowMiddleware(app)(make_environ(), ignore_start))
        assert [one() for one in freed] == ([] if "unread" in end.__name__ else [None])

    @pytest.mark.parametrize("kind", [iter, ClosingIterator])
    def test_chunk_is_freed_before_the_next_one(self, kind):
        """A chunk that the server has sent is freed before the app makes the next one."""

        class Chunk(bytearray):
            pass

        references = []
        freed = []

        def chunks():
            for _ in range(3):
                freed.extend(reference() is None for reference in references)
                chunk = Chunk(b"x")
                references[:] = [weakref.ref(chunk)]
                held = [chunk]
                del chunk
                yield held.pop()

        iterator = iter(serve(kind(chunks())))
        for _ in range(3):
            next(iterator)
        assert freed == [True, True]

    @pytest.mark.parametrize("is_raised", [False, True])
    def test_exc_info_is_freed(self, is_raised):
        """The frames of ``start_response`` keep no reference to the exception."""

        class TraceableError(Exception):
            pass

        freed = []

        def app(_environ, start_response):
            try:
                raise TraceableError
            except TraceableError as error:
                freed.append(weakref.ref(error))
                start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"x"]

        def start_response(_status, _headers, exc_info=None):
            try:
                if is_raised:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None

        def serve_once():
            try:
                DockerflowMiddleware(app)(make_environ(), start_response).close()
            except TraceableError:
                assert is_raised

        serve_once()
        assert freed[0]() is None

    @pytest.mark.parametrize("is_late", [False, True])
    def test_exception_of_the_app_is_freed(self, is_late):
        """An exception of the app is freed when the server has handled it."""

        class TraceableError(Exception):
            pass

        freed = []

        def fail():
            error = TraceableError()
            freed.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        def app(_environ, start_response):
            if not is_late:
                fail()
            start_response("200 OK", [])
            return (fail() for _ in range(1))

        def serve_once():
            try:
                list(DockerflowMiddleware(app)(make_environ(), ignore_start))
            except TraceableError:
                return

        serve_once()
        assert freed[0]() is None
        assert get_request_id() is None


class TestFinalizers:
    """A body may be dropped at any moment, on any thread."""

    def test_bodies_in_cycles(self):
        """The garbage collector may end bodies while another response sets its request ID.

        Python 3.10 and 3.11 crash if a finalizer sets a context variable at such a moment.
        """
        code = """
import gc
from dockerflow_wsgi import DockerflowMiddleware

gc.set_threshold(40)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"a"]

wrapped = DockerflowMiddleware(app)

def serve():
    return wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *start: None)

for number in range(3_000):
    cycle = [serve()]
    cycle.append(cycle)
    junk = [[] for _ in range(number % 40)]  # changes the moment of the next collection
    serve().close()
"""
        assert run([sys.executable, "-c", code]).returncode == 0

    def test_closed_on_one_thread_and_read_on_another(self, summaries):
        """Each response ends once, even if two threads end it at the same time."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        bodies = []
        try:
            for _ in range(200):
                bodies.append(Body(b"a"))
                result = serve(bodies[-1])
                thread = threading.Thread(target=list, args=(result,))
                thread.start()
                result.close()
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert {body.closes for body in bodies} == {1}
        assert len(summaries) == 200
