"""The middleware between a server and an app: the duties of PEP 3333."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from wsgiref.validate import validator

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator
from wsgi import Server, hello, make_environ, request

from dockerflow_wsgi import CheckRegistry, DockerflowMiddleware, checks, get_request_id


class Body:
    """An iterable that is not its own iterator, and counts what is done to it."""

    def __init__(self, *chunks):
        self.chunks = chunks
        self.iterations = 0
        self.closes = 0

    def __iter__(self):
        self.iterations += 1
        return iter(self.chunks)

    def close(self):
        self.closes += 1


def app_returning(body, status="200 OK"):
    """Make an app that returns a body."""

    def app(_environ, start_response):
        start_response(status, [("Content-Type", "text/plain")])
        return body

    return app


def test_what_the_app_answers_reaches_the_server_as_it_is():
    """Status, headers in order, and body are the app's; only the request ID comes on top."""
    headers = [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]

    def app(_environ, start_response):
        start_response("418 I'm a teapot", headers)
        return [b"short ", b"and stout"]

    server = Server()
    body = DockerflowMiddleware(app)(make_environ(), server.start_response)

    assert server.status == "418 I'm a teapot"
    assert server.starts[0][1][:-1] == headers
    assert len(headers) == 3, "the app's own list was changed"
    assert list(body) == [b"short ", b"and stout"]
    body.close()


def test_what_the_server_says_reaches_the_app():
    """The app gets the very environ, with nothing taken away from it."""
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return hello(environ, start_response)

    environ = make_environ("/a/b", "PUT", HTTP_X_OTHER="kept", **{"test.key": "kept"})
    before = dict(environ)
    DockerflowMiddleware(app)(environ, Server().start_response).close()

    assert before.items() <= seen.items()
    added = seen.keys() - before.keys()
    assert added == {"dockerflow.request_id", "dockerflow.summary", "HTTP_X_REQUEST_ID"}


def test_nothing_is_iterated_before_the_server_does():
    """The body is neither buffered nor looked at in advance."""
    pulled = []

    def chunks():
        for number in range(3):
            pulled.append(number)
            yield b"%d" % number

    body = DockerflowMiddleware(app_returning(chunks()))(make_environ(), Server().start_response)

    assert pulled == []
    iterator = iter(body)
    assert next(iterator) == b"0"
    assert pulled == [0]
    body.close()


@pytest.mark.parametrize("body", [[b"one"], (b"one", b"two"), []])
def test_the_body_has_a_length_if_the_apps_has(body):
    """``len()`` gives what it gives for the app's own iterable."""
    wrapped = DockerflowMiddleware(app_returning(body))
    result = wrapped(make_environ(), Server().start_response)
    assert len(result) == len(body)
    result.close()


@pytest.mark.parametrize("body", [iter([b"one"]), Body(b"one"), (chunk for chunk in [b"one"])])
def test_the_body_has_no_length_if_the_apps_has_none(body):
    """A server must not take a stream for a body of one chunk."""
    result = DockerflowMiddleware(app_returning(body))(make_environ(), Server().start_response)
    with pytest.raises(TypeError):
        len(result)
    result.close()


def test_close_is_called_once_on_the_iterable():
    """The app's ``close`` runs exactly once, on what it returned, however often we are closed."""
    body = Body(b"one", b"two")
    result = DockerflowMiddleware(app_returning(body))(make_environ(), Server().start_response)
    assert list(result) == [b"one", b"two"]
    assert body.closes == 0
    result.close()
    result.close()
    assert body.closes == 1
    assert body.iterations == 1


def test_close_is_called_on_a_body_that_was_never_iterated():
    """A ``HEAD`` request's body is closed all the same."""
    body = Body(b"one")
    DockerflowMiddleware(app_returning(body))(make_environ(), Server().start_response).close()
    assert body.closes == 1
    assert body.iterations == 0


def test_close_is_called_on_a_body_left_half_way(summaries):
    """A client that hangs up leaves no resource open, and is no error of the app."""
    ended = []

    def chunks():
        try:
            yield b"one"
            yield b"two"
        finally:
            ended.append(True)

    result = DockerflowMiddleware(app_returning(chunks()))(make_environ(), Server().start_response)
    next(iter(result))
    result.close()
    assert ended == [True]
    assert [record.levelno for record in summaries] == [logging.INFO]


