"""The Flask extension."""

from __future__ import annotations

import json
import logging
import os
import threading

import pytest
import redis
from flask import (
    Flask,
    Response,
    abort,
    copy_current_request_context,
    current_app,
    g,
    got_request_exception,
    request,
    stream_with_context,
)
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_migrate import Migrate, init, stamp, upgrade
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine
from werkzeug.exceptions import InternalServerError, NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from dockerflow_wsgi import ConfigurationError, DockerflowMiddleware, get_request_id
from dockerflow_wsgi.checks import HeartbeatReport
from dockerflow_wsgi.flask import Dockerflow, HeartbeatFailure, checks
from dockerflow_wsgi.flask.checks import check_database_connected
from dockerflow_wsgi.flask.signals import heartbeat_failed, heartbeat_passed


def make_app(**config):
    """Make an app with a few views."""
    app = Flask("acme")
    app.config.update(SECRET_KEY="x", **config)

    @app.route("/")
    def index():
        return g.request_id

    @app.route("/raises")
    def raises():
        raise ValueError("broken view")

    return app


@pytest.fixture
def app():
    """Make an app."""
    return make_app()


def heartbeat(app, **options):
    """Request the heartbeat."""
    return app.test_client().get("/__heartbeat__", **options)


class TestInitApp:
    """One extension serves any number of apps, each of them once."""

    def test_the_endpoints_are_answered_and_the_app_serves(self, app, version_directory):
        """The extension answers all three endpoints, and the app serves its own pages."""
        Dockerflow(app, version_path=str(version_directory))
        client = app.test_client()
        assert client.get("/__version__").json["build"] == "42"
        assert client.get("/__heartbeat__").json == {"status": "ok", "checks": {}, "details": {}}
        assert client.get("/__lbheartbeat__").data == b""
        response = client.get("/", headers={"X-Request-ID": "r-1"})
        assert response.text == response.headers["X-Request-ID"] == "r-1"

    def test_the_arguments_are_the_documented_ones(self, app, version_directory):
        """The arguments have the documented order and can be positional."""
        with redis.Redis.from_url("redis://127.0.0.1:1") as client:
            engine = create_engine("sqlite://")
            silenced = ["dockerflow.health.E004"]
            Dockerflow(app, engine, client, None, silenced, str(version_directory))
            shown = heartbeat(app).json
            engine.dispose()
        assert shown["checks"] == {"check_database_connected": "ok", "check_redis_connected": "ok"}
        assert app.test_client().get("/__version__").status_code == 200

    def test_one_extension_serves_several_apps(self):
        """``init_app`` can be called for several apps, and each app has its own state."""
        dockerflow = Dockerflow()

        @dockerflow.check
        def which():
            return checks.Info(f"{current_app.name}", id="app")

        apps = [Flask("one"), Flask("two")]
        for app in apps:
            dockerflow.init_app(app)
        found = [heartbeat(app).json["details"]["which"]["messages"]["app"] for app in apps]
        assert found == ["one", "two"]
        assert dockerflow.get_middleware(apps[0]) is not dockerflow.get_middleware(apps[1])

    def test_each_extension_has_its_own_checks(self):
        """Checks belong to an extension, not to the process."""
        one, two = Flask("one"), Flask("two")
        Dockerflow(one).check(list, name="only_one")
        Dockerflow(two)
        assert heartbeat(one).json["checks"] == {"only_one": "ok"}
        assert heartbeat(two).json["checks"] == {}

    def test_initializing_an_app_twice_is_an_error(self, app):
        """A second ``init_app`` is refused: each request would have two summaries."""
        dockerflow = Dockerflow(app)
        with pytest.raises(ConfigurationError, match="'acme' has a Dockerflow already"):
            dockerflow.init_app(app)
        with pytest.raises(ConfigurationError, match="call init_app"):
            Dockerflow(app)

    def test_the_extension_on_an_app_with_the_middleware_is_an_error(self, app):
        """The extension refuses an app whose ``wsgi_app`` has a middleware already."""
        app.wsgi_app = ProxyFix(DockerflowMiddleware(app.wsgi_app))
        with pytest.raises(ConfigurationError, match="DockerflowMiddleware already"):
            Dockerflow(app)

    def test_the_middleware_around_the_extension_is_an_error(self, app):
        """The middleware refuses an app that the extension has wrapped, and names both."""
        Dockerflow(app)
        with pytest.raises(ConfigurationError, match="a Flask around a DockerflowMiddleware"):
            DockerflowMiddleware(app)

    def test_checks_are_registered_as_documented(self, app):
        """The decorator, a name and an object work before and after ``init_app``."""
        dockerflow = Dockerflow(app)

        @dockerflow.check
        def storage_reachable():
            return [checks.Warning("slow", id="acme.health.0002")]

        @dockerflow.check(name="acme-storage-check")
        def storage_reachable_too():
            return []

        dockerflow.init_check(lambda obj: [checks.Info(obj)], "object", name="about")
        assert heartbeat(app).json["checks"] == {
            "storage_reachable": "warning",
            "acme-storage-check": "ok",
            "about": "info",
        }
        assert heartbeat(app).status_code == 500

    def test_the_version_callback_may_be_set_late(self, app):
        """A callback is used for every app, also if it is set after ``init_app``."""
        dockerflow = Dockerflow()
        before = make_app()

        @dockerflow.version_callback
        def my_version(root):
            return {"root": root}

        dockerflow.init_app(before)
        dockerflow.init_app(app)
        expected = {"root": os.path.dirname(app.root_path)}
        assert before.test_client().get("/__version__").json == expected
        dockerflow.version_callback(lambda _root: {"version": "new"})
        for each in (before, app):
            assert each.test_client().get("/__version__").json == {"version": "new"}

    def test_version_json_is_found_next_to_the_package(self, version_directory):
        """The file is looked up in the parent of the app's root path, then in the root path."""
        package = version_directory / "package"
        package.mkdir()
        app = Flask("acme", root_path=str(package))
        Dockerflow(app)
        assert app.test_client().get("/__version__").json["build"] == "42"
        (version_directory / "version.json").rename(package / "version.json")
        assert app.test_client().get("/__version__").json["build"] == "42"

    def test_signals_of_other_apps_are_ignored(self, app, summaries):
        """An exception in an app without the extension does not reach the extension."""
        Dockerflow(make_app())
        assert app.test_client().get("/raises").status_code == 500
        assert len(summaries) == 0

    def test_an_object_that_is_not_an_app_is_a_type_error(self):
        """The error names the type of the argument."""
        with pytest.raises(TypeError, match="app must be a Flask app, not a str"):
            Dockerflow("acme")

    def test_an_unknown_keyword_is_a_type_error(self, app):
        """An unknown keyword is an error that suggests the nearest setting."""
        with pytest.raises(TypeError, match="did you mean 'check_timeout'"):
            Dockerflow(app, chek_timeout=3)


