"""The endpoints: paths, methods, headers and bodies."""

from __future__ import annotations

import json
import logging
import re

import pytest
from probing import probe
from servers import wsgiref_server
from webtest import TestApp as WebTestApp
from wsgi import hello, make_environ, request

from dockerflow_wsgi import DockerflowMiddleware, checks

PATHS = ["/__version__", "/__heartbeat__", "/__lbheartbeat__"]
ALL_PATHS = [*PATHS, *(f"{path}/" for path in PATHS)]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def refuse(_environ, _start_response):
    """Fail, because this app must not be called."""
    raise AssertionError("the app was called")


@pytest.fixture
def app(version_directory):
    """Wrap an app that must not be called."""
    return DockerflowMiddleware(refuse, version_path=version_directory)


class TestEveryEndpoint:
    """The paths, methods and headers that all endpoints share."""

    @pytest.mark.parametrize("path", ALL_PATHS)
    def test_each_endpoint_answers_json_that_is_not_stored(self, app, path):
        """An endpoint answers 200 with the common headers, with or without a trailing slash."""
        response = WebTestApp(app).get(path)
        assert response.status == "200 OK"
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Length"] == str(len(response.body))
        assert re.fullmatch(
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", response.headers["X-Request-ID"]
        )

    @pytest.mark.parametrize("path", ALL_PATHS)
    def test_head_has_the_headers_of_get_and_no_body(self, app, path):
        """``HEAD`` has no body, because several servers do not remove it."""
        got = request(app, path, HTTP_X_REQUEST_ID="same")
        head = request(app, path, "HEAD", HTTP_X_REQUEST_ID="same")
        assert head.status == got.status
        assert head.headers == got.headers
        assert head.body == b""

    @pytest.mark.parametrize("path", ALL_PATHS)
    def test_options_lists_the_methods(self, app, path):
        """A response to ``OPTIONS`` lists the methods in ``Allow``."""
        response = request(app, path, "OPTIONS")
        assert response.status == "200 OK"
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.body == b""

    @pytest.mark.parametrize("path", ALL_PATHS)
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
    @pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
    def test_another_method_is_refused_and_no_check_is_run(self, app, path, method):
        """Another method is answered with 405 and ``Allow``, without running a check."""
        ran = []
        app.check(lambda: ran.append(1), name="noted")
        response = request(app, path, method)
        assert response.status == "405 Method Not Allowed"
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert json.loads(response.body) == {"error": f"{method} is not allowed: use GET or HEAD"}
        assert ran == []

    @pytest.mark.parametrize(
        "path",
        [
            "/__heartbeat__//",
            "//__heartbeat__",
            "/__heartbeat__/x",
            "/__heartbeat__ /",
            "/__version__.json",
            "/__error__/",
            "/",
            "/__HEARTBEAT__",
            "/x/__heartbeat__",
            "__heartbeat__",
            "",
        ],
    )
    def test_a_similar_path_reaches_the_app(self, path):
        """Only the exact paths, with one trailing slash at most, are answered."""
        response = WebTestApp(DockerflowMiddleware(hello), lint=False).request(
            "/", environ={**make_environ(), "PATH_INFO": path}
        )
        assert response.body == b"hello"

    def test_the_query_string_does_not_matter(self, app):
        """A query string does not change the path."""
        assert request(app, "/__lbheartbeat__", QUERY_STRING="cache=1").status == "200 OK"

    def test_the_path_below_a_mount_is_answered(self, app):
        """An endpoint below a mount point, which ``SCRIPT_NAME`` names, is served."""
        response = request(app, "/__lbheartbeat__", SCRIPT_NAME="/mounted/here")
        assert response.status == "200 OK"

    @pytest.mark.parametrize("path", ["/__version__", "/__version__/"])
    def test_the_headers_of_an_error_are_the_common_ones(self, tmp_path, path):
        """A missing version has the same headers as every response of an endpoint."""
        app = DockerflowMiddleware(refuse, version_path=tmp_path)
        response = request(app, path, HTTP_X_REQUEST_ID="r-1")
        assert response.status == "404 Not Found"
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Request-ID"] == "r-1"

    @pytest.mark.parametrize("path", ALL_PATHS)
    def test_disabled_endpoints_reach_the_app(self, path):
        """While Dockerflow is disabled, every path reaches the app, with the environ keys."""
        seen = {}

        def app(environ, start_response):
            seen.update(environ)
            return hello(environ, start_response)

        response = request(DockerflowMiddleware(app, disabled=True), path, HTTP_X_REQUEST_ID="r-1")
        assert response.body == b"hello"
        assert (seen["dockerflow.request_id"], seen["dockerflow.summary"]) == ("r-1", {})

    def test_a_plain_http_1_0_probe_is_answered(self, app):
        """A probe without ``Host`` and ``User-Agent``, such as HAProxy's, is answered."""
        with wsgiref_server(app) as port:
            assert probe(port, "/__lbheartbeat__").startswith(b"HTTP/1.0 200 OK\r\n")