def test_close_is_called_on_a_body_that_raised(summaries):
    """An exception in the middle of a body does not keep ``close`` from being called."""

    class Failing(Body):
        def __iter__(self):
            yield b"one"
            raise OSError("disk gone")

    body = Failing()
    result = DockerflowMiddleware(app_returning(body))(make_environ(), Server().start_response)
    with pytest.raises(OSError, match="disk gone"):
        list(result)
    result.close()
    assert body.closes == 1
    assert [record.getMessage() for record in summaries] == ["disk gone"]


def test_a_body_without_close_is_fine(summaries):
    """A list has no ``close``; its summary is written all the same."""
    assert request(DockerflowMiddleware(hello)).body == b"hello"
    assert len(summaries) == 1


def test_a_sequence_without_an_iterator_is_a_body():
    """``iter()`` also takes what only has ``__getitem__``, as gunicorn's file wrapper once did."""

    class Sequence:
        def __getitem__(self, index):
            return (b"one", b"two")[index]

    result = DockerflowMiddleware(app_returning(Sequence()))(
        make_environ(), Server().start_response
    )
    assert list(result) == [b"one", b"two"]
    result.close()


def test_an_iterator_of_the_body_does_not_start_anew():
    """Servers and test clients may call ``iter()`` on an iterator again, as ``for`` does."""
    result = DockerflowMiddleware(app_returning([b"one", b"two"]))(
        make_environ(), Server().start_response
    )
    iterator = iter(result)
    assert next(iterator) == b"one"
    assert list(iterator) == [b"two"]
    result.close()


def test_a_list_may_be_read_twice():
    """As the app's own list may be, by a middleware further out that needs all of it."""
    result = DockerflowMiddleware(app_returning([b"one", b"two"]))(
        make_environ(), Server().start_response
    )
    assert list(result) == list(result) == [b"one", b"two"]
    result.close()


def test_a_close_that_cannot_be_looked_up_is_the_apps_failure(summaries):
    """The exchange ends all the same."""

    class Odd(Body):
        @property
        def close(self):
            raise LookupError("odd")

        @close.setter
        def close(self, value):
            pass

    Odd.closes = None
    result = DockerflowMiddleware(app_returning(Odd()))(make_environ(), Server().start_response)
    with pytest.raises(LookupError, match="odd"):
        result.close()
    assert [record.getMessage() for record in summaries] == ["odd"]
    assert get_request_id() is None


def test_headers_that_are_no_list_reach_the_server():
    """PEP 3333 wants a list, and many servers do not insist."""

    def app(_environ, start_response):
        start_response("200 OK", iter([("Content-Type", "text/plain")]))
        return []

    server = Server()
    DockerflowMiddleware(app)(make_environ(), server.start_response).close()
    assert server.headers["Content-Type"] == "text/plain"
    assert "X-Request-ID" in server.headers


def test_start_response_may_be_called_at_the_first_iteration(summaries):
    """A generator app starts its response late; status and header are there all the same."""

    def app(_environ, start_response):
        start_response("201 Created", [("Content-Type", "text/plain")])
        yield b"late"

    response = request(DockerflowMiddleware(app))
    assert response.status == "201 Created"
    assert "X-Request-ID" in response.headers
    assert summaries[0].code == 201


def test_start_response_may_be_called_again_with_exc_info(summaries):
    """The error page replaces the page: its status counts, and ``exc_info`` is passed on."""

    def app(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise ValueError("late trouble")
        except ValueError:
            start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"error page"]

    server = Server()
    body = DockerflowMiddleware(app)(make_environ(), server.start_response)
    body.close()
    assert server.starts[0][2] is None
    assert server.starts[1][2][0] is ValueError
    assert summaries[0].code == 500
    assert summaries[0].errno == 500


def test_a_refused_second_start_response_changes_nothing(summaries):
    """If the headers are out, the server raises ``exc_info``: the first status remains."""

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
    result.close()
    assert summaries[0].code == 200
    assert summaries[0].errno == 500