class TestRequestId:
    """``flask.g.request_id`` is the ID of the request."""

    def test_g_has_the_request_id_in_every_before_request(self):
        """A function that was registered before the extension has it too."""
        app = Flask("acme")
        seen = []

        @app.before_request
        def first():
            seen.append((g.request_id, g.get("request_id"), "request_id" in g, get_request_id()))

        Dockerflow(app)
        app.test_client().get("/", headers={"X-Request-ID": "r-1"}).close()
        assert seen == [("r-1", "r-1", True, "r-1")]

    def test_g_has_the_id_of_the_response(self, app):
        """Without trust in incoming IDs, ``g`` and the response have the same new ID."""
        Dockerflow(app, trust_request_id=False)
        seen = []
        app.before_request(lambda: seen.append(g.request_id))
        response = app.test_client().get("/", headers={"X-Request-ID": "r-1"})
        assert seen == [response.headers["X-Request-ID"]]
        assert seen != ["r-1"]

    def test_a_value_that_the_app_sets_stays(self, app):
        """The app's value stays in ``g``; the response has the request's ID."""
        Dockerflow(app)

        @app.before_request
        def own():
            g.request_id = "own"

        response = app.test_client().get("/", headers={"X-Request-ID": "r-1"})
        assert response.text == "own"
        assert response.headers["X-Request-ID"] == "r-1"

    def test_a_value_that_the_app_set_before_the_request_stays(self, app):
        """A value in the ``g`` of an app context that a test has pushed stays."""
        Dockerflow(app)
        with app.app_context():
            g.request_id = "own"
            assert app.test_client().get("/").text == "own"

    def test_no_request_sees_the_id_of_an_earlier_one(self, app):
        """Requests that share an app context, as in tests, have different IDs."""
        Dockerflow(app)
        client = app.test_client()
        with app.app_context():
            for number in range(3):
                response = client.get("/", headers={"X-Request-ID": f"r-{number}"})
                assert response.text == f"r-{number}"

    def test_there_is_no_request_id_outside_a_request(self, app):
        """An app context without a request has no ID."""
        Dockerflow(app)
        with app.app_context():
            assert not hasattr(g, "request_id")
            assert g.get("request_id", "none") == "none"
            assert "request_id" not in g
            assert g.get("other") is None

    def test_commands_run(self, app):
        """The app's command line works without a request."""
        Dockerflow(app)

        @app.cli.command("hello")
        def hello():
            print("hello from", current_app.name)

        assert app.test_cli_runner().invoke(args=["hello"]).output == "hello from acme\n"