class TestHeartbeat:
    """``/__lbheartbeat__`` runs no check; ``/__heartbeat__`` runs all."""

    def test_lbheartbeat_is_empty_and_runs_no_check(self, app):
        """``/__lbheartbeat__`` answers without a body, and without running a check."""
        ran = []
        app.check(lambda: ran.append(1), name="noted")
        response = request(app, "/__lbheartbeat__")
        assert response.body == b""
        assert response.headers["Content-Length"] == "0"
        assert ran == []

    def test_the_heartbeat_shows_each_check(self):
        """The response has the keys and levels of the documented example."""
        app = DockerflowMiddleware(refuse)

        @app.check
        def check_debug():
            return []

        @app.check
        def check_sts_preload():
            return [checks.Warning("You have not set ...", id="security.W021")]

        response = request(app, "/__heartbeat__")
        assert response.status == "500 Internal Server Error"
        assert json.loads(response.body) == {
            "status": "warning",
            "checks": {"check_debug": "ok", "check_sts_preload": "warning"},
            "details": {
                "check_sts_preload": {
                    "status": "warning",
                    "level": 30,
                    "messages": {"security.W021": "You have not set ..."},
                }
            },
        }

    def test_a_heartbeat_without_checks_is_ok(self):
        """Without checks, a heartbeat passes."""
        response = request(DockerflowMiddleware(refuse), "/__heartbeat__")
        assert response.status == "200 OK"
        assert json.loads(response.body) == {"status": "ok", "checks": {}, "details": {}}

    @pytest.mark.parametrize(
        ("failed_level", "message", "status"),
        [
            ("info", checks.Debug, 200),
            ("info", checks.Info, 500),
            ("warning", checks.Info, 200),
            ("warning", checks.Warning, 500),
            ("error", checks.Warning, 200),
            ("error", checks.Error, 500),
            ("critical", checks.Error, 200),
            ("critical", checks.Critical, 500),
        ],
    )
    def test_the_heartbeat_fails_from_the_failure_level_on(self, failed_level, message, status):
        """The worst level decides about the status code, and the body always has it."""
        app = DockerflowMiddleware(refuse, heartbeat_failed_level=failed_level)
        app.check(lambda: message("found"), name="a")
        response = WebTestApp(app).get("/__heartbeat__", status=status)
        assert response.json["details"]["a"]["level"] == message.default_level

    @pytest.mark.parametrize(
        ("code", "status"), [(503, "503 Service Unavailable"), (599, "599 Heartbeat Failed")]
    )
    def test_the_failure_status_can_be_chosen(self, code, status):
        """A status without a standard phrase gets a phrase, too."""
        app = DockerflowMiddleware(refuse, heartbeat_failed_status_code=code)
        app.check(lambda: checks.Critical("down"), name="a")
        assert request(app, "/__heartbeat__").status == status


def failing_app(**settings):
    """Wrap an app with one failing check."""
    app = DockerflowMiddleware(refuse, **settings)
    app.check(lambda: checks.Error("inner facts", id="a.E1", hint="do that"), name="failing")
    return app


class TestPage:
    """Browsers get the heartbeat as an HTML page."""

    @pytest.mark.parametrize(
        "accept",
        [None, "*/*", "application/json", "text/plain", "", "text/html;q=0.5,application/json"],
    )
    def test_probers_get_json(self, accept):
        """A client that does not prefer HTML gets JSON."""
        keys = {} if accept is None else {"HTTP_ACCEPT": accept}
        response = request(failing_app(), "/__heartbeat__", **keys)
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Vary"] == "Accept"

    def test_a_browser_gets_a_page_with_the_same_facts(self):
        """The page has status, check, message, hint and duration; it loads and runs nothing."""
        response = request(failing_app(), "/__heartbeat__", HTTP_ACCEPT=BROWSER)
        page = response.body.decode()
        assert response.status == "500 Internal Server Error"
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        for fact in ("error", "failing", "a.E1", "inner facts", "do that"):
            assert fact in page
        assert re.search(r"\d (ms|s)\b", page)
        assert "://" not in page

    def test_a_browser_may_write_its_media_types_in_any_case(self):
        """Media types are case-insensitive (RFC 9110, 8.3.1)."""
        response = request(failing_app(), "/__heartbeat__", HTTP_ACCEPT="TEXT/HTML")
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"

    def test_the_page_escapes_everything(self, listen):
        """Names, messages, IDs and hints of checks are text, not markup."""
        listen("dockerflow_wsgi.checks", logging.CRITICAL)  # pytest cannot show a lone surrogate
        evil = "<script>alert('&\"')</script>\ud800"
        app = DockerflowMiddleware(refuse)
        app.check(lambda: checks.Error(evil, id=evil, hint=evil), name=evil)
        page = request(app, "/__heartbeat__", HTTP_ACCEPT=BROWSER).body
        assert b"<script" not in page
        assert page.count(b"&lt;script&gt;") == 4

    def test_a_page_without_checks_has_a_sentence(self):
        """A page without checks explains that none is registered."""
        page = request(DockerflowMiddleware(refuse), "/__heartbeat__", HTTP_ACCEPT=BROWSER).body
        assert b"No checks are registered." in page