def test_exc_info_is_dropped():
    """No reference to the exception stays behind in our frames: no cycle with its traceback."""
    import gc
    import weakref

    class Traceable(Exception):  # noqa: N818
        pass

    seen = []

    def app(_environ, start_response):
        try:
            raise Traceable
        except Traceable as error:
            seen.append(weakref.ref(error))
            start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"x"]

    def forgetful(_status, _headers, exc_info=None):
        del exc_info

    gc.disable()
    try:
        DockerflowMiddleware(app)(make_environ(), forgetful).close()
        assert seen[0]() is None
    finally:
        gc.enable()


def test_exc_info_that_the_server_raises_is_dropped_too():
    """Its traceback then leads through our frame, which must not lead back to it."""
    import gc

    class Traceable(Exception):  # noqa: N818
        pass

    def app(_environ, start_response):
        try:
            raise Traceable
        except Traceable:
            start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())

    def refusing(_status, _headers, exc_info=None):
        try:
            raise exc_info[1].with_traceback(exc_info[2])
        finally:
            exc_info = None

    def serve():
        try:
            DockerflowMiddleware(app)(make_environ(), refusing)
        except Traceable as error:
            return weakref.ref(error)

    gc.disable()
    try:
        assert serve()() is None
    finally:
        gc.enable()


def test_the_servers_write_callable_is_returned():
    """Old apps that write imperatively write to the server itself."""
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
    result.close()


@pytest.mark.parametrize(("status", "code"), [("200", 200), ("204 No Content", 204)])
def test_a_status_needs_no_reason_phrase(summaries, status, code):
    """Some apps send the bare number."""
    app = DockerflowMiddleware(app_returning([], status))
    app(make_environ(), Server().start_response).close()
    assert summaries[0].code == code


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), GeneratorExit("end")])
def test_what_the_app_raises_is_recorded_and_raised_on(summaries, error):
    """The very exception goes on to the server, and the summary tells it."""

    def app(_environ, _start_response):
        raise error

    with pytest.raises(type(error)) as caught:
        DockerflowMiddleware(app)(make_environ(), Server().start_response)
    assert caught.value is error
    (summary,) = summaries
    assert summary.levelno == logging.ERROR
    assert summary.errno == 500
    assert summary.getMessage() == str(error)
    assert not hasattr(summary, "code")


def test_what_close_raises_is_recorded_and_raised_on(summaries):
    """A failing ``close`` is the app's failure like any other."""

    class Unclosable(Body):
        def close(self):
            raise OSError("cannot close")

    result = DockerflowMiddleware(app_returning(Unclosable()))(
        make_environ(), Server().start_response
    )
    with pytest.raises(OSError, match="cannot close"):
        result.close()
    assert [record.getMessage() for record in summaries] == ["cannot close"]


@pytest.mark.parametrize("step", ["__iter__", "__next__", "close"])
@pytest.mark.parametrize("error", [SystemExit("stop"), GeneratorExit("stop")])
def test_what_ends_a_process_is_recorded_at_every_step(summaries, step, error):
    """A worker that is stopped in the middle of a response has its summary."""

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

    result = DockerflowMiddleware(app_returning(Stopping()))(
        make_environ(), Server().start_response
    )

    def serve():
        try:
            list(result)
        finally:
            result.close()

    with pytest.raises(type(error)):
        serve()
    assert [record.getMessage() for record in summaries] == ["stop"]


@pytest.mark.parametrize("wrapped", [False, True], ids=["body", "file wrapper"])
def test_every_step_of_a_body_sees_its_own_request(wrapped):
    """``iter()``, each chunk and ``close()``, also after another request has come between."""
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

    app = DockerflowMiddleware(app_returning(Noting()))
    file_wrapper = {"wsgi.file_wrapper": Noting} if wrapped else {}
    result = app(make_environ(HTTP_X_REQUEST_ID="one", **file_wrapper), Server().start_response)
    other = DockerflowMiddleware(hello)
    between = other(make_environ(HTTP_X_REQUEST_ID="two"), Server().start_response)
    if not wrapped:  # the server may send the file by itself, without iterating
        for _ in result:
            list(between)
    result.close()
    assert set(seen) == {"one"}
    between.close()