class TestSignals:
    """Each run of the checks sends ``heartbeat_passed`` or ``heartbeat_failed``."""

    def test_the_documented_signals_fire(self, app):
        """Receivers get the app as sender, the level and the report, in the app's context."""
        dockerflow = Dockerflow(app)
        seen = []

        @heartbeat_passed.connect_via(app)
        def passed(sender, level, **extra):
            seen.append(("passed", sender, level, type(extra["report"]), current_app.name))

        @heartbeat_failed.connect_via(app)
        def failed(sender, level, **extra):
            seen.append(("failed", sender, level, type(extra["report"]), current_app.name))

        heartbeat(app)
        dockerflow.check(lambda: checks.Error("x"), name="a")
        heartbeat(app)
        other = make_app()
        Dockerflow(other)
        heartbeat(other)
        assert seen == [
            ("passed", app, 0, HeartbeatReport, "acme"),
            ("failed", app, 40, HeartbeatReport, "acme"),
        ]

    def test_a_receiver_that_raises_is_logged_and_the_others_are_called(self, app, listen):
        """An exception in a receiver does not fail the heartbeat."""
        errors = listen("dockerflow_wsgi")
        Dockerflow(app)
        called = []

        @heartbeat_passed.connect_via(app)
        def broken(_sender, **_extra):
            raise OSError("statsd is gone")

        @heartbeat_passed.connect_via(app)
        def fine(_sender, **_extra):
            called.append(1)

        assert heartbeat(app).status_code == 200
        assert called == [1]
        assert "statsd is gone" in errors[0].exc_text

    def test_heartbeat_failure_is_an_internal_server_error(self):
        """`HeartbeatFailure` is a Werkzeug ``InternalServerError``."""
        assert issubclass(HeartbeatFailure, InternalServerError)
        assert HeartbeatFailure().code == 500


class TestBuiltInChecks:
    """The built-in checks work with Flask's extensions."""

    def test_flask_sqlalchemys_binds_are_checked_in_the_apps_context(self, app, tmp_path):
        """``db.engine`` works in the check's thread, and every bind is checked and named."""
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        app.config["SQLALCHEMY_BINDS"] = {"users": f"sqlite:///{tmp_path}/no/users"}
        db = SQLAlchemy(app)
        Dockerflow(app, db=db)
        messages = heartbeat(app).json["details"]["check_database_connected"]["messages"]
        assert list(messages) == ["dockerflow.health.E008"]
        assert messages["dockerflow.health.E008"].startswith("Bind 'users': ")
        with app.app_context():
            assert len(check_database_connected(db)) == 1
            for engine in db.engines.values():
                engine.dispose()

    @pytest.mark.filterwarnings("ignore:.*path_separator:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:'get_engine' is deprecated")  # Flask-Migrate's own env.py
    def test_flask_migrates_migrations_are_checked(self, app, tmp_path, monkeypatch):
        """The check reports an unknown revision, and nothing when the database is up to date."""
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'db'}"
        db = SQLAlchemy(app)
        migrate = Migrate(app, db, directory=str(tmp_path / "migrations"))
        with app.app_context():
            init()
        script = 'revision = "aaaa"\ndown_revision = None\ndef upgrade(): pass\n'
        (tmp_path / "migrations" / "versions" / "aaaa.py").write_text(script)
        Dockerflow(app, db=db, migrate=migrate)
        found = heartbeat(app).json["details"]["check_migrations_applied"]["messages"]
        assert found["dockerflow.health.W001"].startswith("Unapplied migrations found: aaaa (")
        monkeypatch.setattr("logging.config.fileConfig", print)  # it disables all other loggers
        with app.app_context():
            upgrade()
        assert heartbeat(app).json["checks"]["check_migrations_applied"] == "ok"
        with app.app_context():
            db.engine.dispose()
        with app.app_context():
            stamp(revision="aaaa")
            db.engine.dispose()

    def test_a_teardown_that_raises_does_not_change_a_checks_result(self, app, listen):
        """An exception in a teardown function is logged, and the check passes."""
        errors = listen("dockerflow_wsgi")
        app.teardown_appcontext(lambda _error: g.never_set.close())
        Dockerflow(app).check(list, name="fine")
        assert heartbeat(app).json["checks"] == {"fine": "ok"}
        assert "never_set" in errors[0].exc_text

    @pytest.mark.filterwarnings("ignore:.*path_separator:DeprecationWarning")
    def test_flask_migrates_database_is_the_default(self, app, tmp_path):
        """Without ``db``, the check uses the database of the ``Migrate`` object."""
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'db'}"
        db = SQLAlchemy(app)
        migrate = Migrate(app, db, directory=str(tmp_path / "migrations"))
        with app.app_context():
            init()
            assert checks.check_migrations_applied(migrate) == []
            with db.engine.begin() as connection:
                connection.execute(db.text("CREATE TABLE alembic_version (version_num text)"))
                connection.execute(db.text("INSERT INTO alembic_version VALUES ('ffff')"))
            (message,) = checks.check_migrations_applied(migrate)
            db.engine.dispose()
        assert message.id == "dockerflow.health.I002"


