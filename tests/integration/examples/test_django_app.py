"""The Django example, run with its documented commands."""

from __future__ import annotations

import ast
import re

import psutil
import pytest
from commands import documented, served
from programs import run
from servers import EXAMPLES

CHECKS = ["check_databases", "check_migrations", "check_caches", "check_system"]


@pytest.fixture
def file(tmp_path):
    """Make a directory for the database, and return the file's path."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "django.sqlite3"


@pytest.fixture
def django_app(file):
    """Migrate and serve the example, with a database in a separate directory."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / "django_app.py").read_text()))
    (migrate,) = re.findall(r"^    (python .+)$", docstring, re.MULTILINE)
    run(migrate, check=True, SQLITE_FILE=str(file))
    (command,) = documented("django_app.py")
    with served(command, SQLITE_FILE=str(file)) as example:
        yield example


def test_the_endpoints_answer_for_any_host(django_app):
    """Probers may send any ``Host``; for pages, Django must allow it."""
    probes = {
        path: django_app.get(path, Host="10.1.2.3:8000")
        for path in ("/__lbheartbeat__", "/__heartbeat__", "/__version__")
    }
    assert [probe.status for probe in probes.values()] == [200, 200, 200]
    assert probes["/__heartbeat__"].json()["checks"] == dict.fromkeys(CHECKS, "ok")
    assert probes["/__version__"].json()["version"] == "2026.11.0"
    assert django_app.get("/", Host="10.1.2.3:8000").status == 400


def test_a_page_has_one_summary_in_mozlog(django_app):
    """The summary has the fields of the view, and the ID of the page."""
    page = django_app.get("/", Host="localhost")
    django_app.stop()
    (summary,) = django_app.logged("request.summary")
    assert page.status == 200
    assert page.json()["visits"] == 1
    assert summary["rid"] == page.json()["request_id"]
    assert (summary["context"], summary["code"]) == ("visits", 200)


def test_a_broken_database_fails_the_heartbeat(django_app, file):
    """The checks name the reason; the 500 of a page is logged with the request's ID."""
    file.rename(file.with_suffix(".gone"))

    heartbeat = django_app.get("/__heartbeat__")
    assert heartbeat.status == 500
    assert heartbeat.json()["checks"]["check_migrations"] == "info"
    assert heartbeat.json()["details"]["check_databases"]["messages"] == {
        "dockerflow.health.E008": "Database 'default': there is no SQLite file 'django.sqlite3'"
    }
    assert not file.exists()

    page = django_app.get("/", **{"Host": "localhost", "X-Request-ID": "broken"})
    assert page.status == 500
    assert django_app.get("/__lbheartbeat__").status == 200

    file.with_suffix(".gone").rename(file)
    assert django_app.get("/__heartbeat__").status == 200
    django_app.stop()
    (record,) = django_app.logged("django.request")
    assert record["rid"] == "broken"
    assert record["error"].startswith("OperationalError")


def test_unapplied_migrations_fail_the_heartbeat(django_app, file):
    """An empty database lacks the migrations of the sessions."""
    file.write_bytes(b"")
    details = django_app.get("/__heartbeat__").json()["details"]
    assert details["check_migrations"]["messages"] == {
        "dockerflow.health.W001": (
            "Unapplied migrations in database 'default': sessions.0001_initial"
        )
    }


def test_the_checks_leave_no_connection_open(django_app, file):
    """The worker does not keep the database open after a heartbeat."""
    assert django_app.get("/__heartbeat__").status == 200
    (worker,) = psutil.Process(django_app.process.pid).children()
    opened = [opened.path for opened in worker.open_files()]
    assert opened
    assert str(file) not in opened
