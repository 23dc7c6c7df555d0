"""The answers of the endpoints, line by line."""

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
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def refuse(_environ, _start_response):
    """Be an app that must not be reached."""
    raise AssertionError("the app was called")


@pytest.fixture
def app(version_directory):
    """Wrap an app that must not be reached."""
    return DockerflowMiddleware(refuse, version_path=version_directory)


@pytest.mark.parametrize("path", PATHS)
def test_each_endpoint_answers_json_that_is_not_stored(app, path):
    """Status 200, and the headers that the contract gives to all."""
    response = WebTestApp(app).get(path)
    assert response.status == "200 OK"
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Length"] == str(len(response.body))
    assert re.fullmatch(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", response.headers["X-Request-ID"]
    )


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_of_get_and_no_body(app, path):
    """Several servers do not strip the body of a HEAD response themselves."""
    got = request(app, path, HTTP_X_REQUEST_ID="same")
    head = request(app, path, "HEAD", HTTP_X_REQUEST_ID="same")
    assert head.status == got.status
    assert head.headers == got.headers
    assert head.body == b""


@pytest.mark.parametrize("path", PATHS)
def test_options_tells_the_methods(app, path):
    """OPTIONS is answered with ``Allow``."""
    response = request(app, path, "OPTIONS")
    assert response.status == "200 OK"
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.body == b""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_another_method_is_refused_and_no_check_is_run(app, path, method):
    """405 with ``Allow``, and nothing happens."""
    ran = []
    app.check(lambda: ran.append(1), name="noted")
    response = request(app, path, method)
    assert response.status == "405 Method Not Allowed"
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert json.loads(response.body) == {"error": f"{method} is not allowed: use GET or HEAD"}
    assert ran == []


@pytest.mark.parametrize(
    "path",
    [
        "/__heartbeat__/",
        "//__heartbeat__",
        "/__HEARTBEAT__",
        "/x/__heartbeat__",
        "__heartbeat__",
        "",
    ],
)
def test_only_the_exact_path_is_ours(path):
    """Everything else is the app's, however similar."""
    response = WebTestApp(DockerflowMiddleware(hello), lint=False).request(
        "/", environ={**make_environ(), "PATH_INFO": path}
    )
    assert response.body == b"hello"


def test_the_query_string_does_not_matter(app):
    """Probers add what they like."""
    assert request(app, "/__lbheartbeat__", QUERY_STRING="cache=1").status == "200 OK"


def test_the_path_below_a_mount_is_ours(app):
    """``SCRIPT_NAME`` is the server's or a dispatcher's business."""
    response = request(app, "/__lbheartbeat__", SCRIPT_NAME="/mounted/here")
    assert response.status == "200 OK"


def test_lbheartbeat_is_empty_and_runs_no_check(app):
    """It tells that this process serves requests, and nothing else."""
    ran = []
    app.check(lambda: ran.append(1), name="noted")
    response = request(app, "/__lbheartbeat__")
    assert response.body == b""
    assert response.headers["Content-Length"] == "0"
    assert ran == []


def test_the_heartbeat_shows_each_check():
    """The document's own example, with its levels and keys."""
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


def test_a_heartbeat_without_checks_is_ok():
    """Nothing registered, nothing wrong."""
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
def test_the_heartbeat_fails_from_the_failure_level_on(failed_level, message, status):
    """The worst level decides; the body tells it in any case."""
    app = DockerflowMiddleware(refuse, heartbeat_failed_level=failed_level)
    app.check(lambda: message("found"), name="a")
    response = WebTestApp(app).get("/__heartbeat__", status=status)
    assert response.json["details"]["a"]["level"] == message.default_level


@pytest.mark.parametrize(
    ("code", "status"), [(503, "503 Service Unavailable"), (599, "599 Heartbeat Failed")]
)
def test_the_failure_status_can_be_chosen(code, status):
    """A status without a standard phrase gets one."""
    app = DockerflowMiddleware(refuse, heartbeat_failed_status_code=code)
    app.check(lambda: checks.Critical("down"), name="a")
    assert request(app, "/__heartbeat__").status == status


def failing_app(**settings):
    """Wrap an app with one failing check."""
    app = DockerflowMiddleware(refuse, **settings)
    app.check(lambda: checks.Error("inner facts", id="a.E1", hint="do that"), name="failing")
    return app


@pytest.mark.parametrize(
    "accept",
    [None, "*/*", "application/json", "text/plain", "", "text/html;q=0.5,application/json"],
)
def test_probers_get_json(accept):
    """``*/*`` and no ``Accept`` at all get JSON."""
    keys = {} if accept is None else {"HTTP_ACCEPT": accept}
    response = request(failing_app(), "/__heartbeat__", **keys)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Vary"] == "Accept"