class User(UserMixin):
    """A user."""

    id = 7


@pytest.fixture
def login_app(app):
    """Make an app with Flask-Login, and count how often it loads a user."""
    manager = LoginManager(app)
    app.loads = []

    @manager.user_loader
    def load(user_id):
        app.loads.append(user_id)
        return User()

    @app.route("/login")
    def login():
        login_user(User())
        return ""

    @app.route("/me")
    def me():
        return current_user.get_id() or "nobody"

    @app.route("/other")
    def other():
        return ""

    return app


class TestUser:
    """The summary's ``uid`` is the user that the app has loaded."""

    def test_the_uid_is_flask_logins_loaded_user(self, login_app, summaries):
        """The user is not loaded for the summary, nor for the endpoints."""
        Dockerflow(login_app)
        client = login_app.test_client()
        for path in ("/me", "/login", "/other", "/__heartbeat__", "/me"):
            client.get(path)
        shown = [(record.path, record.uid) for record in summaries]
        assert shown == [
            ("/me", ""), ("/login", "7"), ("/other", ""), ("/__heartbeat__", ""), ("/me", "7"),
        ]  # fmt: skip
        assert login_app.loads == ["7"]

    def test_a_deleted_user_has_no_uid(self, login_app, summaries):
        """If the session's user does not exist, the ``uid`` is empty."""
        Dockerflow(login_app)
        client = login_app.test_client()
        client.get("/login")
        login_app.login_manager.user_loader(lambda _id: None)
        assert client.get("/me").text == "nobody"
        assert [record.uid for record in summaries] == ["7", ""]

    def test_a_user_loader_that_raises_leaves_the_uid_empty(self, login_app, summaries):
        """The app's own error handling sees the exception."""
        Dockerflow(login_app)
        client = login_app.test_client()
        client.get("/login")
        login_app.login_manager.user_loader(lambda _id: 1 / 0)
        assert client.get("/me").status_code == 500
        assert client.get("/other").status_code == 200
        assert [record.uid for record in summaries] == ["7", "", ""]

    def test_a_user_that_raises_leaves_the_uid_empty(self, login_app, summaries, listen):
        """A user whose database session is closed does not break the summary."""
        errors = listen("dockerflow_wsgi")

        class Detached(User):
            def get_id(self):
                raise LookupError("detached")

        login_app.login_manager.request_loader(lambda _request: Detached())
        login_app.add_url_rule("/asks", view_func=lambda: str(current_user.is_active))
        Dockerflow(login_app)
        assert login_app.test_client().get("/asks").text == "True"
        assert summaries[0].uid == ""
        assert "detached" in errors[0].exc_text

    def test_the_uid_is_the_request_loaders_user(self, login_app, summaries):
        """A user from the request loader counts, also with a session of a deleted user."""
        login_app.add_url_rule("/who", view_func=lambda: str(current_user.id))
        Dockerflow(login_app)
        client = login_app.test_client()
        client.get("/login")
        other = User()
        other.id = 8
        login_app.login_manager.user_loader(lambda _id: None)
        login_app.login_manager.request_loader(lambda _request: other)
        assert client.get("/who").text == "8"
        assert [record.uid for record in summaries] == ["7", "8"]

    def test_a_copied_context_keeps_the_uid(self, login_app, summaries):
        """The end of a copied request context, whose ``g`` is empty, keeps the ``uid``."""

        @login_app.route("/threaded")
        def threaded():
            assert current_user.is_authenticated
            thread = threading.Thread(target=copy_current_request_context(lambda: None))
            thread.start()
            thread.join()
            return ""

        Dockerflow(login_app)
        client = login_app.test_client()
        client.get("/login")
        client.get("/threaded")
        assert summaries[1].uid == "7"

    def test_a_copied_context_does_not_make_the_summary(self, app, summaries):
        """``summary_extra()`` is called in the context of the request itself."""

        class Own(Dockerflow):
            def user_id(self):
                return g.get("user", "nobody")

        @app.route("/threaded")
        def threaded():
            g.user = "ada"
            thread = threading.Thread(target=copy_current_request_context(lambda: None))
            thread.start()
            thread.join()
            return ""

        Own(app)
        app.test_client().get("/threaded")
        assert summaries[0].uid == "ada"

    def test_a_user_of_a_copied_context_is_ignored(self, login_app, summaries):
        """A job that logs in another user does not change the request's ``uid``."""
        other = User()
        other.id = 8

        @login_app.route("/threaded")
        def threaded():
            assert current_user.get_id() == "7"
            job = copy_current_request_context(lambda: setattr(g, "_login_user", other))
            thread = threading.Thread(target=job)
            thread.start()
            thread.join()
            return ""

        login_app.login_manager.request_loader(lambda _request: User())
        Dockerflow(login_app)
        login_app.test_client().get("/threaded")
        assert summaries[0].uid == "7"


