"""Request IDs: which ones are accepted, where they appear, and in which code."""

from __future__ import annotations

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from wsgi import hello, make_environ, request

from dockerflow_wsgi import DockerflowMiddleware, get_request_id, request_id_context
from dockerflow_wsgi.request_id import new_request_id

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def serve(app=hello, environ=None, **settings):
    """Serve a request, and return the response and the environ that the app saw."""
    seen = {}

    def noting(environ, start_response):
        seen.update(environ, current=get_request_id())
        return app(environ, start_response)

    return request(DockerflowMiddleware(noting, **settings), **(environ or {})), seen


class TestIncomingIDs:
    """An incoming ID is used if it is acceptable and trusted."""

    @pytest.mark.parametrize(
        "incoming",
        [
            "a",
            "x" * 200,
            "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8",
            "105445aa7843bc8bf206b12000100000/1;o=1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "f7c4d6f2-5e7b-4d6e-9f5a-3f0c1b2d4e5f#42",  # Kong
            "|4bf92f3577b34da6a3ce929d0e0e4736.00f067aa0ba902b7.",  # Azure
            "{0f8fad5b-d9cb-469f-a165-70867728950e}",  # .NET
            "(0f8fad5b-d9cb-469f-a165-70867728950e)",  # .NET's format "P"
            "AZaz09._:;=+/@~#|{}()[]!$*^-",
            "{}",
        ],
    )
    def test_an_incoming_id_is_used(self, summaries, incoming):
        """An ID of a usual format is in the environ, the app, the response and the summary."""
        response, seen = serve(environ={"HTTP_X_REQUEST_ID": incoming})
        assert seen["dockerflow.request_id"] == incoming
        assert seen["HTTP_X_REQUEST_ID"] == incoming
        assert seen["current"] == incoming
        assert response.headers["X-Request-ID"] == incoming
        assert summaries[0].rid == incoming
        assert get_request_id() is None

    @pytest.mark.parametrize(
        "incoming",
        [
            "",
            "x" * 201,
            "two words",
            "a,b",
            "a\n",
            "a\r\nSet-Cookie: b",
            "\u00e9",
            "\u0665",  # a digit, but not an ASCII one
            "<script>",
            '"quoted"',
            "'quoted'",
            "a\\b",
            "a&b",
            "a`b",
            "a%20b",
            "\x1b[31m",
            "\x7f",
            "\x00",
        ],
    )
    def test_an_unacceptable_id_is_ignored(self, listen, incoming):
        """An ID with other characters is neither used nor logged; a UUID replaces it."""
        records = listen(None)
        app = DockerflowMiddleware(hello)
        environ = make_environ(HTTP_X_REQUEST_ID=incoming)
        headers = {}
        result = app(environ, lambda _status, got, _exc_info=None: headers.update(got))
        result.close()
        made = environ["dockerflow.request_id"]
        assert UUID4.fullmatch(made)
        assert environ["HTTP_X_REQUEST_ID"] == headers["X-Request-ID"] == made
        assert len(records) == 1
        if incoming:
            assert incoming not in map(str, vars(records[0]).values())

    def test_an_untrusted_id_is_ignored(self):
        """With ``trust_request_id=False``, each request gets a new ID."""
        response, seen = serve(environ={"HTTP_X_REQUEST_ID": "incoming"}, trust_request_id=False)
        assert UUID4.fullmatch(seen["HTTP_X_REQUEST_ID"])
        assert response.headers["X-Request-ID"] == seen["HTTP_X_REQUEST_ID"]

    def test_another_header_can_be_configured(self):
        """The environ has the ID under that header's key; the response has ``X-Request-ID``."""
        response, seen = serve(
            environ={"HTTP_X_CORRELATION_ID": "abc", "HTTP_X_REQUEST_ID": "other"},
            request_id_header="X-Correlation-ID",
        )
        assert seen["dockerflow.request_id"] == seen["HTTP_X_CORRELATION_ID"] == "abc"
        assert seen["HTTP_X_REQUEST_ID"] == "other"
        assert response.headers["X-Request-ID"] == "abc"

    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"HTTP_X_AMZN_TRACE_ID": "Root=1", "HTTP_X_REQUEST_ID": "b"}, "b"),
            ({"HTTP_X_AMZN_TRACE_ID": "Root=1", "HTTP_X_REQUEST_ID": "not ok"}, "Root=1"),
            ({"HTTP_X_AMZN_TRACE_ID": "Root=1"}, "Root=1"),
        ],
    )
    def test_several_headers_are_read_in_order(self, environ, expected):
        """The first acceptable ID is used; the environ has it under the first header's key."""
        _response, seen = serve(
            environ=environ, request_id_header=["X-Request-ID", "X-Amzn-Trace-Id"]
        )
        assert seen["dockerflow.request_id"] == seen["HTTP_X_REQUEST_ID"] == expected
        assert seen["HTTP_X_AMZN_TRACE_ID"] == "Root=1"


