"""The names and behaviour that code written for python-dockerflow relies on."""

from __future__ import annotations

import gc
import json
import logging
import threading
import weakref
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import redis
import sentry_sdk
from flask import (
    Flask,
    Response,
    current_app,
    g,
    got_request_exception,
    redirect,
    request,
    send_file,
    url_for,
)
from flask.testing import FlaskClient
from flask_login import LoginManager, current_user
from sentry_sdk.integrations.flask import FlaskIntegration
from werkzeug.test import Client

from dockerflow_wsgi import (
    CheckRegistry,
    ConfigurationError,
    DockerflowMiddleware,
    get_request_id,
    serve_in_background,
)
from dockerflow_wsgi.flask import Dockerflow, checks
from dockerflow_wsgi.flask.signals import heartbeat_failed, heartbeat_passed


@pytest.fixture
def app():
    """Make an app with a view and a redirect."""
    app = Flask("acme")
    app.add_url_rule("/", "index", lambda: "hello")
    app.add_url_rule("/old", "old", lambda: redirect("/"))
    app.add_url_rule("/reset/<token>", "reset", lambda **_token: "done")
    app.add_url_rule("/raises", "raises", lambda: 1 / 0)
    return app


class Redacting(Dockerflow):
    """Removes secrets from the summary."""

    def summary_extra(self):
        """Remove, change and add fields."""
        out = super().summary_extra()
        del out["agent"]
        out["path"] = "/" + out["path"].split("/")[1]
        out["tag"] = out["rid"]
        out["lang"] = None
        return out


class Broken(Dockerflow):
    """Raises instead of removing secrets from the summary."""

    def summary_extra(self):
        """Raise."""
        raise LookupError("no rule for this path")