class TestSummaryExtra:
    """``summary_extra()`` and ``user_id()`` can be overridden."""

    @pytest.mark.parametrize("name", ["user_id", "summary_extra"])
    @pytest.mark.parametrize("owner", [Dockerflow, None])
    def test_a_replaced_method_is_called(self, app, summaries, monkeypatch, owner, name):
        """`unittest.mock.patch.object` works on the class and on the object."""
        extension = Dockerflow(app)
        client = app.test_client()
        client.get("/")
        returned = "ada" if name == "user_id" else {"uid": "ada"}
        monkeypatch.setattr(owner or extension, name, lambda *_self: returned)
        client.get("/")
        assert [record.uid for record in summaries] == ["", "ada"]

    def test_summary_extra_sees_values_that_teardown_functions_set_in_g(self, app, summaries):
        """Teardown functions that are registered after the extension run before the method."""

        class Own(Dockerflow):
            def summary_extra(self):
                return {"late": g.get("late")}

        Own(app)
        app.teardown_request(lambda _error: setattr(g, "late", 2))
        app.test_client().get("/")
        assert summaries[0].late == 2

    def test_any_class_can_be_the_type_of_g(self, app, summaries, listen):
        """``Flask.app_ctx_globals_class`` may be a class without methods."""
        errors = listen("dockerflow_wsgi")
        app.app_ctx_globals_class = type("Own", (), {})
        Dockerflow(app)
        assert app.test_client().get("/").status_code == 200
        assert (summaries[0].levelname, summaries[0].uid, len(errors)) == ("INFO", "", 0)

    def test_summary_extra_and_user_id_can_be_overridden(self, app, summaries):
        """A subclass can use the request, and overrides the app's items."""

        class Own(Dockerflow):
            def user_id(self):
                return request.headers["X-User"]

            def summary_extra(self):
                return {**super().summary_extra(), "endpoint": request.endpoint, "n": 1}

        @app.after_request
        def own(response):
            request.environ["dockerflow.summary"]["n"] = 2
            return response

        Own(app)
        app.test_client().get("/", headers={"X-User": "ada"})
        assert (summaries[0].uid, summaries[0].endpoint, summaries[0].n) == ("ada", "index", 1)