def test_a_browser_gets_the_same_facts_as_a_page():
    """Status, check, message, hint and duration; self-contained, and under no script's power."""
    response = request(failing_app(), "/__heartbeat__", HTTP_ACCEPT=BROWSER)
    page = response.body.decode()
    assert response.status == "500 Internal Server Error"
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for fact in ("error", "failing", "a.E1", "inner facts", "do that"):
        assert fact in page
    assert re.search(r"\d+\.\d ms", page)
    assert "://" not in page


def test_a_browser_may_write_its_media_types_in_any_case():
    """They are the same in any (RFC 9110, 8.3.1)."""
    response = request(failing_app(), "/__heartbeat__", HTTP_ACCEPT="TEXT/HTML")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"


def test_the_page_escapes_everything(listen):
    """Whatever a check can say is text and not markup."""
    listen("dockerflow_wsgi.checks", logging.CRITICAL)  # pytest cannot show a lone surrogate
    evil = "<script>alert('&\"')</script>\ud800"
    app = DockerflowMiddleware(refuse)
    app.check(lambda: checks.Error(evil, id=evil, hint=evil), name=evil)
    page = request(app, "/__heartbeat__", HTTP_ACCEPT=BROWSER).body
    assert b"<script" not in page
    assert page.count(b"&lt;script&gt;") == 4


def test_a_page_without_checks_says_so():
    """An empty list would look like a fault of the page."""
    page = request(DockerflowMiddleware(refuse), "/__heartbeat__", HTTP_ACCEPT=BROWSER).body
    assert b"No checks are registered." in page


@pytest.mark.parametrize("accept", ["application/json", BROWSER])
@pytest.mark.parametrize("policy", ["never", lambda environ: environ["REMOTE_ADDR"] == "10.0.0.1"])
def test_details_can_be_kept_back(accept, policy):
    """Status and checks stay; what the checks say does not."""
    app = failing_app(heartbeat_details=policy)
    response = request(app, "/__heartbeat__", HTTP_ACCEPT=accept, REMOTE_ADDR="192.0.2.1")
    assert response.status == "500 Internal Server Error"
    assert b"failing" in response.body
    assert b"inner facts" not in response.body
    assert b" ms<" not in response.body
    if accept != BROWSER:
        assert json.loads(response.body) == {"status": "error", "checks": {"failing": "error"}}


def test_details_are_shown_to_whom_the_policy_allows():
    """The callable gets the environ and says yes."""
    app = failing_app(heartbeat_details=lambda environ: environ["REMOTE_ADDR"] == "10.0.0.1")
    assert b"inner facts" in request(app, "/__heartbeat__", REMOTE_ADDR="10.0.0.1").body


def test_a_details_policy_that_raises_shows_nothing(listen):
    """In doubt the details stay hidden; the fault is in the log."""
    faults = listen("dockerflow_wsgi")
    app = failing_app(heartbeat_details=lambda environ: environ["no such key"])
    response = request(app, "/__heartbeat__")
    assert response.status == "500 Internal Server Error"
    assert b"inner facts" not in response.body
    assert "KeyError" in faults[-1].exc_text


def test_on_heartbeat_gets_each_report():
    """The hook gets the facts; what it returns is of no matter."""
    reports = []
    request(failing_app(on_heartbeat=reports.append), "/__heartbeat__")
    (report,) = reports
    assert (report.status, report.level, report.has_failed) == ("error", 40, True)
    assert report.checks == {"failing": "error"}
    assert report.results[0].duration_s >= 0


def test_an_on_heartbeat_that_raises_hurts_nothing(listen):
    """The response is sent, and the fault is logged."""
    faults = listen("dockerflow_wsgi")

    def broken(report):
        raise RuntimeError(f"statsd is gone {report.status}")

    assert request(failing_app(on_heartbeat=broken), "/__heartbeat__").body
    assert [record.levelno for record in faults if record.name == "dockerflow_wsgi"] == [
        logging.ERROR
    ]
    assert "statsd is gone" in faults[-1].exc_text


def test_the_error_endpoint_is_off_by_default():
    """The path is the app's."""
    assert request(DockerflowMiddleware(hello), "/__error__").body == b"hello"


def test_the_error_endpoint_logs_and_raises(listen, summaries):
    """It shows whether errors are reported: in the log, in the summary, by the server."""
    faults = listen("dockerflow_wsgi")
    app = DockerflowMiddleware(refuse, error_endpoint=True)
    with pytest.raises(RuntimeError, match="__error__"):
        request(app, "/__error__")
    assert faults[0].levelno == logging.ERROR
    assert summaries[0].levelno == logging.ERROR
    assert summaries[0].errno == 500


def test_a_plain_http_1_0_probe_is_answered(app):
    """HAProxy's ``option httpchk`` sends neither ``Host`` nor ``User-Agent``."""
    with wsgiref_server(app) as port:
        assert probe(port, "/__lbheartbeat__").startswith(b"HTTP/1.0 200 OK\r\n")
