"""What an app yields is passed on as it is, each chunk as a part of its request."""

from __future__ import annotations

import gc
import sys
import weakref
from functools import partial

import pytest
from programs import run
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator
from wsgi import Server, make_environ

from dockerflow_wsgi import DockerflowMiddleware, get_request_id


class Plain:
    """An iterator of an app's own class."""

    def __init__(self, chunks):
        self.chunks = chunks

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)


@pytest.fixture(params=[iter, ClosingIterator, Plain])
def kind(request):
    """Make each kind of body of a generator: itself, Werkzeug's, one of an app's own."""
    return request.param


def serve(body, **keys):
    """Call an app that returns a body; return what the server gets."""

    def app(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    return DockerflowMiddleware(app)(make_environ(**keys), Server().start_response)


@pytest.fixture
def summaries(listen):
    """Keep the summaries."""
    return listen("request.summary")


def test_chunks_are_passed_on_as_they_are(kind, summaries):
    """The very objects, the empty ones and falsy ones too, and no more of them."""
    given = [b"a", b"", bytearray(b"b"), None, 0]
    result = serve(kind(chunk for chunk in given))
    got = list(result)
    result.close()
    assert all(one is other for one, other in zip(got, given, strict=True))
    assert [record.levelname for record in summaries] == ["INFO"]


def test_nothing_is_asked_for_in_advance(kind):
    """A chunk is made when the server asks for it, and the first not before."""
    made = []

    def chunks():
        for number in range(3):
            made.append(number)
            yield b"x"

    iterator = iter(serve(kind(chunks())))
    assert made == []
    next(iterator)
    next(iterator)
    assert made == [0, 1]


def test_chunks_of_interleaved_bodies_know_their_request(kind):
    """The first one too, when another request came after ``iter()``."""

    def chunks():
        while True:
            yield get_request_id()

    iterators = [iter(serve(kind(chunks()), HTTP_X_REQUEST_ID=rid)) for rid in "abc"]
    seen = [[next(iterator) for iterator in iterators] for _ in range(3)]
    assert seen == [["a", "b", "c"]] * 3


def test_a_body_that_is_asked_for_its_iterator_knows_its_request():
    """Also after another request has come."""

    class Asked:
        def __iter__(self):
            asked.append(get_request_id())
            return iter(())

    asked = []
    bodies = [serve(Asked(), HTTP_X_REQUEST_ID=rid) for rid in "ab"]
    for body in bodies:
        assert list(body) == []
    assert asked == ["a", "b"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt("broken")])
def test_what_an_app_raises_is_raised_and_in_the_summary(kind, summaries, error):
    """After the chunks before it."""

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


def test_a_server_that_lets_go_of_a_body_is_no_failure(kind, summaries):
    """A client that has gone: what is left of the body is not asked for, and is freed."""

    def chunks():
        while True:
            yield b"x"

    body = chunks()
    freed = weakref.ref(body)
    result = serve(kind(body))
    iterator = iter(result)
    next(iterator)
    result.close()
    del body, result, iterator
    gc.collect()
    assert freed() is None
    assert [(record.levelname, record.getMessage()) for record in summaries] == [("INFO", "")]


class Stubborn:
    """An iterator that goes on after it has raised."""

    def __init__(self):
        self.steps = iter([b"a", TimeoutError("later"), b"b"])

    def __iter__(self):
        return self

    def __next__(self):
        step = next(self.steps)
        if isinstance(step, Exception):
            raise step
        return step


@pytest.mark.parametrize("kind", [iter, ClosingIterator])
def test_an_iterator_may_go_on_after_it_raised(kind):
    """In Werkzeug's iterator too, as its middlewares put it around any app's body."""
    iterator = iter(serve(kind(Stubborn())))
    assert next(iterator) == b"a"
    with pytest.raises(TimeoutError, match="later"):
        next(iterator)
    assert list(iterator) == [b"b"]


@pytest.mark.parametrize("kind", [iter, Plain])
def test_a_chunk_that_the_server_drops_is_freed(kind):
    """Also before the next one is asked for, as while a slow client is waited for."""

    class Chunk(bytearray):
        pass

    def chunks():
        box = [Chunk(b"x")]
        freed.append(weakref.ref(box[0]))
        yield box.pop()

    freed = []
    iterator = iter(serve(kind(chunks())))
    next(iterator)
    assert freed[0]() is None


def respond(response, **keys):
    """Return the body that a response of Werkzeug's gives an app to return."""
    return response(make_environ(**keys), Server().start_response)


@pytest.mark.parametrize("parts", [[], [b"a"], ["ä"], [b"a", "b"], ["a", b"b"]])
def test_a_response_of_werkzeug_is_passed_on_as_it_is(summaries, parts):
    """Whatever Werkzeug has to do for it."""
    result = serve(respond(Response(parts)))
    assert list(result) == [part if type(part) is bytes else part.encode() for part in parts]
    result.close()
    assert [record.levelname for record in summaries] == ["INFO"]