class TestExceptions:
    """A request that failed has an ERROR summary."""

    def test_an_error_page_may_push_another_context(self, app, summaries):
        """A second context with the request's environ does not hide the failure."""

        @app.errorhandler(500)
        def page(_error):
            with app.request_context(request.environ):
                return "sorry", 500

        Dockerflow(app)
        assert app.test_client().get("/raises").text == "sorry"
        assert (summaries[0].levelname, summaries[0].errno) == ("ERROR", 500)

    def test_an_exception_that_flask_handles_is_an_error_summary(self, app, summaries):
        """The client gets Flask's 500 page, and the summary has the exception's text."""
        response, summary = summary_of(app, summaries)
        assert response.status_code == 500
        assert (summary.levelno, summary.errno, summary.code) == (logging.ERROR, 500, 500)
        assert summary.getMessage() == "broken view"

    def test_an_exception_with_an_errorhandler_is_not_an_error(self, app, summaries):
        """An exception that an error handler answers has a summary of level INFO."""
        app.register_error_handler(ValueError, lambda error: (f"sorry, {error}", 422))
        response, summary = summary_of(app, summaries)
        assert response.text == "sorry, broken view"
        assert (summary.levelno, summary.errno, summary.code) == (logging.INFO, 0, 422)

    def test_an_exception_with_an_error_page_for_500_is_an_error_summary(self, app, summaries):
        """A handler for 500 does not hide the failure."""
        app.register_error_handler(500, lambda _error: ("our own page", 503))
        response, summary = summary_of(app, summaries)
        assert (response.text, response.status_code) == ("our own page", 503)
        assert (summary.levelno, summary.errno, summary.code) == (logging.ERROR, 500, 503)

    def test_a_propagated_exception_is_one_error_summary(self, app, summaries):
        """With ``PROPAGATE_EXCEPTIONS``, the server gets the exception, which is logged once."""
        app.config["PROPAGATE_EXCEPTIONS"] = True
        Dockerflow(app)
        with pytest.raises(ValueError, match="broken view"):
            app.test_client().get("/raises")
        assert [(record.levelno, record.getMessage()) for record in summaries] == [
            (40, "broken view")
        ]

    def test_an_exception_in_a_before_request_is_an_error_summary(self, app, summaries):
        """An exception in a ``before_request`` function has an ERROR summary."""
        app.before_request(lambda: 1 / 0)
        _response, summary = summary_of(app, summaries, "/")
        assert (summary.levelno, summary.getMessage()) == (40, "division by zero")

    def test_a_successful_second_try_is_not_an_error(self, app, summaries):
        """A request whose second try succeeds, below the middleware, has an INFO summary."""
        tries = []

        def fail_once():
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError

        app.before_request(fail_once)
        inner = app.wsgi_app

        def trying_twice(environ, start_response):
            list(inner(environ, lambda *_: None))
            return inner(environ, start_response)

        app.wsgi_app = trying_twice
        Dockerflow(app)
        assert app.test_client().get("/").status_code == 200
        assert [(record.levelno, record.code) for record in summaries] == [(20, 200)]

    def test_an_exception_in_a_teardown_is_an_error_summary(self, app, summaries):
        """An exception in a teardown function reaches the server and has an ERROR summary."""
        Dockerflow(app)

        @app.teardown_request
        def teardown(_error):
            raise LookupError("late")

        with pytest.raises(LookupError):
            app.test_client().get("/")
        assert [(record.levelno, record.getMessage()) for record in summaries] == [(40, "late")]

    def test_an_exception_in_a_streamed_body_is_an_error_summary(self, app, summaries):
        """The status that was sent before stays in the summary."""

        @app.route("/stream")
        def stream():
            def chunks():
                yield g.request_id
                raise OSError("disk gone")

            return Response(stream_with_context(chunks()))

        Dockerflow(app)
        with pytest.raises(OSError, match="disk gone"):
            app.test_client().get("/stream").get_data()
        (summary,) = summaries
        assert (summary.levelno, summary.code, summary.getMessage()) == (40, 200, "disk gone")

    def test_aborts_are_not_errors(self, app, summaries):
        """A page that aborts with 503 has a summary of level INFO, with the status as ``errno``."""
        app.add_url_rule("/busy", view_func=lambda: abort(503))
        _response, summary = summary_of(app, summaries, "/busy")
        assert (summary.levelno, summary.errno) == (logging.INFO, 503)

    def test_exceptions_outside_a_request_are_ignored(self, app, summaries):
        """``got_request_exception`` is ignored outside a request, and for a 404."""

        @app.route("/missing")
        def missing():
            got_request_exception.send(app, exception=NotFound())
            return abort(404)

        Dockerflow(app)
        with app.app_context():
            got_request_exception.send(app, exception=ValueError("job failed"))
        app.test_client().get("/missing")
        assert [(record.levelno, record.errno) for record in summaries] == [(logging.INFO, 0)]

    def test_other_receivers_of_exceptions_are_called(self, app, summaries):
        """Other receivers of ``got_request_exception``, such as Sentry's, are called."""
        seen = []

        def other(_sender, exception, **_extra):
            seen.append(exception)

        got_request_exception.connect(other, app)
        summary_of(app, summaries)
        assert [str(error) for error in seen] == ["broken view"]


