"""The rock example is valid for Rockcraft's extension flask-framework, and is served."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import socket
from urllib.parse import urlsplit

import pytest
import yaml
from commands import ON_LOOPBACK, documented, served
from programs import run
from servers import EXAMPLES, ROOT
from waiting import TIMEOUT_S

ROCK = EXAMPLES / "rock"
PROJECT = yaml.safe_load((ROCK / "rockcraft.yaml").read_text())
PRIMED = PROJECT["parts"]["flask-framework/install-app"]["prime"]
VERSION = json.loads((ROCK / "version.json").read_text())


def seconds(duration):
    """Convert a duration of Pebble, such as ``10s``, to seconds."""
    assert duration.endswith("s")
    return float(duration[:-1])


@pytest.fixture
def rock(tmp_path):
    """Serve the rock's files with the directories and the command of the extension."""
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
    """app.py has ``app`` at its top level, Flask is a requirement, and the base is supported."""
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


def test_the_checks_are_valid_for_pebble():
    """Checks have known keys, and a timeout between the heartbeat's deadline and the period."""
    assert {check["level"] for check in PROJECT["checks"].values()} == {"alive", "ready"}
    for check in PROJECT["checks"].values():
        assert check.keys() == {"override", "level", "period", "timeout", "http"}
        assert check["override"] == "replace"
        assert 4 < seconds(check["timeout"]) < seconds(check["period"])
        assert urlsplit(check["http"]["url"]).netloc == "localhost:8000"


def test_the_rock_serves(rock):
    """The rock serves its page, its version and the endpoints that its checks request."""
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


def test_the_app_is_served_without_a_rock():
    """The documented command serves the app from the repository's root."""
    (command,) = documented("rock/app.py")
    with served(command, GUNICORN_CMD_ARGS=ON_LOOPBACK) as app:
        assert app.get("/__heartbeat__").json()["checks"] == {"disk_has_space": "ok"}
        assert app.get("/__version__").json() == VERSION


def test_a_wheel_can_replace_the_package_on_the_index(tmp_path):
    """The documented command makes requirements.txt name the wheel, with its version and extra."""
    text = (EXAMPLES / "README.md").read_text()
    build, edit = re.findall(r"^(?:pip wheel|sed) .+$", text.partition("## Rocks")[2], re.MULTILINE)
    assert shlex.split(build)[-2:] == ["examples/rock", "."]
    requirements = tmp_path / "requirements.txt"
    shutil.copy(ROCK / "requirements.txt", requirements)
    run(edit.replace("examples/rock/requirements.txt", str(requirements)), check=True)
    version = re.search('^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
        1
    ]
    wheel = f"dockerflow_wsgi-{version}-py3-none-any.whl"
    assert requirements.read_text().splitlines() == ["Flask", f"./{wheel}[flask]"]