def test_what_is_no_body_fails_in_the_server(summaries):
    """An app that returns ``None`` fails as it would alone, at the iteration, and is logged."""
    result = DockerflowMiddleware(app_returning(None))(make_environ(), Server().start_response)
    with pytest.raises(TypeError, match="not iterable"):
        iter(result)
    result.close()
    assert summaries[0].errno == 500


def test_the_summary_is_written_at_close(summaries):
    """The response is over when the server closes it, not before."""
    result = DockerflowMiddleware(hello)(make_environ(), Server().start_response)
    list(result)
    assert len(summaries) == 0
    result.close()
    assert len(summaries) == 1


class FileWrapper:
    """What gunicorn, wsgiref and waitress have: a class, recognised again by its type."""

    def __init__(self, file, _block_size=8192):
        self.file = file
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self):
        return iter(self.file)


def uwsgi_sendfile(file, _block_size=8192):
    """Return the file itself, as uWSGI's file wrapper does."""
    return file


@pytest.mark.parametrize("file_wrapper", [FileWrapper, uwsgi_sendfile])
def test_a_file_wrapper_is_returned_itself(summaries, tmp_path, file_wrapper):
    """The server gets the object that it made, so that it can send the file by itself."""
    (tmp_path / "file").write_bytes(b"content")
    made = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        file = (tmp_path / "file").open("rb")
        made.append(environ["wsgi.file_wrapper"](file, 4096))
        return made[0]

    environ = make_environ(**{"wsgi.file_wrapper": file_wrapper})
    result = DockerflowMiddleware(app)(environ, Server().start_response)
    assert result is made[0]
    assert b"".join(result) == b"content"
    assert len(summaries) == 0
    result.close()
    result.close()
    assert [record.code for record in summaries] == [200]
    assert getattr(result, "file", result).closed


def test_the_servers_file_wrapper_class_stays_in_the_environ():
    """gunicorn asks ``isinstance(body, environ["wsgi.file_wrapper"])`` afterwards."""
    environ = make_environ(**{"wsgi.file_wrapper": FileWrapper})
    DockerflowMiddleware(hello)(environ, Server().start_response).close()
    assert environ["wsgi.file_wrapper"] is FileWrapper


def test_a_body_beside_a_file_wrapper_is_none(summaries):
    """A server whose file wrapper is a function makes no file of what the app returns itself."""
    environ = make_environ(**{"wsgi.file_wrapper": uwsgi_sendfile})
    chunks = (chunk for chunk in (b"x", b"y"))
    result = DockerflowMiddleware(app_returning(chunks))(environ, Server().start_response)
    assert list(result) == [b"x", b"y"]
    assert len(summaries) == 0
    result.close()
    assert len(summaries) == 1


def test_a_wrapped_file_is_not_kept_alive():
    """Neither by us nor by a cycle, once it is closed."""
    import gc

    class Wrapper:
        def __init__(self, file):
            self.file = file

        def close(self):
            self.file.close()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](Body(b"x"))

    environ = make_environ(**{"wsgi.file_wrapper": Wrapper})
    gc.disable()
    try:
        result = DockerflowMiddleware(app)(environ, Server().start_response)
        file = weakref.ref(result)
        result.close()
        del result
        assert file() is None
    finally:
        gc.enable()


def test_a_file_wrapper_that_takes_no_attribute_still_gets_its_summary(summaries):
    """A server's own C type cannot be watched: its summary is written at once."""

    class Fixed:
        __slots__ = ("closes",)

        def __init__(self, _file):
            self.closes = 0

        def close(self):
            self.closes += 1

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](None)

    environ = make_environ(**{"wsgi.file_wrapper": Fixed})
    result = DockerflowMiddleware(app)(environ, Server().start_response)
    assert len(summaries) == 1
    result.close()
    assert result.closes == 1
    assert len(summaries) == 1