def summary_of(app, summaries, path="/raises", **config):
    """Request a page, and return the response and the one summary."""
    app.config.update(config)
    Dockerflow(app)
    response = app.test_client().get(path)
    assert len(summaries) == 1
    return response, summaries[0]


class TestServing:
    """Flask's own features work as without the extension."""

    def test_a_stream_sees_its_request_in_every_chunk(self, app, summaries):
        """``stream_with_context`` keeps the request's ID until the end of the body."""

        @app.route("/stream")
        def stream():
            return Response(stream_with_context(f"{g.request_id} " for _ in range(3)))

        Dockerflow(app)
        response = app.test_client().get("/stream", headers={"X-Request-ID": "r-1"})
        assert response.text == "r-1 r-1 r-1 "
        response.close()
        assert [record.rid for record in summaries] == ["r-1"]

    def test_async_views_work(self, app, summaries):
        """An ``async`` view has the request's ID."""

        @app.route("/async")
        async def view():
            return f"{g.request_id} {get_request_id()}"

        Dockerflow(app)
        assert app.test_client().get("/async", headers={"X-Request-ID": "r-1"}).text == "r-1 r-1"
        assert len(summaries) == 1

    def test_trusted_hosts_do_not_affect_probers(self, app):
        """Probers use the IP address; the endpoints respond before Flask checks the host."""
        app.config["TRUSTED_HOSTS"] = ["acme.test"]
        Dockerflow(app)
        client = app.test_client()
        headers = {"Host": "10.0.0.1"}
        assert client.get("/__lbheartbeat__", headers=headers).status_code == 200
        assert client.get("/__heartbeat__", headers=headers).status_code == 200

    def test_an_app_below_a_prefix_answers_there(self, app, summaries):
        """A mounted app with ``APPLICATION_ROOT`` has its endpoints below the prefix."""
        app.config["APPLICATION_ROOT"] = "/acme"
        Dockerflow(app)
        client = Client(DispatcherMiddleware(Flask("front"), {"/acme": app}))
        assert client.get("/acme/__heartbeat__", buffered=True).json["status"] == "ok"
        assert client.get("/__heartbeat__").status_code == 404
        assert len(client.get("/acme/", buffered=True).text) == 36
        assert [record.path for record in summaries] == ["/__heartbeat__", "/"]

    @pytest.mark.parametrize("order", ["inside", "outside"])
    def test_proxy_fix_works_on_both_sides(self, app, summaries, order):
        """The app sees the client's host and scheme with ``ProxyFix`` inside or outside."""
        app.add_url_rule("/url", view_func=lambda: request.url)
        if order == "inside":
            app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)
        Dockerflow(app)
        if order == "outside":
            app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "acme.test"}
        assert app.test_client().get("/url", headers=headers).text == "https://acme.test/url"
        assert heartbeat(app).status_code == 200
        assert [record.path for record in summaries] == ["/url", "/__heartbeat__"]

    def test_headers_of_an_after_request_stay(self, app):
        """An ``X-Request-ID`` of the app is not replaced."""

        @app.after_request
        def add(response):
            response.headers["X-Request-ID"] = "own"
            return response

        Dockerflow(app)
        assert app.test_client().get("/").headers.getlist("X-Request-ID") == ["own"]

    def test_a_query_string_with_an_invalid_byte_is_logged(self, app, summaries):
        """An invalid byte in a query string is replaced in the summary."""
        Dockerflow(app, summary_log_querystring=True)
        app.test_client().get("/", environ_overrides={"QUERY_STRING": "q=\xff"})
        assert summaries[0].querystring == "q=\ufffd"

    def test_a_json_provider_does_not_change_the_heartbeat(self, app):
        """The heartbeat does not use the app's JSON provider."""
        Dockerflow(app)
        assert json.loads(heartbeat(app).data)["status"] == "ok"


