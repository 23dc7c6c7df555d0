"""`DockerflowMiddleware`: construction, endpoints, nesting, the off switch and hooks."""

from __future__ import annotations

import copy
import logging
from contextlib import contextmanager
from wsgiref.validate import validator

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from wsgi import Server, hello, ignore_start, make_environ, request

from dockerflow_wsgi import CheckRegistry, ConfigurationError, DockerflowMiddleware, get_request_id
from dockerflow_wsgi.checks import Info

ENDPOINTS = ["/__version__", "/__heartbeat__", "/__lbheartbeat__"]


class TestConstruction:
    """Wrong arguments are refused, and the checks are registered."""

    def test_unknown_keyword(self):
        """An unknown keyword is a `TypeError` that suggests the setting that was meant."""
        with pytest.raises(TypeError, match=r"'check_timeuot' \(did you mean 'check_timeout'\?\)"):
            DockerflowMiddleware(hello, check_timeuot=3)

    def test_several_unknown_keywords(self):
        """All unknown keywords are named; without a similar setting, all settings are listed."""
        with pytest.raises(TypeError, match=r"'disable' .*, 'zzz' \(the settings: .*version_path"):
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
            ({"check_context": "app"}, "check_context must be callable"),
            ({"summary_extra": {"a": 1}}, "summary_extra must be callable"),
        ],
    )
    def test_wrong_object(self, wrong, text):
        """An object of a wrong kind is a `TypeError`, which does not show the object."""
        with pytest.raises(TypeError, match=text) as caught:
            DockerflowMiddleware(**{"app": hello, **wrong})
        assert "s3cr3t" not in str(caught.value)

    def test_built_in_checks(self):
        """Each backing service registers its check; construction does not use the service."""
        app = DockerflowMiddleware(hello, db=object(), redis=object(), migrate=object())
        assert app.registry.names == (
            "check_database_connected",
            "check_redis_connected",
            "check_migrations_applied",
        )

    def test_decorators_return_the_function(self):
        """A decorated function can be called, and decorated again."""
        app = DockerflowMiddleware(hello)

        def function(*_arguments):
            return []

        assert app.check(function) is function
        assert app.check(name="two")(function) is function
        assert app.version_callback(function) is function
        app.init_check(function, "object", name="three")
        assert app.registry.names == ("function", "two", "three")

    def test_each_middleware_has_a_registry(self):
        """Two middlewares share checks only if they share a registry."""
        one, two = DockerflowMiddleware(hello), DockerflowMiddleware(hello)
        one.check(lambda: [], name="only_one")
        assert b"only_one" in request(one, "/__heartbeat__").body
        assert b"only_one" not in request(two, "/__heartbeat__").body
        three = DockerflowMiddleware(hello, registry=one.registry)
        assert b"only_one" in request(three, "/__heartbeat__").body

    def test_empty_registry(self):
        """An empty registry is used, too, so that checks can be added later."""
        registry = CheckRegistry()
        assert DockerflowMiddleware(hello, registry=registry).registry is registry


class TestWrappingTwice:
    """Wrapping an app that is already wrapped is a `ConfigurationError`."""

    def test_directly(self):
        """The error names the class of the inner app."""
        with pytest.raises(ConfigurationError, match="app is a DockerflowMiddleware: wrap an app"):
            DockerflowMiddleware(DockerflowMiddleware(hello))

    def test_with_another_middleware_in_between(self):
        """The error names the middleware in between as well."""
        app = ProxyFix(ProxyFix(DockerflowMiddleware(hello)))
        with pytest.raises(ConfigurationError, match="a ProxyFix around a DockerflowMiddleware"):
            DockerflowMiddleware(app)

    @pytest.mark.parametrize("is_inner", [True, False])
    def test_disabled(self, is_inner):
        """A disabled middleware is refused in the same way, so that tests find the mistake."""
        inner = DockerflowMiddleware(hello, disabled=is_inner)
        with pytest.raises(ConfigurationError, match="wrap an app only once"):
            DockerflowMiddleware(inner, disabled=not is_inner)

    def test_with_another_registry(self):
        """A second middleware with another registry is refused in the same way."""
        with pytest.raises(ConfigurationError, match="wrap an app only once"):
            DockerflowMiddleware(DockerflowMiddleware(hello), registry=CheckRegistry())

    def test_two_middlewares_around_one_app(self):
        """Two separate chains may end in the same app."""
        assert request(DockerflowMiddleware(hello)).body == b"hello"
        assert request(DockerflowMiddleware(hello)).body == b"hello"