def test_a_close_of_a_wrapped_file_that_raises_is_recorded(summaries):
    """Also a file's ``close`` is the app's."""

    class Unclosable:
        def close(self):
            raise OSError("stale handle")

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](Unclosable())

    environ = make_environ(**{"wsgi.file_wrapper": FileWrapper})
    result = DockerflowMiddleware(app)(environ, Server().start_response)
    with pytest.raises(OSError, match="stale handle"):
        result.close()
    assert [record.getMessage() for record in summaries] == ["stale handle"]


def streaming_id(_environ, start_response):
    """Stream the current request ID, three times."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(3):
        yield (get_request_id() or "none").encode()


def test_interleaved_responses_on_one_thread_keep_their_ids():
    """Each step of a response sees its own request, in whatever order the steps come."""
    app = DockerflowMiddleware(streaming_id)
    one = app(make_environ(HTTP_X_REQUEST_ID="one"), Server().start_response)
    two = app(make_environ(HTTP_X_REQUEST_ID="two"), Server().start_response)
    ones, twos = iter(one), iter(two)
    seen = [next(ones), next(twos), next(twos), next(ones)]
    one.close()
    seen.append(next(twos))
    two.close()
    assert seen == [b"one", b"two", b"two", b"one", b"two"]
    assert get_request_id() is None


def flask_body(chunks):
    """Make the body that Flask and Werkzeug return."""
    return Response(chunks)(make_environ(), Server().start_response)


@pytest.mark.parametrize("make", [list, iter, tuple, flask_body])
@pytest.mark.parametrize("count", [1, 3])
def test_code_around_a_body_sees_its_request(make, count):
    """As an outer middleware or a server that logs between the chunks of interleaved bodies."""

    def app(_environ, start_response):
        start_response("200 OK", [])
        return make([b"chunk"] * count)

    wrapped = DockerflowMiddleware(app)
    bodies = {
        rid: wrapped(make_environ(HTTP_X_REQUEST_ID=rid), lambda *_: None) for rid in ("a", "b")
    }
    iterators = {}
    for _ in range(count):
        for rid, body in bodies.items():
            if rid not in iterators:
                iterators[rid] = iter(body)
            assert next(iterators[rid]) == b"chunk"
            assert get_request_id() == rid
    for body in bodies.values():
        body.close()
    again = wrapped(make_environ(HTTP_X_REQUEST_ID="c"), lambda *_: None)
    other = wrapped(make_environ(HTTP_X_REQUEST_ID="d"), lambda *_: None)
    assert [get_request_id() for _chunk in again] == ["c"] * count
    again.close()
    other.close()


@pytest.mark.parametrize("make", [list, iter, tuple, flask_body])
def test_code_around_interleaved_bodies_sees_its_request_at_their_end(make):
    """Also where all bodies were begun before, as on uWSGI's asynchronous cores."""

    def app(_environ, start_response):
        start_response("200 OK", [])
        return make([b"chunk"])

    wrapped = DockerflowMiddleware(app)
    bodies = {
        rid: wrapped(make_environ(HTTP_X_REQUEST_ID=rid), lambda *_: None) for rid in ("a", "b")
    }
    iterators = {rid: iter(body) for rid, body in bodies.items()}
    for expected in (b"chunk", None):
        for rid, iterator in iterators.items():
            assert next(iterator, None) == expected
            assert get_request_id() == rid
    for body in bodies.values():
        body.close()


@pytest.mark.parametrize("kind", [iter, ClosingIterator])
def test_a_chunk_is_not_kept_while_the_next_is_made(kind):
    """A server that drops it has its memory back."""

    class Chunk(bytearray):
        pass

    dropped = []

    def chunks():
        for _ in range(3):
            dropped.extend(kept() is None for kept in references)
            chunk = Chunk(b"x")
            references[:] = [weakref.ref(chunk)]
            held = [chunk]
            del chunk
            yield held.pop()

    references = []
    wrapped = DockerflowMiddleware(app_returning(kind(chunks())))
    body = wrapped(make_environ(), lambda *_: None)
    iterator = iter(body)
    for _ in range(3):
        next(iterator)
    body.close()
    assert dropped == [True, True]


def test_a_list_is_there_after_its_close():
    """As the bare app's is."""
    body = DockerflowMiddleware(app_returning([b"x", b"y"]))(make_environ(), lambda *_: None)
    body.close()
    assert len(body) == 2
    assert list(body) == [b"x", b"y"]


