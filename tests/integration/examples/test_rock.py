"""The rock example: what Rockcraft's flask-framework extension wants of it, served as in a rock."""

from __future__ import annotations

import ast
import json
import shutil
import socket
from urllib.parse import urlsplit

import pytest
import yaml
from commands import ON_LOOPBACK, documented, served
from servers import EXAMPLES
from waiting import TIMEOUT_S

ROCK = EXAMPLES / "rock"
PROJECT = yaml.safe_load((ROCK / "rockcraft.yaml").read_text())
PRIMED = PROJECT["parts"]["flask-framework/install-app"]["prime"]
VERSION = json.loads((ROCK / "version.json").read_text())


def seconds(duration):
    """Return how long a duration of Pebble's is, such as ``10s``."""
    assert duration.endswith("s")
    return float(duration[:-1])


@pytest.fixture
def rock(tmp_path):
    """Serve the files that the rock holds, where it holds them, as its extension does."""
    for path in PRIMED:
        folder, _, name = path.rpartition("/")
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROCK / name, tmp_path / path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(TIMEOUT_S)
        command = ["gunicorn", "--statsd-host", f"127.0.0.1:{statsd.getsockname()[1]}", "app:app"]
        with served(command, cwd=tmp_path / "flask" / "app") as app:
            yield app, statsd


def test_the_extension_accepts_the_project():
    """``app`` at the top level of app.py, Flask on a line of its own, a base that it supports."""
    tree = ast.parse((ROCK / "app.py").read_text())
    assigned = [step.targets[0] for step in tree.body if isinstance(step, ast.Assign)]
    assert "app" in [target.id for target in assigned]
    assert "Flask" in (ROCK / "requirements.txt").read_text().splitlines()
    assert PROJECT["extensions"] == ["flask-framework"]
    assert PROJECT["base"] in {"bare", "ubuntu@22.04", "ubuntu@24.04"}
    assert {"name", "version", "summary", "description", "platforms"} <= PROJECT.keys()
    assert all(path.startswith("flask/app/") for path in PRIMED)
    assert len(PROJECT["summary"]) < 79
    assert documented("rock/rockcraft.yaml") == ["rockcraft pack"]


def test_the_checks_are_what_pebble_understands():
    """Known keys; each times out before the next begins, and after the heartbeat's deadline."""
    assert {check["level"] for check in PROJECT["checks"].values()} == {"alive", "ready"}
    for check in PROJECT["checks"].values():
        assert check.keys() == {"override", "level", "period", "timeout", "http"}
        assert check["override"] == "replace"
        assert 4 < seconds(check["timeout"]) < seconds(check["period"])
        assert urlsplit(check["http"]["url"]).netloc == "localhost:8000"


def test_the_rock_serves(rock):
    """Its page, the version that was primed, and what its checks ask for."""
    app, statsd = rock
    assert app.get("/").body == b"hello\n"
    assert app.get("/__version__").json() == VERSION
    for name, path in (("alive", "/__lbheartbeat__"), ("ready", "/__heartbeat__")):
        assert urlsplit(PROJECT["checks"][name]["http"]["url"]).path == path
        assert app.get(path).status == 200
    assert statsd.recv(1000).startswith(b"gunicorn.")
    app.stop()
    (summary,) = app.logged("request.summary")
    assert summary["path"] == "/"


def test_it_is_served_without_a_rock_too(tmp_path):
    """With the documented command, from the repository's root."""
    (command,) = documented("rock/app.py")
    with served(command, GUNICORN_CMD_ARGS=ON_LOOPBACK) as app:
        assert app.get("/__heartbeat__").json()["checks"] == {"disk_has_space": "ok"}
        assert app.get("/__version__").json() == VERSION
