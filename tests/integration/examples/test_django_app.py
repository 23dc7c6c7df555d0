"""The Django example, served with its documented command."""

from __future__ import annotations

import psutil
import pytest
from commands import documented, served


@pytest.fixture
def django_app(tmp_path):
    """Serve the example, with a database in a directory of its own."""
    (tmp_path / "data").mkdir()
    file = str(tmp_path / "data" / "django.sqlite3")
    (command,) = documented("django_app.py")
    with served(command, SQLITE_FILE=file) as example:
        yield example


def test_the_endpoints_answer_for_any_host(django_app):
    """A prober need not know a host that Django allows; a visitor must."""
    probes = {
        path: django_app.get(path, Host="10.1.2.3:8000")
        for path in ("/__lbheartbeat__", "/__heartbeat__", "/__version__")
    }
    assert [probe.status for probe in probes.values()] == [200, 200, 200]
    assert probes["/__heartbeat__"].json()["checks"] == {"database_answers": "ok"}
    assert probes["/__version__"].json()["version"] == "2026.11.0"
    assert django_app.get("/", Host="10.1.2.3:8000").status == 400


def test_a_page_has_one_summary_in_mozlog(django_app):
    """What the view adds is in it, and the request's ID is that of the page."""
    page = django_app.get("/", Host="localhost")
    django_app.stop()
    (summary,) = django_app.logged("request.summary")
    assert page.status == 200
    assert page.json()["now"].startswith("2")
    assert summary["rid"] == page.json()["request_id"]
    assert (summary["context"], summary["code"]) == ("clock", 200)


def test_a_broken_database_fails_the_heartbeat(django_app, tmp_path):
    """The check says why; the page is Django's own 500, and its traceback has the request's ID."""
    assert django_app.get("/__heartbeat__").status == 200
    (tmp_path / "data").rename(tmp_path / "gone")

    heartbeat = django_app.get("/__heartbeat__")
    assert heartbeat.status == 500
    (check,) = heartbeat.json()["details"].values()
    assert check["messages"] == {"django_app.E001": "unable to open database file"}

    page = django_app.get("/", **{"Host": "localhost", "X-Request-ID": "broken"})
    assert page.status == 500
    assert django_app.get("/__lbheartbeat__").status == 200

    (tmp_path / "gone").rename(tmp_path / "data")
    assert django_app.get("/__heartbeat__").status == 200
    django_app.stop()
    (told,) = django_app.logged("django.request")
    assert told["rid"] == "broken"
    assert told["error"].startswith("OperationalError")


def test_the_check_leaves_no_connection_open(django_app, tmp_path):
    """The thread that ran it keeps nothing of Django's."""
    assert django_app.get("/__heartbeat__").status == 200
    (worker,) = psutil.Process(django_app.process.pid).children()
    opened = [file.path for file in worker.open_files()]
    assert opened
    assert str(tmp_path / "data" / "django.sqlite3") not in opened