def test_the_first_failure_of_a_response_is_the_one_that_is_told(summaries):
    """What ``close()`` raises may only follow from it."""

    class Failing:
        def __iter__(self):
            raise ValueError("the cause")

        def close(self):
            raise OSError("the consequence")

    result = DockerflowMiddleware(app_returning(Failing()))(make_environ(), Server().start_response)
    with pytest.raises(ValueError, match="the cause"):
        iter(result)
    with pytest.raises(OSError, match="the consequence"):
        result.close()
    assert [record.getMessage() for record in summaries] == ["the cause"]


@pytest.mark.parametrize("path", ["/__lbheartbeat__", "/__version__"])
def test_a_server_that_refuses_an_answer_is_told_in_the_summary(listen, path):
    """Whatever path it was; the level that probes need is not asked for."""
    records = listen("request.summary", logging.INFO)

    def refuse(*_arguments):
        seen.append(get_request_id())
        raise BrokenPipeError("gone")

    seen = []
    with pytest.raises(BrokenPipeError):
        DockerflowMiddleware(hello, version_path="/nowhere")(
            make_environ(path, HTTP_X_REQUEST_ID="r-1"), refuse
        )
    assert [(made.levelno, made.getMessage(), made.rid) for made in records] == [
        (logging.ERROR, "gone", "r-1")
    ]
    assert seen == ["r-1"]
    assert get_request_id() is None


def test_close_in_another_thread_ends_the_request_everywhere(summaries):
    """The thread that called the app must not go on under a request that is over."""
    app = DockerflowMiddleware(streaming_id)
    result = app(make_environ(HTTP_X_REQUEST_ID="one"), Server().start_response)
    assert get_request_id() == "one"
    thread = threading.Thread(target=result.close)
    thread.start()
    thread.join()
    assert get_request_id() is None
    assert [record.rid for record in summaries] == ["one"]


@pytest.mark.parametrize("path", ["/", "/__lbheartbeat__"])
def test_a_request_within_a_request_gives_the_outer_one_back(path):
    """An app that calls another wrapped app goes on under its own ID."""
    inner = DockerflowMiddleware(hello)
    seen = []

    def outer(environ, start_response):
        request(inner, path, HTTP_X_REQUEST_ID="inner")
        seen.append(get_request_id())
        return hello(environ, start_response)

    request(DockerflowMiddleware(outer), HTTP_X_REQUEST_ID="outer")
    assert seen == ["outer"]
    assert get_request_id() is None


def test_threads_do_not_see_each_others_requests(summaries):
    """Many requests at once: each chunk has its own request's ID, each has one summary."""
    app = DockerflowMiddleware(streaming_id)

    def ask(number):
        return request(app, HTTP_X_REQUEST_ID=f"id-{number}").body == b"id-%d" % number * 3

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))
    assert sorted(record.rid for record in summaries) == sorted(f"id-{n}" for n in range(200))


def test_wrapped_twice_there_is_one_summary_and_one_id(summaries):
    """Wrapping an app by mistake twice changes nothing."""
    response = request(DockerflowMiddleware(DockerflowMiddleware(hello)))
    assert len(summaries) == 1
    assert summaries[0].rid == response.headers["X-Request-ID"]


def test_wrapped_twice_no_check_gets_lost():
    """The outer one answers, with the checks of the inner one."""
    inner = DockerflowMiddleware(hello)
    inner.check(lambda: 1 / 0, name="failing")
    assert request(DockerflowMiddleware(inner), "/__heartbeat__").status.startswith("500")


