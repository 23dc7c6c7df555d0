"""The code in README and in the README of the examples runs, with the printed output."""

from __future__ import annotations

import http.client
import json
import logging
import re
import shlex
import socket
import sqlite3
import sys
import urllib.parse
import urllib.request

import pytest
import redis
import yaml
from programs import run
from servers import ROOT, gunicorn_server
from sqlalchemy import create_engine, text
from waiting import TIMEOUT_S
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, checks

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


def blocks(language, text=README):
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(title, text=README):
    """Return the text of a section."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def normal(text):
    """Replace the values that differ from run to run by placeholders."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r'"(Timestamp|Pid|t)": \d+', r'"\1": 0', text)
    text = re.sub(r'"(Hostname|agent)": "[^"]*"', r'"\1": ""', text)
    return re.sub(r"^Date: .*$", "Date: D", text, flags=re.MULTILINE)


def curl(command, port):
    """Return the output of ``curl [-i] [-X METHOD] URL``."""
    words = shlex.split(command)[1:]
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    url = urllib.parse.urlsplit("http://" + words[-1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    target = url.path + (f"?{url.query}" if url.query else "")
    connection.request(method, target, headers={"User-Agent": "curl", "Accept": "*/*"})
    response = connection.getresponse()
    shown = response.read().decode()
    if "-i" in words:
        headers = "".join(f"{name}: {value}\n" for name, value in response.getheaders())
        shown = f"HTTP/1.1 {response.status} {response.reason}\n{headers}\n{shown}"
    connection.close()
    return shown


@pytest.fixture
def quickstart_database(tmp_path):
    """Migrate a new SQLite database for the quickstart, as README's first command does."""
    url = f"sqlite:///{tmp_path / 'guests.sqlite3'}"
    run("alembic -c examples/alembic.ini upgrade head", check=True, DATABASE_URL=url)
    return url


class TestQuickstart:
    """The quickstart runs as README shows it."""

    def test_the_printed_responses_and_log_are_real(self, quickstart_database):
        """The quickstart, served by gunicorn, prints the responses and the log that are shown."""
        shown = [*blocks("console", EXAMPLES), *blocks("console")]
        with gunicorn_server(
            "examples.quickstart:wrapped_app", DATABASE_URL=quickstart_database
        ) as server:
            for block in shown:
                for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                    command, _, printed = example.partition("\n")
                    assert normal(curl(command, server.port)) == normal(printed), command
            server.stop()
            (first, *_) = [line for line in server.output.splitlines() if line.startswith("{")]
        first = normal(json.dumps(json.loads(first)))
        (printed,) = blocks("json")
        assert first == normal(json.dumps(json.loads(printed)))

    def test_the_printed_page_for_browsers_is_real(self, quickstart_database):
        """The page has the text in the examples' README, except for times and the host."""
        (shown,) = blocks("text", section("Endpoints", EXAMPLES))
        environment = {"DATABASE_URL": quickstart_database, "REDIS_URL": "redis://localhost:1"}
        with gunicorn_server("examples.quickstart:wrapped_app", **environment) as server:
            page = server.get("/__heartbeat__", Accept="text/html").body.decode()
        text = re.sub("<[^>]+>", " ", page.partition("<body>")[2]).replace(
            socket.gethostname(), "web-1"
        )
        varying = r"[\d.]+ m?s\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        served, printed = [re.sub(varying, "TIME", part).split() for part in (text, shown)]
        assert served == printed

    def test_the_first_screen_serves_the_quickstart_and_runs_the_tests(self):
        """The first shell block serves the quickstart, the second one runs the tests."""
        serve, check = blocks("sh")
        assert "alembic -c examples/alembic.ini upgrade head" in serve
        assert "gunicorn examples.quickstart:wrapped_app" in serve
        assert "'.[test]'" in check
        assert "pytest" in check
        assert README.index(check) < README.index("\n## ")

    def test_the_printed_output_of_doctor_is_real(self, quickstart_database, monkeypatch):
        """The printed lines are in the output of ``doctor``, in the same order."""
        (screen,) = blocks("text")
        command, _, printed = screen.partition("\n")
        setting, program, *arguments = shlex.split(command.removeprefix("$ "))
        assert program == "dockerflow-wsgi"
        environment = {"DATABASE_URL": quickstart_database}
        environment.update([setting.split("=", 1)])
        monkeypatch.delenv("PORT", raising=False)
        done = run([program, *arguments], **environment)
        assert done.returncode == 1
        assert "secret" not in done.stdout
        position = 0
        for part in printed.split("...\n"):
            position = done.stdout.index(part, position) + len(part)
        assert done.stdout[position:] == ""

    @pytest.mark.parametrize("workers", ["1", "3"])
    def test_the_quickstart_signs_the_book(self, quickstart_database, tmp_path, workers):
        """A visitor's name is stored in the database, with one worker and with three."""
        with gunicorn_server(
            "examples.quickstart:wrapped_app",
            "--workers",
            workers,
            DATABASE_URL=quickstart_database,
        ) as server:
            curl("curl localhost/?name=%3CAda%3E", server.port)
            page = curl("curl localhost/", server.port)
            assert "404 Not Found" in curl("curl -i localhost/x", server.port)
        assert "<li>&lt;Ada&gt;</li>" in page
        with sqlite3.connect(tmp_path / "guests.sqlite3") as connection:
            assert connection.execute("SELECT name FROM guests").fetchall() == [("<Ada>",)]
        connection.close()

    def test_the_quickstart_runs_on_real_servers(self, postgres_url, redis_url):
        """The quickstart uses its two variables, and reports missing migrations."""
        server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text("DROP DATABASE IF EXISTS quickstart"))
            connection.execute(text("CREATE DATABASE quickstart"))
        server.dispose()
        url = server.url.set(drivername="postgresql", database="quickstart")
        environment = {
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "REDIS_URL": redis_url,
        }
        with gunicorn_server("examples.quickstart:wrapped_app", **environment) as server:
            before = json.loads(curl("curl localhost/__heartbeat__", server.port))
            assert before["checks"]["check_migrations_applied"] == "warning"
            run("alembic -c examples/alembic.ini upgrade head", check=True, **environment)
            after = json.loads(curl("curl localhost/__heartbeat__", server.port))
            assert after["status"] == "ok"
            assert after["checks"]["check_redis_connected"] == "ok"
            assert "<li>Ada</li></ul><p>Visits: " in curl("curl localhost/?name=Ada", server.port)


@pytest.fixture
def root_logger():
    """Return the root logger, and restore it afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def execute(namespace, title, text=README):
    """Run the Python blocks of a section, one after the other, in a namespace."""
    for block in blocks("python", section(title, text)):
        exec(block, namespace)


class TestBlocks:
    """The code blocks run, section by section."""

    def test_the_middleware_blocks_run(self, redis_url, root_logger):
        """The blocks about the middleware run in the order of the text, in one namespace."""

        async def ping_search_engine():
            return False

        root_logger.handlers.clear()
        with redis.Redis.from_url(redis_url) as client:
            namespace = {"client": client, "ping_search_engine": ping_search_engine}
            execute(namespace, "Plain WSGI")
            assert type(root_logger.handlers[-1]).__name__ == "MozlogHandler"
            execute(namespace, "Endpoints", EXAMPLES)
            execute(namespace, "Checks")
            registry = namespace["dockerflow"].registry
            assert registry.names == ("storage_reachable", "search", "sessions")
            execute(namespace, "Logging")
            assert type(root_logger.handlers[-1].formatter).__name__ == "MozlogFormatter"
            execute(namespace, "Logging", EXAMPLES)
            namespace["listener"].stop()

    def test_the_flask_blocks_run(self, capsys, caplog):
        """The blocks about Flask run together, with the test of a summary."""
        namespace = {"__name__": "readme"}
        execute(namespace, "Flask")
        execute(namespace, "Testing your app")
        namespace["test_summary"](caplog)
        execute(namespace, "Flask", EXAMPLES)
        assert namespace["app"].test_client().get("/__heartbeat__").status_code == 200
        assert "ok {'check_database_connected': 'ok'}" in capsys.readouterr().out

    def test_the_worker_blocks_run(self, redis_url, monkeypatch):
        """The worker's endpoints respond, and its check reports a stuck main thread."""
        monkeypatch.setenv("PORT", "0")
        with redis.Redis.from_url(redis_url) as client:
            namespace = {"__name__": "readme", "client": client}
            execute(namespace, "Workers")
            with namespace["server"] as server:
                shown = json.loads(curl("curl localhost/__heartbeat__", server.port))
        assert shown["checks"] == {"check_redis_connected": "ok"}
        execute(namespace, "Workers", EXAMPLES)
        assert namespace["main_thread_loops"]() is None
        namespace["last_loop_s"] -= 61
        assert namespace["main_thread_loops"]().msg == "The last loop was 61 s ago"

    def test_the_ci_step_writes_a_version_file(self, tmp_path):
        """The command for GitHub Actions writes a version object from its variables."""
        steps = yaml.safe_load(blocks("yaml", section("Containers", EXAMPLES))[0])
        (command,) = [
            step["run"] for step in steps if "dockerflow-wsgi version" in step.get("run", "")
        ]
        variables = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "acme/acme",
            "GITHUB_SHA": "0f1e2d3c",
            "GITHUB_REF_NAME": "1.2.0",
            "GITHUB_RUN_ID": "42",
        }
        run(command, cwd=tmp_path, check=True, **variables)
        version = json.loads((tmp_path / "version.json").read_text())
        assert (version["source"], version["commit"]) == (
            "https://github.com/acme/acme",
            "0f1e2d3c",
        )

    def test_the_checks_of_writes_run(self, redis_url, postgres_url):
        """The checks of the examples pass, and fail when Redis refuses writes."""
        engine = create_engine(postgres_url)
        dockerflow = DockerflowMiddleware(hello, heartbeat_failed_level="error")
        with redis.Redis.from_url(redis_url) as client, engine.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS orders (id int)"))
            connection.commit()
            names = {"engine": engine, "text": text, "checks": checks}
            namespace = {"dockerflow": dockerflow, "client": client, **names}
            execute(namespace, "What a green heartbeat does not show", EXAMPLES)
            before = request(dockerflow, "/__heartbeat__")
            client.config_set("min-replicas-to-write", "1")
            try:
                after = json.loads(request(dockerflow, "/__heartbeat__").body)["checks"]
            finally:
                client.config_set("min-replicas-to-write", "0")
        engine.dispose()
        assert before.status == "200 OK", before.body
        assert after["redis_accepts_writes"] == "error"

    def test_the_flask_example_is_served_with_one_command(self, tmp_path, redis_url):
        """The documented command, without its installation, migrates the database and serves."""
        (command,) = blocks("shell", section("Flask", EXAMPLES))
        _make, _install, migrate, serve = command.split(" && ")
        assert migrate == ".venv/bin/flask --app examples.flask_app db upgrade"
        assert serve == ".venv/bin/gunicorn 'examples.flask_app:create_app()'\n"
        environment = {"DATABASE_URL": f"sqlite:///{tmp_path / 'notes'}", "REDIS_URL": redis_url}
        with redis.Redis.from_url(redis_url) as client:
            client.delete("notes")
        run(migrate.removeprefix(".venv/bin/"), check=True, **environment)
        with gunicorn_server("examples.flask_app:create_app()", **environment) as server:
            page = json.loads(curl("curl localhost/", server.port))
            shown = json.loads(curl("curl localhost/__heartbeat__", server.port))
            server.stop()
            summary = server.logged("request.summary")[-1]
        assert (page["notes"], page["visits"]) == ([], 1)
        assert shown == {
            "status": "ok",
            "checks": {
                "check_database_connected": "ok",
                "check_redis_connected": "ok",
                "check_migrations_applied": "ok",
                "notes_fit": "ok",
            },
            "details": {},
        }
        assert summary["rid"] == page["request_id"]