class TestSummaryExtra:
    """``summary_extra()`` returns the whole summary, and its changes are final."""

    def test_it_removes_changes_and_adds_fields(self, app, summaries):
        """The log has the changes of a subclass, and lacks the fields that it removes."""
        Redacting(app)
        app.test_client().get("/reset/SECRET", headers={"X-Request-ID": "r-1"})
        (summary,) = summaries
        assert (summary.path, summary.tag, summary.rid, summary.code) == (
            "/reset",
            "r-1",
            "r-1",
            200,
        )
        assert not hasattr(summary, "agent")
        assert not hasattr(summary, "lang")
        assert isinstance(summary.t, int)

    def test_it_has_every_field(self, app, summaries):
        """``super()`` returns the documented fields, and those that the app has set."""
        seen = []

        class Own(Dockerflow):
            def summary_extra(self):
                seen.append(super().summary_extra())
                return seen[-1]

        @app.after_request
        def own(response):
            request.environ["dockerflow.summary"].update(uid="ada", plan="free")
            return response

        Own(app, summary_log_querystring=True)
        app.test_client().get("/?q=1", headers={"X-Request-ID": "r-1", "Accept-Language": "de"})
        (fields,) = seen
        assert fields.pop("t") >= 0
        assert fields.pop("agent").startswith("Werkzeug")
        assert fields == {
            "errno": 0, "lang": "de", "method": "GET", "path": "/", "querystring": "q=1",
            "rid": "r-1", "uid": "ada", "plan": "free",
        }  # fmt: skip
        assert (summaries[0].plan, summaries[0].code) == ("free", 200)

    @pytest.mark.parametrize("path", ["/reset/SECRET", "/raises"])
    def test_a_redaction_that_raises_logs_no_secret(self, app, summaries, listen, path):
        """If the method raises, the error is logged and only harmless fields are left."""
        errors = listen("dockerflow_wsgi")
        Broken(app)
        app.test_client().get(path, headers={"User-Agent": "SECRET"})
        (summary,) = summaries
        plain = set(vars(logging.makeLogRecord({}))) | {"taskName", "message"}
        assert set(vars(summary)) - plain == {"errno", "code", "method", "rid", "t"}
        assert summary.getMessage() == ""
        assert (summary.levelname, summary.errno) == (
            ("ERROR", 500) if path == "/raises" else ("INFO", 0)
        )
        assert "no rule for this path" in errors[0].exc_text

    def test_a_result_that_is_not_a_mapping_logs_no_secret(self, app, summaries, monkeypatch):
        """A subclass that forgets to return the fields does not reveal them."""
        dockerflow = Dockerflow(app)
        monkeypatch.setattr(dockerflow, "summary_extra", lambda: None)
        app.test_client().get("/reset/SECRET")
        assert not hasattr(summaries[0], "path")

    def test_a_teardown_that_raises_logs_no_secret(self, app, summaries):
        """If a teardown function prevents the redaction, the path is not logged."""
        Redacting(app)
        app.teardown_request(lambda _error: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            app.test_client().get("/reset/SECRET")
        assert not hasattr(summaries[0], "path")
        assert summaries[0].getMessage() == "division by zero"

    def test_an_exception_keeps_the_redaction(self, app, summaries):
        """A failed request has ``errno`` 500, and the redacted fields."""
        Redacting(app)
        app.test_client().get("/raises")
        assert (summaries[0].errno, summaries[0].path) == (500, "/raises")
        assert not hasattr(summaries[0], "agent")

    def test_a_stream_that_raises_later_is_an_error(self, app, summaries):
        """An exception in a stream sets ``errno``, although the summary was made before it."""

        @app.route("/stream")
        def stream():
            def chunks():
                yield "first"
                raise OSError("disk gone")

            return Response(chunks())

        Redacting(app)
        with pytest.raises(OSError, match="disk gone"):
            app.test_client().get("/stream").get_data()
        assert (summaries[0].errno, summaries[0].path, summaries[0].levelno) == (500, "/stream", 40)
        assert summaries[0].getMessage() == "disk gone"

    def test_a_subclass_can_remove_the_message(self, app, summaries):
        """``msg`` of ``None`` removes the exception's text."""

        class Own(Dockerflow):
            def summary_extra(self):
                return {**super().summary_extra(), "msg": None}

        Own(app)
        app.test_client().get("/raises")
        assert (summaries[0].getMessage(), summaries[0].errno) == ("", 500)

    def test_it_is_not_called_if_the_summary_is_not_logged(self, app, monkeypatch, listen):
        """The method is not called if the logger's level is higher."""
        dockerflow = Dockerflow(app)
        calls = []
        monkeypatch.setattr(dockerflow, "summary_extra", lambda: calls.append(1) or {})
        listen("request.summary", logging.CRITICAL)
        app.test_client().get("/")
        listen("request.summary", logging.INFO)
        app.test_client().get("/")
        assert len(calls) == 1

    def test_it_works_without_the_middleware(self, app):
        """Tests can call the method in a request context."""
        dockerflow = Dockerflow(app)
        with app.test_request_context("/reset/x", headers={"X-Request-ID": "r-1"}):
            app.preprocess_request()
            fields = dockerflow.summary_extra()
        assert (fields["path"], fields["rid"], fields["errno"]) == ("/reset/x", "r-1", 0)

    def test_a_mounted_app_redacts_the_summary_of_the_outer_middleware(self, app, summaries):
        """The inner app and the outer middleware have one summary, with the inner app's fields."""
        Redacting(app)

        def outer(environ, start_response):
            return app(environ, start_response)

        Client(DockerflowMiddleware(outer)).get("/reset/SECRET", buffered=True)
        assert [summary.path for summary in summaries] == ["/reset"]


class TestTestClient:
    """Flask's test client reads and closes responses with a known length."""

    @pytest.mark.parametrize(
        ("method", "path", "code"),
        [("GET", "/", 200), ("HEAD", "/", 200), ("OPTIONS", "/", 200), ("GET", "/none", 404),
         ("GET", "/raises", 500), ("GET", "/old", 302), ("GET", "/empty", 204),
         ("GET", "/unchanged", 304), ("GET", "/file", 200)],
    )  # fmt: skip
    def test_the_summary_is_logged_when_get_returns(self, app, summaries, method, path, code):
        """One summary per request, and no ID is left, without a read or a close."""
        app.add_url_rule("/empty", "empty", lambda: ("", 204))
        app.add_url_rule("/unchanged", "unchanged", lambda: ("", 304))
        app.add_url_rule("/file", "file", lambda: send_file(__file__))
        Dockerflow(app)
        response = app.test_client().open(path, method=method)
        assert [summary.code for summary in summaries] == [code] == [response.status_code]
        assert get_request_id() is None
        assert bool(response.data) is (method == "GET" and code not in {204, 304})

    def test_each_redirect_has_a_summary(self, app, summaries):
        """A client that follows redirects sends several requests, which have a summary each."""
        Dockerflow(app)
        response = app.test_client().get("/old", follow_redirects=True)
        assert response.text == "hello"
        assert [(summary.path, summary.code) for summary in summaries] == [
            ("/old", 302),
            ("/", 200),
        ]

    def test_streams_stay_streamed(self, app, summaries):
        """A response without a known length is read by the test, chunk by chunk."""
        made = []

        @app.route("/stream")
        def stream():
            def chunks():
                for number in range(3):
                    made.append(number)
                    yield str(number)

            return Response(chunks())

        Dockerflow(app)
        response = app.test_client().get("/stream")
        assert len(made) < 3
        assert len(summaries) == 0
        assert response.text == "012"
        response.close()
        assert len(summaries) == 1

    def test_a_kept_context_still_has_its_request(self, app, summaries):
        """``with client`` keeps the context; the summary is complete and not repeated."""
        Redacting(app)
        with app.test_client() as client:
            client.get("/reset/x", headers={"X-Request-ID": "r-1"})
            assert [summary.path for summary in summaries] == ["/reset"]
            assert (g.request_id, request.path) == ("r-1", "/reset/x")
        assert len(summaries) == 1

    def test_it_extends_the_apps_own_class(self, app, summaries):
        """The app's own client class is extended, not replaced."""

        class Own(FlaskClient):
            def open(self, *arguments, **keywords):
                keywords["headers"] = {"X-Request-ID": "own"}
                return super().open(*arguments, **keywords)

        app.test_client_class = Own
        Dockerflow(app)
        app.test_client().get("/")
        assert [summary.rid for summary in summaries] == ["own"]

    def test_a_class_that_is_set_later_needs_one_line(self, app, summaries):
        """Flask-Login's client, for example, is often set after the extension."""
        from flask_login import FlaskLoginClient

        from dockerflow_wsgi.flask.testing import closing_client_class

        Dockerflow(app)
        app.test_client_class = closing_client_class(FlaskLoginClient)
        assert isinstance(app.test_client(), FlaskLoginClient)
        app.test_client().get("/old", follow_redirects=True)
        assert [summary.code for summary in summaries] == [302, 200]

    def test_the_middleware_needs_one_line(self, app, summaries):
        """With the middleware, one line makes the test client close responses."""
        from dockerflow_wsgi.flask.testing import closing_client_class

        app.wsgi_app = DockerflowMiddleware(app.wsgi_app)
        app.test_client_class = closing_client_class()
        app.test_client().get("/old", follow_redirects=True)
        assert [summary.code for summary in summaries] == [302, 200]
        assert get_request_id() is None


class TestConfigAfterExtension:
    """``app.config`` counts up to the first request."""

    @pytest.mark.parametrize(
        "config",
        [
            {"DOCKERFLOW_HEARTBEAT_FAILED_STATUS_CODE": "503"},
            {"DOCKERFLOW": {"heartbeat_failed_status_code": 503}},
        ],
    )
    def test_settings_can_be_set_after_the_extension(self, app, config):
        """A heartbeat, as the first request, uses settings that were set after the extension."""
        Dockerflow(app).check(lambda: checks.Error("x"), name="a")
        app.config.update(config)
        assert app.test_client().get("/__heartbeat__").status_code == 503

    def test_all_settings_can_be_set_after_the_extension(self, app, summaries, version_directory):
        """Settings of IDs, summaries and the version can be set after the extension."""
        dockerflow = Dockerflow(app)
        app.config.update(
            DOCKERFLOW_REQUEST_ID_HEADER_NAME="X-Trace",
            DOCKERFLOW_SUMMARY_LOG_QUERYSTRING=True,
            DOCKERFLOW_VERSION_PATH=version_directory,
        )
        app.test_client().get("/?q=1", headers={"X-Trace": "t-1"})
        assert (summaries[0].rid, summaries[0].querystring) == ("t-1", "q=1")
        assert app.test_client().get("/__version__").json["build"] == "42"
        dockerflow.version_callback(lambda _root: {"build": "43"})
        assert app.test_client().get("/__version__").json["build"] == "43"

    def test_a_version_callback_is_kept(self, app):
        """A version callback is kept when the settings are read again."""
        Dockerflow(app).version_callback(lambda root: {"version": root})
        app.config["DOCKERFLOW_VERSION_PATH"] = "/somewhere"
        assert app.test_client().get("/__version__").json == {"version": "/somewhere"}

    def test_settings_are_not_read_after_the_first_request(self, app, summaries):
        """The settings of a serving app do not change."""
        Dockerflow(app)
        app.test_client().get("/")
        app.config["DOCKERFLOW_DISABLED"] = True
        app.test_client().get("/")
        assert len(summaries) == 2

    def test_a_wrong_value_is_one_error_and_breaks_nothing(self, app, listen):
        """A wrong value is logged once, and the earlier value stays; right values are used."""
        errors = listen("dockerflow_wsgi", logging.WARNING)
        app.config["DOCKERFLOW_HEARTBEAT_TTL"] = 5
        dockerflow = Dockerflow(app)
        app.config["DOCKERFLOW_HEARTBEAT_TTL"] = "soon"
        app.config["DOCKERFLOW_CHECK_TIMEOUT"] = "often"
        app.config["DOCKERFLOW_HEARTBEAT_DETAILS"] = "never"
        for _ in range(2):
            assert app.test_client().get("/").status_code == 200
        settings = dockerflow.get_middleware().settings
        assert (settings.heartbeat_ttl, settings.check_timeout) == (5.0, 4.0)
        assert settings.heartbeat_details == "never"
        (error,) = errors
        assert error.levelname == "ERROR"
        assert "'soon'" in error.getMessage()
        assert "'often'" in error.getMessage()

    def test_a_misspelt_name_is_one_warning(self, app, listen):
        """A misspelt name is logged once, also if it was set after the extension."""
        warnings = listen("dockerflow_wsgi", logging.WARNING)
        app.config["DOCKERFLOW_HEARTBEAT_TLL"] = 5
        Dockerflow(app)
        app.config["DOCKERFLOW_DISABELD"] = True
        for _ in range(2):
            app.test_client().get("/")
        first, second = (warning.getMessage() for warning in warnings)
        assert "DOCKERFLOW_HEARTBEAT_TLL" in first
        assert "DOCKERFLOW_DISABELD" in second

    def test_an_app_can_be_disabled_after_the_extension(self, app, summaries):
        """An app that is disabled later keeps ``g.request_id`` and the environ keys."""
        Dockerflow(app)
        app.config["DOCKERFLOW_DISABLED"] = True

        @app.before_request
        def own():
            request.environ["dockerflow.summary"]["uid"] = g.request_id

        assert app.test_client().get("/").status_code == 200
        assert app.test_client().get("/__heartbeat__").status_code == 404
        assert len(summaries) == 0

    def test_first_requests_at_the_same_time_see_the_same_settings(self, app):
        """All threads wait until the settings are read."""
        Dockerflow(app).check(lambda: checks.Error("x"), name="a")
        app.config["DOCKERFLOW_HEARTBEAT_FAILED_STATUS_CODE"] = 503
        start, codes = threading.Barrier(8), []

        def get():
            start.wait()
            codes.append(app.test_client().get("/__heartbeat__").status_code)

        threads = [threading.Thread(target=get) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == [503] * 8


class TestBlueprint:
    """The blueprint ``dockerflow`` has the endpoints' names, and answers without the middleware."""

    NAMES = ("version", "heartbeat", "lbheartbeat")

    def test_the_names_exist(self, app):
        """``url_for`` and ``view_functions`` have the names of the endpoints."""
        dockerflow = Dockerflow(app)
        assert app.extensions["dockerflow"] is dockerflow
        assert "dockerflow" in app.blueprints
        with app.test_request_context():
            urls = [url_for(f"dockerflow.{name}") for name in self.NAMES]
        assert urls == ["/__version__", "/__heartbeat__", "/__lbheartbeat__"]
        for name in self.NAMES:
            assert app.view_functions[f"dockerflow.{name}"].__name__ == name

    def test_the_paths_are_answered_where_wsgi_app_was_taken(self, app, listen, version_directory):
        """If ``wsgi_app`` was taken, as by Connexion, endpoints answer; one warning is logged."""
        warnings = listen("dockerflow_wsgi", logging.WARNING)
        taken = Client(app.wsgi_app)
        dockerflow = Dockerflow(app, version_path=version_directory)
        dockerflow.check(lambda: checks.Error(current_app.name, id="acme.E001"), name="a")
        assert taken.get("/__version__").json["build"] == "42"
        response = taken.get("/__heartbeat__", headers={"X-Request-ID": "r-1"})
        assert response.status_code == 500
        assert response.json["details"]["a"]["messages"] == {"acme.E001": "acme"}
        assert response.headers["X-Request-ID"] == "r-1"
        assert response.headers["Cache-Control"] == "no-store"
        assert taken.get("/__lbheartbeat__/").status_code == 200
        assert taken.head("/__heartbeat__").data == b""
        assert taken.options("/__heartbeat__").headers["Allow"] == "GET, HEAD, OPTIONS"
        assert taken.post("/__heartbeat__").status_code == 405
        assert taken.get("/").text == "hello"
        (warning, *_) = [one for one in warnings if "without passing" in one.getMessage()]
        assert "'acme'" in warning.getMessage()
        assert sum(one.name == "dockerflow_wsgi" for one in warnings) == 1

    def test_a_request_context_of_a_test_logs_no_warning(self, app, listen):
        """An app with ``TESTING`` may call ``preprocess_request`` without a warning."""
        warnings = listen("dockerflow_wsgi", logging.WARNING)
        app.testing = True
        Dockerflow(app)
        with app.test_request_context():
            app.preprocess_request()
            assert g.request_id == g._request_id
        app.test_client().get("/")
        assert len(warnings) == 0

    def test_disabled_the_names_exist_and_the_paths_answer_404(self, app):
        """While disabled, an endpoint is a 404, with and without the middleware."""
        app.add_url_rule("/<path:path>", "page", lambda path: path)
        taken = Client(app.wsgi_app)
        Dockerflow(app, disabled=True, error_endpoint=True)
        with app.test_request_context():
            assert url_for("dockerflow.heartbeat") == "/__heartbeat__"
        for path in ("/__version__", "/__heartbeat__", "/__lbheartbeat__"):
            assert taken.get(path).status_code == 404
            assert app.test_client().get(path).status_code == 404
        assert app.test_client().get("/__error__").text == "__error__"


class TestErrorEndpoint:
    """``/__error__`` raises inside Flask."""

    def test_it_uses_the_apps_error_page_and_signals(self, app, summaries, listen):
        """The endpoint shows the app's own error page and sends Flask's signal."""
        errors, seen = listen("dockerflow_wsgi"), []
        app.register_error_handler(500, lambda _error: ("our page", 500))
        got_request_exception.connect(
            lambda _app, exception: seen.append(exception), app, weak=False
        )
        Dockerflow(app, error_endpoint=True)
        response = app.test_client().get("/__error__")
        assert (response.text, response.status_code) == ("our page", 500)
        assert [type(error) for error in seen] == [RuntimeError]
        assert [(summary.levelname, summary.path) for summary in summaries] == [
            ("ERROR", "/__error__")
        ]
        assert "/__error__ was requested" in errors[0].getMessage()
        assert app.test_client().options("/__error__").status_code == 200
        assert app.test_client().post("/__error__").status_code == 405

    def test_sentrys_flask_integration_reports_it(self, app):
        """The event has Flask's transaction and the exception."""
        events = []
        sentry_sdk.init(
            "https://key@127.0.0.1/1",
            integrations=[FlaskIntegration()],
            auto_enabling_integrations=False,
            default_integrations=False,
            before_send=lambda event, _hint: events.append(event),
        )
        try:
            Dockerflow(app, error_endpoint=True)
            app.test_client().get("/__error__")
        finally:
            sentry_sdk.get_global_scope().set_client(None)
        (event,) = events
        assert event["exception"]["values"][0]["type"] == "RuntimeError"
        assert event["request"]["url"].endswith("/__error__")

    def test_while_it_is_off_the_path_is_the_apps(self, app):
        """While the endpoint is off, its path reaches a catch-all route."""
        app.add_url_rule("/<path:path>", "page", lambda path: path)
        Dockerflow(app)
        assert app.test_client().get("/__error__").text == "__error__"


class TestNames:
    """The documented arguments, attributes and methods exist."""

    def test_loggers_are_attributes(self, app):
        """The loggers are attributes, so that ``dockerflow.logger.setLevel(...)`` works."""
        dockerflow = Dockerflow(app)
        assert dockerflow.logger.name == "dockerflow_wsgi"
        assert dockerflow.summary_logger.name == "request.summary"

    def test_a_registry_can_be_passed(self, app):
        """Modules of checks register with it, without access to the extension."""
        registry = CheckRegistry()
        registry.check(list, name="in_a_module")
        dockerflow = Dockerflow(app, registry=registry)
        assert dockerflow.registry is registry
        assert app.test_client().get("/__heartbeat__").json["checks"] == {"in_a_module": "ok"}

    @pytest.mark.parametrize("name", ["db", "redis", "migrate"])
    def test_a_module_as_a_service_is_a_type_error(self, app, name):
        """The module ``redis`` instead of a client is a `TypeError`."""
        with pytest.raises(TypeError, match=f"^{name} must be .*, not the module 'redis'"):
            Dockerflow(app, **{name: redis})
        assert "dockerflow" not in app.extensions

    def test_get_middleware_names_the_problem(self, app):
        """The error explains that the extension has no app, or several."""
        dockerflow = Dockerflow()
        with pytest.raises(ConfigurationError, match="the extension has no app: call init_app"):
            dockerflow.get_middleware()
        with pytest.raises(ConfigurationError, match=f"has no app '{app.name}': call init_app"):
            dockerflow.get_middleware(app)
        for one in (app, Flask("other")):
            dockerflow.init_app(one)
        with pytest.raises(ConfigurationError, match="the extension has 2 apps: pass one of them"):
            dockerflow.get_middleware()
        assert dockerflow.get_middleware(app) is app.wsgi_app

    def test_receivers_need_not_take_the_report(self, app, listen):
        """``f(sender, level)`` works, as a function and as a method."""
        errors, seen = listen("dockerflow_wsgi", logging.ERROR), []

        class Statsd:
            def passed(self, sender, level):
                seen.append(("method", sender, level))

        def passed(sender, level):
            seen.append(("function", sender, level))

        def failed(sender, **extra):
            seen.append(("extra", sender, extra["level"], extra["report"].status))

        statsd = Statsd()
        heartbeat_passed.connect(statsd.passed, app)
        heartbeat_passed.connect(passed, app)
        heartbeat_failed.connect(failed, app)
        dockerflow = Dockerflow(app)
        app.test_client().get("/__heartbeat__")
        dockerflow.check(lambda: checks.Error("x"), name="a")
        app.test_client().get("/__heartbeat__")
        assert sorted(seen, key=lambda one: one[0]) == [
            ("extra", app, 40, "error"), ("function", app, 0), ("method", app, 0),
        ]  # fmt: skip
        assert [error.name for error in errors] == ["dockerflow_wsgi.checks"]

    def test_apps_are_not_kept_alive(self):
        """The extension, its signals and its blueprint let an app go."""
        dockerflow, dropped = Dockerflow(), []
        for _ in range(3):
            app = Flask("acme")
            dockerflow.init_app(app)
            app.test_client().get("/__lbheartbeat__")
            app.test_client().get("/none")
            dropped.append(weakref.ref(app))
        del app
        gc.collect()
        assert [one() for one in dropped] == [None] * 3


class TestUser:
    """``user_id()`` returns Flask-Login's user, and never loads one."""

    @pytest.fixture
    def loads(self, app):
        """Add Flask-Login with a user class, and count how often a user is loaded."""
        loads = []

        class Plain:
            """A user without Flask-Login's mixin."""

            is_authenticated = True

            def get_id(self):
                return 7

        def load(_request):
            loads.append(1)
            return Plain()

        app.secret_key = "x"
        LoginManager(app).request_loader(load)
        app.add_url_rule("/me", "me", lambda: str(current_user.get_id()))
        return loads

    def test_user_classes_need_no_is_anonymous(self, app, loads, summaries):
        """A user class needs only ``is_authenticated`` and ``get_id``."""
        Dockerflow(app)
        app.test_client().get("/me")
        assert [summary.uid for summary in summaries] == ["7"]
        assert len(loads) == 1

    def test_no_user_is_loaded(self, app, loads, summaries):
        """A request that does not ask for its user has no ``uid``."""
        Dockerflow(app)
        app.test_client().get("/")
        app.test_client().get("/__heartbeat__")
        assert [summary.uid for summary in summaries] == ["", ""]
        assert loads == []

    @pytest.mark.parametrize("as_method", [False, True])
    def test_a_user_who_is_not_authenticated_has_no_uid(self, app, summaries, as_method):
        """``is_authenticated`` may be a method, as in old user classes."""

        class Guest:
            is_authenticated = (lambda _self: False) if as_method else False

            def get_id(self):
                return "guest"

        app.secret_key = "x"
        LoginManager(app).request_loader(lambda _request: Guest())
        app.add_url_rule("/me", "me", lambda: str(current_user.get_id()))
        Dockerflow(app)
        assert app.test_client().get("/me").text == "guest"
        assert [summary.uid for summary in summaries] == [""]

    def test_a_login_manager_without_a_loader_is_no_error(self, app, summaries, listen):
        """An app without a user loader has no ``uid``, and no error is logged."""
        errors = listen("dockerflow_wsgi", logging.ERROR)
        app.secret_key = "x"
        LoginManager(app)
        Dockerflow(app)
        app.test_client().get("/")
        assert (summaries[0].uid, len(errors)) == ("", 0)


class TestServeInBackground:
    """A worker serves the extension's endpoints, in the app's context."""

    @pytest.mark.parametrize("what", ["extension", "app"])
    def test_checks_have_the_context_and_no_page_is_served(self, app, what):
        """Checks run in the app's context, with settings that were set after the extension."""
        dockerflow = Dockerflow(app)
        dockerflow.check(lambda: checks.Error(current_app.name, id="acme.E001"), name="a")
        app.config["DOCKERFLOW_HEARTBEAT_FAILED_STATUS_CODE"] = 503
        served = dockerflow if what == "extension" else app
        with serve_in_background(served, port=0, host="127.0.0.1") as server:
            url = f"http://127.0.0.1:{server.port}"
            with urlopen(f"{url}/__lbheartbeat__") as response:
                assert response.status == 200
            with pytest.raises(HTTPError) as failed:
                urlopen(f"{url}/__heartbeat__")
            with pytest.raises(HTTPError) as missing:
                urlopen(f"{url}/reset/x")
        with failed.value, missing.value:
            assert (failed.value.code, missing.value.code) == (503, 404)
            assert json.load(failed.value)["details"]["a"]["messages"] == {"acme.E001": "acme"}