def test_wrapped_twice_nothing_that_the_inner_one_was_told_gets_lost(summaries, tmp_path):
    """The outer one takes over settings, hooks and version callback that it is not given itself."""
    reports = []
    seen = []

    @contextmanager
    def context():
        seen.append("context")
        yield

    inner = DockerflowMiddleware(
        hello,
        heartbeat_failed_level="error",
        heartbeat_failed_status_code=503,
        heartbeat_details=lambda _environ: False,
        on_heartbeat=reports.append,
        check_context=context,
        summary_extra=lambda _environ: {"extra": "inner"},
    )
    inner.check(lambda: checks.Warning("slow"), name="slow")
    outer = DockerflowMiddleware(
        ProxyFix(inner), heartbeat_failed_level="warning", version_path=None
    )
    inner.version_callback(lambda _root: {"version": "inner"})

    heartbeat = request(outer, "/__heartbeat__")

    assert heartbeat.status.startswith("503 ")
    assert b'"details"' not in heartbeat.body
    assert len(reports) == 1
    assert seen == ["context"]
    assert summaries[0].extra == "inner"
    assert b'"inner"' in request(outer, "/__version__").body
    own = DockerflowMiddleware(inner, version_path=tmp_path)
    assert request(own, "/__version__").status.startswith("404 ")


def test_wrapped_twice_the_inner_ones_settings_come_before_the_environments(monkeypatch):
    """They were read from there already, where the inner one was not given them."""
    monkeypatch.setenv("DOCKERFLOW_CHECK_TIMEOUT", "2")
    monkeypatch.setenv("DOCKERFLOW_HEARTBEAT_TTL", "7")
    inner = DockerflowMiddleware(hello, check_timeout=None)
    outer = DockerflowMiddleware(inner)
    assert outer.settings == inner.settings
    assert (outer.settings.check_timeout, outer.settings.heartbeat_ttl) == (None, 7)


def test_an_inner_one_that_is_switched_off_is_not_there():
    """Who disabled it wants the outer one, with settings of its own."""
    inner = DockerflowMiddleware(hello, disabled=True, heartbeat_ttl=7)
    outer = DockerflowMiddleware(inner)
    assert request(outer, "/__lbheartbeat__").status == "200 OK"
    assert outer.settings.heartbeat_ttl == 0


def test_with_a_registry_of_its_own_nothing_is_taken_over():
    """Who passes one means two middlewares."""
    inner = DockerflowMiddleware(hello, heartbeat_ttl=7)
    inner.check(lambda: 1 / 0, name="failing")
    outer = DockerflowMiddleware(inner, registry=CheckRegistry())
    assert request(outer, "/__heartbeat__").status == "200 OK"
    assert outer.settings.heartbeat_ttl == 0


def test_a_mounted_app_answers_its_own_endpoints(summaries):
    """Below a prefix the paths are relative to the mount; the outer app's stay as they are."""
    inner = DockerflowMiddleware(hello)
    inner.check(lambda: [], name="inner")
    outer = DockerflowMiddleware(DispatcherMiddleware(hello, {"/sub": inner}))
    outer.check(lambda: [], name="outer")
    assert b'"inner"' in request(outer, "/sub/__heartbeat__").body
    assert b'"outer"' in request(outer, "/__heartbeat__").body
    request(outer, "/sub/page")
    assert [record.path for record in summaries] == [
        "/sub/__heartbeat__",
        "/__heartbeat__",
        "/sub/page",
    ]


def test_a_path_may_be_missing():
    """PEP 3333: a variable that would be empty may be left out."""
    environ = make_environ()
    del environ["PATH_INFO"]
    server = Server()
    result = DockerflowMiddleware(hello)(environ, server.start_response)
    assert list(result) == [b"hello"]
    result.close()


@pytest.mark.parametrize("source", ["keyword", "environment"])
def test_disabled_every_request_goes_straight_to_the_app(monkeypatch, summaries, source):
    """The off switch leaves nothing of ours in the way, not even for the endpoints."""
    if source == "environment":
        monkeypatch.setenv("DOCKERFLOW_DISABLED", "1")
    app = DockerflowMiddleware(hello, **({"disabled": True} if source == "keyword" else {}))
    environ = make_environ("/__heartbeat__")
    server = Server()
    assert app(environ, server.start_response) == [b"hello"]
    assert "dockerflow.request_id" not in environ
    assert "X-Request-ID" not in server.headers
    assert len(summaries) == 0