class TestConfiguration:
    """Settings come from ``app.config`` too."""

    @pytest.mark.parametrize(
        "config",
        [
            {"DOCKERFLOW_HEARTBEAT_FAILED_STATUS_CODE": 503},
            {"DOCKERFLOW_HEARTBEAT_FAILED_STATUS_CODE": "503"},
            {"DOCKERFLOW": {"heartbeat_failed_status_code": 503}},
        ],
    )
    def test_each_shape_of_configuration_is_read(self, config):
        """Flat keys and a nested dict are read."""
        app = make_app(**config)
        Dockerflow(app).check(lambda: checks.Error("x"), name="a")
        assert heartbeat(app).status_code == 503

    def test_the_first_source_wins(self, monkeypatch):
        """The order is keyword, environment, flat key, nested dict, default."""
        nested = {
            "heartbeat_ttl": 1,
            "check_timeout": 1,
            "silenced_checks": "n",
            "trust_request_id": 0,
        }
        app = make_app(
            DOCKERFLOW=nested,
            DOCKERFLOW_HEARTBEAT_TTL=2,
            DOCKERFLOW_CHECK_TIMEOUT=2,
            DOCKERFLOW_SILENCED_CHECKS=["flat"],
            DOCKERFLOW_ECHO_REQUEST_ID="",
        )
        monkeypatch.setenv("DOCKERFLOW_HEARTBEAT_TTL", "3")
        monkeypatch.setenv("DOCKERFLOW_CHECK_TIMEOUT", "3")
        Dockerflow(app, heartbeat_ttl=4)
        settings = app.extensions["dockerflow"].get_middleware(app).settings
        assert settings.heartbeat_ttl == 4.0
        assert settings.check_timeout == 3.0
        assert settings.silenced_checks == ("flat",)
        assert settings.trust_request_id is False
        assert settings.echo_request_id is True

    def test_wrong_configuration_is_reported_together(self):
        """The error lists each wrong value and unknown key with its source."""
        app = make_app(
            DOCKERFLOW_CHECK_TIMEOUT="soon", DOCKERFLOW={"heartbeat_ttl": -1, "chek_timeout": 3}
        )
        with pytest.raises(ConfigurationError) as caught:
            Dockerflow(app)
        assert list(caught.value.problems) == [
            "check_timeout = 'soon' (app.config[\"DOCKERFLOW_CHECK_TIMEOUT\"]): expected "
            "a number of seconds above 0, or none to run the checks in the request's thread",
            "app.config[\"DOCKERFLOW\"]['chek_timeout'] is not a setting "
            "(did you mean 'check_timeout'?)",
            "heartbeat_ttl = -1 (app.config[\"DOCKERFLOW\"]['heartbeat_ttl']): "
            "expected a number of seconds, 0 or more",
        ]
        assert "dockerflow" not in app.extensions

    def test_a_nested_configuration_must_be_a_dict(self):
        """A nested configuration that is not a dict is an error that names its type."""
        with pytest.raises(ConfigurationError, match=r'app.config\["DOCKERFLOW"\] is of type str'):
            Dockerflow(make_app(DOCKERFLOW="heartbeat_ttl=3"))

    def test_none_counts_as_not_set_except_for_the_deadline(self):
        """``None`` counts as not set, except that ``check_timeout=None`` has no deadline."""
        app = make_app(DOCKERFLOW_CHECK_TIMEOUT=None, DOCKERFLOW_VERSION_PATH=None, DOCKERFLOW=None)
        Dockerflow(app)
        settings = app.extensions["dockerflow"].get_middleware(app).settings
        assert settings.check_timeout is None
        assert settings.version_path[0] == os.path.dirname(app.root_path)

    @pytest.mark.parametrize("source", ["environment", "config"])
    def test_a_disabled_extension_adds_nothing(self, monkeypatch, summaries, source):
        """While disabled, endpoints and summaries are off, and views have ``g.request_id``."""
        if source == "environment":
            monkeypatch.setenv("DOCKERFLOW_DISABLED", "1")
        app = make_app(**({"DOCKERFLOW_DISABLED": True} if source == "config" else {}))
        Dockerflow(app)
        assert heartbeat(app).status_code == 404
        assert len(app.test_client().get("/").text) == 36
        assert len(summaries) == 0