class TestEndpoints:
    """The endpoints are answered before the app; every other path reaches it."""

    @pytest.fixture
    def app(self, version_directory):
        """Wrap an app that must not be called."""

        def refuse(_environ, _start_response):
            raise AssertionError("the app was called")

        return DockerflowMiddleware(refuse, version_path=version_directory)

    @pytest.mark.parametrize("slash", ["", "/"])
    @pytest.mark.parametrize("path", ENDPOINTS)
    def test_trailing_slash(self, app, path, slash):
        """A path is answered with and without one trailing slash."""
        assert request(app, path + slash).status == "200 OK"

    @pytest.mark.parametrize("path", ENDPOINTS)
    @pytest.mark.parametrize("change", ["{}//", "/{}", "{}/x", "/x{}", "{}.json", "{} "], ids=repr)
    def test_similar_path(self, path, change):
        """A path that differs in anything else reaches the app."""
        app = DockerflowMiddleware(hello)
        body = app(make_environ(change.format(path)), Server().start_response)
        assert list(body) == [b"hello"]

    def test_missing_path(self):
        """A server may leave an empty ``PATH_INFO`` out (PEP 3333)."""
        environ = make_environ()
        del environ["PATH_INFO"]
        result = DockerflowMiddleware(hello)(environ, Server().start_response)
        assert list(result) == [b"hello"]

    @pytest.mark.parametrize("slash", ["", "/"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
    @pytest.mark.parametrize("path", ENDPOINTS)
    def test_headers(self, app, path, method, slash):
        """Every response forbids caching and content sniffing, and has the request ID."""
        headers = request(app, path + slash, method, HTTP_X_REQUEST_ID="r-1").headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Request-ID"] == "r-1"

    def test_headers_of_errors_and_pages(self):
        """Errors and the HTML page have the same headers."""
        app = DockerflowMiddleware(hello, version_path="/nowhere")
        app.check(lambda: 1 / 0, name="failing")
        missing = request(app, "/__version__")
        page = request(app, "/__heartbeat__", HTTP_ACCEPT="text/html")
        assert missing.status == "404 Not Found"
        assert page.status == "500 Internal Server Error"
        for response in (missing, page):
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("path", ENDPOINTS)
    def test_request_id_is_gone_afterwards(self, app, path):
        """An endpoint leaves no request ID behind."""
        request(app, path, HTTP_X_REQUEST_ID="r-1")
        assert get_request_id() is None

    @pytest.mark.parametrize("path", ["/__lbheartbeat__", "/__version__"])
    def test_server_refuses_the_response(self, listen, path):
        """An exception of ``start_response`` is raised, and logged in the summary."""
        records = listen("request.summary", logging.INFO)
        seen = []

        def refuse(*_arguments):
            seen.append(get_request_id())
            raise BrokenPipeError("gone")

        app = DockerflowMiddleware(hello, version_path="/nowhere")
        with pytest.raises(BrokenPipeError):
            app(make_environ(path, HTTP_X_REQUEST_ID="r-1"), refuse)
        assert [(record.levelno, record.getMessage(), record.rid) for record in records] == [
            (logging.ERROR, "gone", "r-1")
        ]
        assert seen == ["r-1"]
        assert get_request_id() is None

    def test_valid_wsgi(self, summaries):
        """`wsgiref.validate` accepts both sides of the middleware, and each request is logged."""
        app = DockerflowMiddleware(validator(hello))
        for path in ("/", *ENDPOINTS):
            for method in ("GET", "HEAD", "POST", "OPTIONS"):
                assert request(app, path, method).status
        assert len(summaries) == 16


class TestEnviron:
    """The app gets the server's environ with additional keys."""

    def test_added_keys(self):
        """The server's values are unchanged; the added keys are the documented ones."""
        seen = {}

        def app(environ, start_response):
            seen.update(environ)
            return hello(environ, start_response)

        environ = make_environ("/a/b", "PUT", HTTP_X_OTHER="kept", **{"test.key": "kept"})
        before = dict(environ)
        DockerflowMiddleware(app)(environ, Server().start_response).close()

        assert before.items() <= seen.items()
        assert seen.keys() - before.keys() == {
            "dockerflow.request_id",
            "dockerflow.summary",
            "dockerflow_wsgi.context",
            "HTTP_X_REQUEST_ID",
        }

    def test_same_object(self):
        """The app gets the server's dict itself, so that the server sees changes."""
        seen = []

        def app(environ, start_response):
            seen.append(environ)
            return hello(environ, start_response)

        environ = make_environ()
        DockerflowMiddleware(app)(environ, Server().start_response).close()
        assert seen[0] is environ


class TestDisabled:
    """``DOCKERFLOW_DISABLED=1`` turns endpoints and summaries off."""

    @pytest.fixture(params=["keyword", "environment"])
    def disable(self, request, monkeypatch):
        """Return a function that wraps an app with a disabled middleware."""
        if request.param == "keyword":
            return lambda app: DockerflowMiddleware(app, disabled=True)
        monkeypatch.setenv("DOCKERFLOW_DISABLED", "1")
        return DockerflowMiddleware

    @pytest.mark.parametrize("path", [*ENDPOINTS, "/__lbheartbeat__/", "/"])
    def test_every_path_reaches_the_app(self, disable, summaries, path):
        """The app's result is returned unchanged, and nothing is logged."""
        server = Server()
        assert disable(hello)(make_environ(path), server.start_response) == [b"hello"]
        assert "X-Request-ID" not in server.headers
        assert len(summaries) == 0

    def test_environ_keys(self, disable):
        """An app that uses the environ keys keeps working."""

        def app(environ, start_response):
            environ["dockerflow.summary"]["uid"] = "ada"
            assert environ["HTTP_X_REQUEST_ID"] == environ["dockerflow.request_id"]
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["dockerflow.request_id"].encode()]

        wrapped = disable(app)
        assert request(wrapped, HTTP_X_REQUEST_ID="r-1").body == b"r-1"
        assert len(request(wrapped).body) == 36

    def test_exceptions(self, disable, summaries):
        """Exceptions of the app are raised, and not logged."""

        def app(_environ, _start_response):
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            disable(app)(make_environ(), Server().start_response)
        assert len(summaries) == 0


class TestNesting:
    """A call is nested in another one only while the outer app or its body is running."""

    def test_mounted_app(self, summaries):
        """A wrapped app below a wrapped dispatcher serves its endpoints, with one summary each."""
        inner = DockerflowMiddleware(hello)
        inner.check(lambda: [], name="inner")
        outer = DockerflowMiddleware(DispatcherMiddleware(hello, {"/sub": inner}))
        outer.check(lambda: [], name="outer")
        assert b'"inner"' in request(outer, "/sub/__heartbeat__").body
        assert b'"outer"' in request(outer, "/__heartbeat__").body
        response = request(outer, "/sub/page")
        assert response.body == b"hello"
        assert [record.path for record in summaries] == [
            "/sub/__heartbeat__",
            "/__heartbeat__",
            "/sub/page",
        ]
        assert summaries[2].rid == response.headers["X-Request-ID"]

    def test_mounted_app_sets_fields(self, summaries):
        """Fields that a mounted app puts into ``dockerflow.summary`` are in the one summary."""

        def app(environ, start_response):
            environ["dockerflow.summary"]["uid"] = "ada"
            return hello(environ, start_response)

        mounts = {"/sub": DockerflowMiddleware(app)}
        request(DockerflowMiddleware(DispatcherMiddleware(hello, mounts)), "/sub")
        assert [record.uid for record in summaries] == ["ada"]

    def test_mounted_app_is_called_in_the_body(self, summaries):
        """A request has one summary even if a generator calls the mounted app late."""
        inner = DockerflowMiddleware(hello)

        def dispatcher(environ, start_response):
            yield from inner(environ, start_response)

        response = request(DockerflowMiddleware(dispatcher), HTTP_X_REQUEST_ID="r-1")
        assert response.body == b"hello"
        assert [(record.code, record.rid) for record in summaries] == [(200, "r-1")]

    def test_mounted_app_is_retried(self, summaries):
        """A retry inside the outer app belongs to the same request."""
        inner = DockerflowMiddleware(hello)

        def retry(environ, start_response):
            inner(environ, ignore_start)
            return inner(environ, start_response)

        assert request(DockerflowMiddleware(retry)).body == b"hello"
        assert [record.code for record in summaries] == [200]

    def test_mounted_app_is_called_in_close(self, summaries):
        """A call from the ``close()`` of the outer body is nested as well."""
        inner = DockerflowMiddleware(hello)

        class Closing:
            def __init__(self, environ):
                self.environ = environ

            def __iter__(self):
                return iter([b"outer"])

            def close(self):
                inner(self.environ, ignore_start)

        def outer(environ, start_response):
            start_response("201 Created", [("Content-Type", "text/plain")])
            return Closing(environ)

        request(DockerflowMiddleware(outer))
        assert [record.code for record in summaries] == [201]

    def test_mounted_app_raises(self, summaries):
        """An exception of a mounted app is recorded once."""

        def app(_environ, _start_response):
            raise ValueError("broken")

        mounts = {"/sub": DockerflowMiddleware(app)}
        outer = DockerflowMiddleware(DispatcherMiddleware(hello, mounts))
        with pytest.raises(ValueError, match="broken"):
            outer(make_environ("/sub"), Server().start_response)
        assert [record.getMessage() for record in summaries] == ["broken"]

    @pytest.mark.parametrize("path", ["/", "/__lbheartbeat__"])
    def test_request_to_another_app(self, summaries, path):
        """An app that sends a new request to another wrapped app keeps its request ID."""
        other = DockerflowMiddleware(hello)
        seen = []

        def app(environ, start_response):
            seen.append(get_request_id())
            seen.append(request(other, path).headers["X-Request-ID"])
            seen.append(get_request_id())
            return hello(environ, start_response)

        request(DockerflowMiddleware(app), HTTP_X_REQUEST_ID="one")
        assert (seen[0], seen[2]) == ("one", "one")
        assert seen[1] != "one"
        assert get_request_id() is None
        assert len(summaries) == 2

    def test_interleaved_requests_to_another_app(self):
        """The request ID is the outer one again after the last of several open responses."""
        other = DockerflowMiddleware(hello)
        seen = []

        def app(environ, start_response):
            bodies = [other(make_environ(), ignore_start) for _ in range(3)]
            for body in bodies:
                body.close()
            seen.append(get_request_id())
            return hello(environ, start_response)

        request(DockerflowMiddleware(app), HTTP_X_REQUEST_ID="outer")
        assert seen == ["outer"]
        assert get_request_id() is None


class TestRetry:
    """A middleware in front may call the app again with the same environ."""

    STATUSES = ("500 Internal Server Error", "200 OK")

    @pytest.fixture
    def app(self):
        """Wrap an app that fails at first."""
        statuses = iter(self.STATUSES)

        def app(_environ, start_response):
            start_response(next(statuses), [("Content-Type", "text/plain")])
            return [b"a", b"b"]

        return DockerflowMiddleware(app)

    def test_first_body_is_closed(self, app, summaries):
        """Two successive calls have two summaries."""
        environ = make_environ()
        for _ in range(2):
            body = app(environ, ignore_start)
            list(body)
            body.close()
        assert [record.code for record in summaries] == [500, 200]

    def test_fields_of_each_call(self, summaries):
        """Each summary has the fields that the app set in its call."""
        users = iter(("ada", "grace"))

        def app(environ, start_response):
            environ["dockerflow.summary"]["uid"] = next(users)
            start_response("200 OK", [])
            return [b""]

        wrapped, environ = DockerflowMiddleware(app), make_environ()
        first = wrapped(environ, ignore_start)
        wrapped(environ, ignore_start).close()
        first.close()
        assert [record.uid for record in summaries] == ["grace", "ada"]

    def test_first_body_is_dropped(self, app, summaries):
        """A first body that is dropped unread has its summary before the second one."""
        environ = make_environ()
        for _ in range(2):
            app(environ, ignore_start)
        assert [record.code for record in summaries] == [500, 200]
        assert get_request_id() is None

    def test_first_body_is_unread(self, app, summaries):
        """Two calls have two summaries, also if the server has not read the first body yet."""
        environ = make_environ()
        first = app(environ, ignore_start)
        app(environ, ignore_start).close()
        first.close()
        assert [record.code for record in summaries] == [200, 500]
        assert get_request_id() is None

    @pytest.mark.parametrize("chunks_read", [0, 1, 2])
    def test_first_body_is_open(self, app, summaries, chunks_read):
        """Two calls have two summaries, however much of the first body was read."""
        environ = make_environ()
        first = app(environ, ignore_start)
        iterator = iter(first)
        for _ in range(chunks_read):
            next(iterator)
        second = app(environ, ignore_start)
        assert list(second) == [b"a", b"b"]
        second.close()
        first.close()
        assert [record.code for record in summaries] == [200, 500]
        assert get_request_id() is None

    def test_first_body_was_read_twice(self, app, summaries):
        """Reading a body again after its end does not make the second call a nested one."""
        environ = make_environ()
        first = app(environ, ignore_start)
        assert list(first) == list(first) == [b"a", b"b"]
        app(environ, ignore_start).close()
        assert [record.code for record in summaries] == [500, 200]

    def test_first_body_was_read_after_close(self, app, summaries):
        """Reading a closed body does not make the second call a nested one."""
        environ = make_environ()
        first = app(environ, ignore_start)
        first.close()
        list(first)
        app(environ, ignore_start).close()
        assert [record.code for record in summaries] == [500, 200]

    def test_first_call_raised(self, summaries):
        """A first call that raises has its summary."""
        results = iter([ValueError("broken"), b"ok"])

        def app(_environ, start_response):
            result = next(results)
            if isinstance(result, Exception):
                raise result
            start_response("200 OK", [])
            return [result]

        wrapped = DockerflowMiddleware(app)
        environ = make_environ()
        with pytest.raises(ValueError, match="broken"):
            wrapped(environ, ignore_start)
        wrapped(environ, ignore_start).close()
        assert [record.getMessage() for record in summaries] == ["broken", ""]

    def test_fields_of_the_summary(self, summaries):
        """The second call starts with an empty ``dockerflow.summary``."""
        fields = iter([{"uid": "ada"}, {}])

        def app(environ, start_response):
            environ["dockerflow.summary"].update(next(fields))
            return hello(environ, start_response)

        wrapped = DockerflowMiddleware(app)
        environ = make_environ()
        for _ in range(2):
            wrapped(environ, ignore_start).close()
        assert [record.uid for record in summaries] == ["ada", ""]


class TestHooks:
    """Hooks are called as documented; an exception in a hook does not affect the response."""

    def test_on_heartbeat(self):
        """The hook gets the report of each run of the checks."""
        reports = []
        app = DockerflowMiddleware(hello, on_heartbeat=reports.append)
        app.check(lambda: Info("fine"), name="check")
        for _ in range(2):
            request(app, "/__heartbeat__")
        assert [report.status for report in reports] == ["info", "info"]

    def test_on_heartbeat_is_not_called_for_a_stored_result(self):
        """The hook is not called when ``heartbeat_ttl`` serves a stored result."""
        reports = []
        app = DockerflowMiddleware(hello, on_heartbeat=reports.append, heartbeat_ttl=600)
        for _ in range(3):
            request(app, "/__heartbeat__")
        assert len(reports) == 1

    def test_on_heartbeat_raises(self, listen):
        """An exception of the hook is logged, and the heartbeat is answered."""
        records = listen("dockerflow_wsgi")

        def fail(_report):
            raise LookupError("no statsd")

        app = DockerflowMiddleware(hello, on_heartbeat=fail)
        assert request(app, "/__heartbeat__").status == "200 OK"
        assert any("no statsd" in (record.exc_text or "") for record in records)

    def test_check_context(self):
        """Each check runs inside the context manager."""
        events = []

        @contextmanager
        def context():
            events.append("enter")
            yield
            events.append("exit")

        app = DockerflowMiddleware(hello, check_context=context)
        app.check(lambda: events.append("check"), name="check")
        assert request(app, "/__heartbeat__").status == "200 OK"
        assert events == ["enter", "check", "exit"]

    def test_check_context_raises(self):
        """An exception of the context manager fails the heartbeat."""

        def context():
            raise LookupError("no app context")

        app = DockerflowMiddleware(hello, check_context=context)
        app.check(lambda: [], name="check")
        response = request(app, "/__heartbeat__")
        assert response.status == "500 Internal Server Error"
        assert b"no app context" in response.body

    def test_summary_extra(self, summaries):
        """The hook gets the environ; its fields are added, changed, or removed by `None`."""

        def extra(environ):
            return {"host": environ["HTTP_HOST"], "agent": None, "uid": "ada", "absent": None}

        app = DockerflowMiddleware(hello, summary_extra=extra)
        request(app, HTTP_HOST="x.test")
        assert (summaries[0].host, summaries[0].uid) == ("x.test", "ada")
        assert not hasattr(summaries[0], "agent")
        assert not hasattr(summaries[0], "absent")

    def test_summary_extra_returns_none(self, summaries):
        """A hook that returns `None` changes nothing."""
        request(DockerflowMiddleware(hello, summary_extra=lambda _environ: None))
        assert summaries[0].code == 200

    def test_summary_extra_raises(self, listen, summaries):
        """An exception of the hook is logged; response and summary are complete."""
        records = listen("dockerflow_wsgi")

        def fail(environ):
            raise LookupError("no user")

        response = request(DockerflowMiddleware(hello, summary_extra=fail))
        assert response.body == b"hello"
        assert [record.code for record in summaries] == [200]
        assert any("no user" in (record.exc_text or "") for record in records)


class TestReusedEnviron:
    """An environ may be used for many calls, and may be copied."""

    def test_file_wrapper_is_wrapped_once(self):
        """The server's function is called directly, however often the environ was used."""
        calls = []
        environ = make_environ(**{"wsgi.file_wrapper": lambda file: calls.append(file) or file})

        def app(environ, start_response):
            environ["wsgi.file_wrapper"]([b"x"])
            return hello(environ, start_response)

        wrapped = DockerflowMiddleware(app)
        for _ in range(2000):
            wrapped(environ, ignore_start).close()
        assert len(calls) == 2000

    def test_error_of_an_earlier_call(self, summaries):
        """An exception in the first call does not turn the second one into an error."""
        tries = iter([OSError("first failed"), None])

        def app(environ, start_response):
            if (error := next(tries)) is not None:
                raise error
            return hello(environ, start_response)

        wrapped, environ = DockerflowMiddleware(app), make_environ()
        with pytest.raises(OSError, match="first failed"):
            wrapped(environ, ignore_start)
        wrapped(environ, ignore_start).close()
        assert [record.levelname for record in summaries] == ["ERROR", "INFO"]

    def test_deep_copy_is_used_later(self, summaries):
        """A deep copy that the app made can be used for another request."""
        copies = []

        def app(environ, start_response):
            if not copies:
                copies.append(copy.deepcopy({k: v for k, v in environ.items() if k[:5] != "wsgi."}))
            return hello(environ, start_response)

        wrapped = DockerflowMiddleware(app)
        wrapped(make_environ(), ignore_start).close()
        wrapped(copies[0], ignore_start).close()
        assert len(summaries) == 2