def test_two_middlewares_know_nothing_of_each_other():
    """Each has checks of its own, unless they share a registry."""
    one, two = DockerflowMiddleware(hello), DockerflowMiddleware(hello)
    one.check(lambda: [], name="only_one")
    assert b"only_one" in request(one, "/__heartbeat__").body
    assert b"only_one" not in request(two, "/__heartbeat__").body
    three = DockerflowMiddleware(hello, registry=one.registry)
    assert b"only_one" in request(three, "/__heartbeat__").body


def test_an_empty_registry_is_used_when_given():
    """An empty registry counts as given: checks may be added to it later."""
    registry = CheckRegistry()
    app = DockerflowMiddleware(hello, registry=registry)
    assert app.registry is registry


def test_an_unknown_keyword_is_a_type_error():
    """A typo is named, with the setting that was meant."""
    with pytest.raises(TypeError, match=r"'check_timeuot' \(did you mean 'check_timeout'\?\)"):
        DockerflowMiddleware(hello, check_timeuot=3)
    with pytest.raises(TypeError, match=r"'disable' .*, 'zzz' \(the settings: version_path, "):
        DockerflowMiddleware(hello, disable=True, zzz=1)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"app": None}, "app must be a WSGI application"),
        ({"registry": 3}, "registry must be a CheckRegistry"),
        ({"db": "sqlite://"}, "db must be an engine, .* not a str"),
        ({"redis": "redis://:s3cr3t@h"}, "redis must be a client"),
        ({"migrate": "alembic.ini"}, "migrate must be an alembic.config.Config"),
        ({"on_heartbeat": 5}, "on_heartbeat must be callable"),
        ({"summary_extra": {"a": 1}}, "summary_extra must be callable"),
    ],
)
def test_a_wrong_object_is_a_type_error(wrong, text):
    """It is refused when the middleware is built, and not at each request; no secret is shown."""
    with pytest.raises(TypeError, match=text) as caught:
        DockerflowMiddleware(**{"app": hello, **wrong})
    assert "s3cr3t" not in str(caught.value)


def test_built_in_checks_are_registered_under_their_names():
    """What is given is checked; nothing of it is touched while the middleware is built."""
    app = DockerflowMiddleware(hello, db=object(), redis=object(), migrate=object())
    assert app.registry.names == (
        "check_database_connected",
        "check_redis_connected",
        "check_migrations_applied",
    )


def test_decorators_return_the_function():
    """A decorated function can be used, and decorated, again."""
    app = DockerflowMiddleware(hello)

    def function(*_arguments):
        return []

    assert app.check(function) is function
    assert app.check(name="two")(function) is function
    assert app.version_callback(function) is function
    app.init_check(function, "object", name="three")
    assert app.registry.names == ("function", "two", "three")


def test_the_middleware_is_a_valid_app_around_a_valid_app(summaries):
    """Both sides hold to PEP 3333, as far as `wsgiref.validate` can tell."""
    app = DockerflowMiddleware(validator(hello))
    for path in ("/", "/__version__", "/__heartbeat__", "/__lbheartbeat__"):
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            assert request(app, path, method).status
    assert len(summaries) == 16


def test_a_file_that_cannot_be_closed_has_its_summary(summaries):
    """The server's wrapper has a ``close()`` to call, though the file has none."""

    class Wrapper:
        def __init__(self, chunks):
            self.chunks = chunks

        def __iter__(self):
            return iter(self.chunks)

    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"]([b"content"])

    environ = make_environ(**{"wsgi.file_wrapper": Wrapper})
    result = DockerflowMiddleware(app)(environ, Server().start_response)
    assert isinstance(result, Wrapper)
    assert list(result) == [b"content"]
    for _ in range(2):
        result.close()
    assert [record.code for record in summaries] == [200]


def test_an_app_that_probes_another_one_keeps_its_own_request():
    """In the same process and on the same thread: the probe's request ID goes with the probe."""
    other = DockerflowMiddleware(hello)
    seen = []

    def app(environ, start_response):
        seen.append(get_request_id())
        seen.append(request(other, "/__lbheartbeat__").headers["X-Request-ID"])
        seen.append(get_request_id())
        return hello(environ, start_response)

    request(DockerflowMiddleware(app), HTTP_X_REQUEST_ID="one")
    assert (seen[0], seen[2]) == ("one", "one")
    assert seen[1] != "one"