def test_a_generator_in_werkzeugs_iterator_is_asked_without_detours():
    """It itself, and not by way of Werkzeug's iterator, which takes 1 us of a request to Flask."""

    def chunks():
        callers.append(sys._getframe(1).f_code)
        yield b"a"

    callers = []
    assert list(serve(ClosingIterator(chunks()))) == [b"a"]
    assert len(callers) == 1
    assert ClosingIterator.__next__.__code__ not in callers


def test_a_next_that_a_library_put_into_werkzeugs_iterator_is_called(monkeypatch):
    """As some do that take a broken connection for the end of a body."""
    made = ClosingIterator.__next__
    monkeypatch.setattr(ClosingIterator, "__next__", lambda self: made(self).upper())
    assert list(serve(respond(Response(b"a")))) == [b"A"]


PATCHED = """
from werkzeug.wsgi import ClosingIterator
made = ClosingIterator.__next__
ClosingIterator.__next__ = lambda self: made(self).upper()
from dockerflow_wsgi import DockerflowMiddleware
body = ClosingIterator(chunk for chunk in (b"a", b"b"))
wrapped = DockerflowMiddleware(lambda environ, start_response: body)
print(list(wrapped({}, print)))
"""


def test_a_next_that_a_library_put_there_before_us_is_called():
    """As do those that start with the interpreter."""
    command = [sys.executable, "-c", PATCHED]
    done = run(command, check=True)
    assert (done.stdout, done.stderr) == ("[b'A', b'B']\n", "")


def test_a_response_of_werkzeug_is_closed_once():
    """By the server alone, although a middleware around it may close what it iterates."""
    closed = []
    response = Response(b"a")
    response.call_on_close(lambda: closed.append(get_request_id()))
    result = serve(respond(response), HTTP_X_REQUEST_ID="r")

    def pass_on():
        yield from result

    passed = pass_on()
    next(passed)
    passed.close()
    assert closed == []
    result.close()
    result.close()
    assert closed == ["r"]


class Late(Response):
    """A response that makes its body when it is asked for it."""

    def iter_encoded(self):
        """Make the body, in place of what it was given."""
        return late()


def late():
    """Make chunks, the last of which fails."""
    yield get_request_id().encode()
    raise ValueError("broken")


@pytest.mark.parametrize("make", [lambda: Response(late()), lambda: Late(b"a")])
def test_a_response_of_werkzeug_that_makes_its_body_late_is_watched(summaries, make):
    """The request is known then, and what is raised is in the summary."""
    result = serve(respond(make()), HTTP_X_REQUEST_ID="r")
    iterator = iter(result)
    other = serve([b"another request"])
    assert next(iterator) == b"r"
    with pytest.raises(ValueError, match="broken"):
        next(iterator)
    result.close()
    other.close()
    assert [record.getMessage() for record in summaries] == ["broken", ""]


@pytest.mark.parametrize("parts", [["\ud800"], [b"a", "\ud800"]])
def test_a_part_that_werkzeug_cannot_encode_is_in_the_summary(summaries, parts):
    """Half of a surrogate pair, which no UTF-8 has; found late where the length is told."""
    response = Response(parts, headers={"Content-Length": "1"})
    result = serve(respond(response))
    with pytest.raises(UnicodeEncodeError):
        list(result)
    result.close()
    assert [record.levelname for record in summaries] == ["ERROR"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda chunks: chunks.__next__, [b"a", b"b"]),
        (lambda chunks: partial(lambda chunks: next(chunks).upper(), chunks), [b"A", b"B"]),
    ],
)
def test_what_werkzeugs_iterator_does_for_a_chunk_is_done(make, expected):
    """Whatever a later Werkzeug, or a library, has it call."""
    body = ClosingIterator(())
    body._next = make(chunk for chunk in (b"a", b"b"))
    assert list(serve(body)) == expected


def test_a_werkzeug_that_keeps_its_iterator_elsewhere_is_served():
    """Whatever the name is then."""
    body = ClosingIterator(())
    del body._next
    iterator = iter(serve(body))
    body._next = iter([b"a"]).__next__
    assert list(iterator) == [b"a"]


@pytest.mark.parametrize("make", [list, iter, tuple, ClosingIterator])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("is_begun", [True, False])
def test_what_is_read_of_a_body_that_is_over_takes_no_request_its_id(make, count, is_begun):
    """As a test client does that an app asks another one with."""
    result = serve(make(iter([b"x"] * count)), HTTP_X_REQUEST_ID="inner")
    iterator = iter(result) if is_begun else None
    result.close()
    outer = serve([b""], HTTP_X_REQUEST_ID="outer")
    seen = [get_request_id() for _chunk in iterator or result]
    assert [*seen, get_request_id()] == ["outer"] * (count + 1)
    outer.close()