class TestResponseHeader:
    """Responses have the request ID, unless the app or a setting decides otherwise."""

    @pytest.mark.parametrize("name", ["X-Request-ID", "x-request-id"])
    def test_the_apps_own_header_stays(self, name):
        """The header that the app sets is neither changed nor doubled."""

        def app(_environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain"), (name, "mine")])
            return [b""]

        response, _seen = serve(app, environ={"HTTP_X_REQUEST_ID": "incoming"})
        assert [v for n, v in response.headers.items() if n.lower() == "x-request-id"] == ["mine"]

    def test_the_echo_can_be_switched_off(self):
        """With ``echo_request_id=False``, no response has the header, also not of endpoints."""
        response, _seen = serve(echo_request_id=False)
        assert "X-Request-ID" not in response.headers
        app = DockerflowMiddleware(hello, echo_request_id=False)
        assert "X-Request-ID" not in request(app, "/__lbheartbeat__").headers


class TestNewIDs:
    """A new ID is a random UUID, and exists only during the request."""

    def test_there_is_no_id_outside_a_request(self):
        """Outside a request, ``get_request_id`` returns ``None``."""
        assert get_request_id() is None

    def test_new_ids_are_random_uuids(self):
        """``new_request_id`` returns UUIDs of version 4 in the usual form (RFC 9562)."""
        made = [new_request_id() for _ in range(1000)]
        assert len({*made}) == 1000
        for text in made:
            parsed = uuid.UUID(text)
            assert str(parsed) == text
            assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
        assert {text[19] for text in made} == {*"89ab"}
        fixed = {8: 1, 13: 1, 14: 1, 18: 1, 19: 4, 23: 1}
        assert [len({text[index] for text in made}) for index in range(36)] == [
            fixed.get(index, 16) for index in range(36)
        ]


class TestRequestIdContext:
    """``request_id_context`` sets the current ID in code outside a request."""

    def test_it_sets_the_given_id(self):
        """The ID is current in the ``with`` block, and gone afterwards."""
        with request_id_context("job-42") as request_id:
            assert request_id == get_request_id() == "job-42"
        assert get_request_id() is None

    @pytest.mark.parametrize("arguments", [(), (None,)])
    def test_it_generates_an_id(self, arguments):
        """Without an argument, the context sets a new UUID."""
        with request_id_context(*arguments) as request_id:
            assert get_request_id() == request_id
        assert UUID4.fullmatch(request_id)

    def test_it_is_a_decorator(self):
        """A decorated function runs with the ID, and keeps its name, arguments and result."""

        @request_id_context("job-42")
        def job(number, *, factor):
            """Do a job."""
            return number * factor, get_request_id()

        assert job(2, factor=3) == job(6, factor=1) == (6, "job-42")
        assert (job.__name__, job.__doc__) == ("job", "Do a job.")
        assert get_request_id() is None

    def test_a_decorated_function_has_a_new_id_for_each_call(self):
        """Without an ID, each call of a decorated function gets its own."""

        @request_id_context()
        def job():
            return get_request_id()

        made = [job() for _ in range(5)]
        assert len({*made}) == 5
        assert all(map(UUID4.fullmatch, made))

    def test_a_decorated_function_may_call_itself(self):
        """A recursive call has its own ID, and the outer one is current again afterwards."""

        @request_id_context()
        def job(depth):
            before = get_request_id()
            inner = job(depth - 1) if depth else []
            assert get_request_id() == before
            return [before, *inner]

        assert len({*job(3)}) == 4

    def test_it_nests(self):
        """The outer ID is current again after an inner context."""
        with request_id_context("outer"):
            with request_id_context("inner"):
                assert get_request_id() == "inner"
                with request_id_context() as innermost:
                    assert get_request_id() == innermost
                assert get_request_id() == "inner"
            assert get_request_id() == "outer"
        assert get_request_id() is None

    def test_an_exception_ends_it(self):
        """An exception passes unchanged, and the ID before is current again."""
        error = LookupError("inside")
        with request_id_context("outer"):
            with pytest.raises(LookupError) as caught, request_id_context("inner"):
                raise error
            assert caught.value is error
            assert get_request_id() == "outer"

        @request_id_context()
        def job():
            raise error

        with pytest.raises(LookupError):
            job()
        assert get_request_id() is None

    def test_a_request_within_it_has_another_id(self):
        """A request that a job serves has another ID, and the job's is current afterwards."""
        with request_id_context("job"):
            _response, seen = serve(environ={"HTTP_X_REQUEST_ID": "r-1"})
            assert seen["current"] == "r-1"
            assert get_request_id() == "job"

    def test_within_a_request_it_replaces_the_id_for_a_while(self, summaries):
        """The response and the summary keep the request's ID."""
        found = []

        def app(environ, start_response):
            with request_id_context("inner"):
                found.append(get_request_id())
            found.append(get_request_id())
            return hello(environ, start_response)

        response, _seen = serve(app, environ={"HTTP_X_REQUEST_ID": "r-1"})
        assert found == ["inner", "r-1"]
        assert response.headers["X-Request-ID"] == summaries[0].rid == "r-1"
        assert get_request_id() is None

    def test_threads_have_separate_ids(self):
        """Threads that run at the same time do not see each other's ID."""
        barrier = threading.Barrier(4)

        @request_id_context()
        def job(_number):
            before = get_request_id()
            barrier.wait(10)
            assert get_request_id() == before
            return before

        with ThreadPoolExecutor(4) as pool, request_id_context("main"):
            assert len({*pool.map(job, range(4)), "main"}) == 5
            assert get_request_id() == "main"

    @pytest.mark.parametrize("wrong", [5, b"id", print])
    def test_request_id_context_refuses_other_types(self, wrong):
        """An ID that is not a string is a ``TypeError`` that names the type."""
        with pytest.raises(TypeError, match=type(wrong).__name__), request_id_context(wrong):
            pass