class TestDetails:
    """``heartbeat_details`` decides who gets the messages."""

    @pytest.mark.parametrize("accept", ["application/json", BROWSER])
    @pytest.mark.parametrize(
        "policy", ["never", lambda environ: environ["REMOTE_ADDR"] == "10.0.0.1"]
    )
    def test_details_can_be_hidden(self, accept, policy):
        """Without details, a heartbeat has the status of each check, and no message."""
        app = failing_app(heartbeat_details=policy)
        response = request(app, "/__heartbeat__", HTTP_ACCEPT=accept, REMOTE_ADDR="192.0.2.1")
        assert response.status == "500 Internal Server Error"
        assert b"failing" in response.body
        assert b"inner facts" not in response.body
        assert b" ms<" not in response.body
        if accept != BROWSER:
            assert json.loads(response.body) == {"status": "error", "checks": {"failing": "error"}}

    def test_details_are_shown_if_the_policy_allows_it(self):
        """A callable decides by the environ whether the details are shown."""
        app = failing_app(heartbeat_details=lambda environ: environ["REMOTE_ADDR"] == "10.0.0.1")
        assert b"inner facts" in request(app, "/__heartbeat__", REMOTE_ADDR="10.0.0.1").body

    def test_a_details_policy_that_raises_shows_nothing(self, listen):
        """If the callable raises, details are hidden and the exception is logged."""
        errors = listen("dockerflow_wsgi")
        app = failing_app(heartbeat_details=lambda environ: environ["no such key"])
        response = request(app, "/__heartbeat__")
        assert response.status == "500 Internal Server Error"
        assert b"inner facts" not in response.body
        assert "KeyError" in errors[-1].exc_text


class TestOnHeartbeat:
    """``on_heartbeat`` is called with the report of each run."""

    def test_on_heartbeat_gets_each_report(self):
        """The hook gets the report; its result is ignored."""
        reports = []
        request(failing_app(on_heartbeat=reports.append), "/__heartbeat__")
        (report,) = reports
        assert (report.status, report.level, report.has_failed) == ("error", 40, True)
        assert report.checks == {"failing": "error"}
        assert report.results[0].duration_s >= 0

    def test_an_on_heartbeat_that_raises_does_not_break_the_response(self, listen):
        """The response is sent, and the exception is logged once."""
        errors = listen("dockerflow_wsgi")

        def broken(report):
            raise RuntimeError(f"statsd is gone {report.status}")

        assert request(failing_app(on_heartbeat=broken), "/__heartbeat__").body
        assert [record.levelno for record in errors if record.name == "dockerflow_wsgi"] == [
            logging.ERROR
        ]
        assert "statsd is gone" in errors[-1].exc_text


class TestErrorEndpoint:
    """``/__error__`` tests how errors are reported."""

    def test_the_error_endpoint_is_off_by_default(self):
        """Without the setting, ``/__error__`` reaches the app."""
        assert request(DockerflowMiddleware(hello), "/__error__").body == b"hello"

    @pytest.mark.parametrize("path", ["/__error__", "/__error__/"])
    def test_the_error_endpoint_logs_and_raises(self, listen, summaries, path):
        """``/__error__`` logs an error, raises, and has an ERROR summary."""
        errors = listen("dockerflow_wsgi")
        app = DockerflowMiddleware(refuse, error_endpoint=True)
        with pytest.raises(RuntimeError, match="__error__"):
            request(app, path)
        assert errors[0].levelno == logging.ERROR
        assert summaries[0].levelno == logging.ERROR
        assert summaries[0].errno == 500