def django_logging():
    """Return README's logging configuration, as Django's settings have it."""
    (block,) = blocks("python", section("Logging"))
    return block.partition("dictConfig(LOGGING)")[0]


@pytest.fixture
def django_project(tmp_path):
    """Make a Django project with the blocks of the sections about Django."""
    (wsgi,) = blocks("python", section("Django"))
    middleware, test = blocks("python", section("Django", EXAMPLES))
    run(f"django-admin startproject mysite {tmp_path}", check=True)
    package = tmp_path / "mysite"
    (package / "wsgi.py").write_text(wsgi)
    (package / "middleware.py").write_text(middleware)
    (tmp_path / "tests.py").write_text(test)
    with (package / "settings.py").open("a") as settings:
        settings.write("MIDDLEWARE.append('mysite.middleware.log_user')\n")
        settings.write("DEBUG = False\nALLOWED_HOSTS = ['localhost', '127.0.0.1']\n")
    return tmp_path


class TestDjango:
    """The blocks about Django make a project."""

    def test_the_django_blocks_make_a_project_that_passes_its_tests(self, django_project):
        """A project with the documented ``wsgi.py`` and middleware passes the documented tests."""
        done = run([sys.executable, "manage.py", "test"], cwd=django_project)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Ran 2 tests" in done.stderr

    def test_the_django_blocks_are_served_and_log_the_user(self, django_project):
        """A login in Django's admin is in the summary; a missing migration is in the heartbeat."""
        manage = [sys.executable, "manage.py"]
        with (django_project / "mysite" / "settings.py").open("a") as settings:
            settings.write(django_logging())
        with gunicorn_server("mysite.wsgi", cwd=django_project) as server:
            before = server.get("/__heartbeat__").json()["checks"]
            run([*manage, "migrate"], cwd=django_project, check=True)
            create = [*manage, "createsuperuser", "--noinput", "--username=ada", "--email=a@x.test"]
            run(create, cwd=django_project, check=True, DJANGO_SUPERUSER_PASSWORD="secret")
            after = server.get("/__heartbeat__").json()
            log_in(f"http://127.0.0.1:{server.port}/admin/login/")
            server.stop()
            *_, login, _page = server.logged("request.summary")
        assert (before["check_databases"], before["check_migrations"]) == ("error", "info")
        assert (after["checks"]["check_databases"], after["checks"]["check_migrations"]) == (
            "ok",
            "ok",
        )
        assert after["status"] == "ok"
        assert (login["code"], login["uid"]) == (302, "1")


def log_in(url):
    """Log in to Django's admin, as a browser does."""
    cookies = urllib.request.HTTPCookieProcessor()
    opener = urllib.request.build_opener(cookies)
    page = opener.open(url, timeout=TIMEOUT_S).read().decode()
    token = re.search('csrfmiddlewaretoken" value="([^"]+)"', page)[1]
    form = {"csrfmiddlewaretoken": token, "username": "ada", "password": "secret"}
    data = urllib.parse.urlencode({**form, "next": "/admin/"}).encode()
    opener.open(url, data, timeout=TIMEOUT_S).close()
