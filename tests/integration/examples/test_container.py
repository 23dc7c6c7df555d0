"""The container example complies with Dockerflow: the Dockerfile, and the app that it runs."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from commands import documented, served
from dockerfile_parse import DockerfileParser
from programs import run
from servers import EXAMPLES, uwsgi_executable, wait_until_uwsgi_is_up
from waiting import TIMEOUT_S

CONTAINER = EXAMPLES / "container"
BUILD, RUN = documented("container/Dockerfile")
VERSION = {
    "source": "https://github.com/acme/acme",
    "version": "1.2.0",
    "commit": 'c0ffee "quoted"',
    "build": "https://ci.test/42",
}
ANY_PORT = {"PORT": "0", "GUNICORN_CMD_ARGS": ""}

# An app that waits for a request's body.
READER = """
def wrapped_app(environ, start_response):
    print("reading", flush=True)
    body = environ["wsgi.input"].read(5)
    start_response("200 OK", [("Content-Length", "10")])
    return [b"read " + body]
"""


def instructions(name):
    """Return the values of all instructions with a name."""
    parser = DockerfileParser(fileobj=io.BytesIO((CONTAINER / "Dockerfile").read_bytes()))
    return [step["value"] for step in parser.structure if step["instruction"] == name]


def variables():
    """Return the image's environment variables."""
    (value,) = instructions("ENV")
    return dict(word.split("=", 1) for word in shlex.split(value))


def write_version(directory, arguments):
    """Run the step that writes version.json, as the build does with these arguments."""
    (step,) = [value for value in instructions("RUN") if "version.json" in value]
    return run(["/bin/sh", "-c", step], cwd=directory, **arguments)


@pytest.fixture
def image(tmp_path):
    """Run the steps of the Dockerfile in a directory, except the installation of packages."""
    directory = tmp_path / "app"
    directory.mkdir()
    for value in instructions("COPY"):
        *sources, target = value.split()
        assert target == "./"
        for source in sources:
            shutil.copy(CONTAINER / source, directory)
    arguments = {name.upper(): text for name, text in VERSION.items()}
    assert write_version(directory, arguments).returncode == 0
    return directory


def start(directory, **environment):
    """Run the container's command."""
    (entrypoint,), (command,) = instructions("ENTRYPOINT"), instructions("CMD")
    words = [*json.loads(entrypoint), *json.loads(command)]
    return served(words, cwd=directory, **{**variables(), **ANY_PORT, **environment})


@contextlib.contextmanager
def start_uwsgi(directory):
    """Run the command of the container with uWSGI, and wait until it serves."""
    text = (CONTAINER / "uwsgi.ini").read_text()
    assert text.count("chdir = /app\n") == 1
    (directory / "uwsgi.ini").write_text(text.replace("chdir = /app\n", f"chdir = {directory}\n"))
    with tempfile.TemporaryDirectory() as short:  # the path of a Unix socket is limited
        words = [uwsgi_executable(), "uwsgi.ini", "--stats", f"{short}/stats"]
        with served(words, cwd=directory, **ANY_PORT) as container:
            wait_until_uwsgi_is_up(f"{short}/stats")
            yield container


def test_the_linter_finds_nothing():
    """Hadolint finds no problem in the Dockerfile."""
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = run([hadolint, "--no-color", CONTAINER / "Dockerfile"])
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_user_and_group_are_10001():
    """The container runs as Dockerflow's user and group, given as numbers."""
    makes_user = instructions("RUN")[0]
    assert "groupadd --gid 10001 app" in makes_user
    assert re.search(r"useradd --uid 10001 --gid app .* app$", makes_user)
    assert instructions("USER") == ["10001:10001"]


def test_the_sources_are_in_app_and_the_port_is_8000():
    """The sources are in /app, and the port is 8000, as Dockerflow requires."""
    assert instructions("WORKDIR") == ["/app"]
    assert variables()["PORT"] == "8000"
    assert instructions("EXPOSE") == ["8000"]


def test_the_documented_build_passes_all_arguments():
    """The documented build passes each ``ARG`` of the Dockerfile, and nothing else."""
    declared = {value.partition("=")[0] for value in instructions("ARG")}
    assert set(re.findall(r"--build-arg (\w+)=", BUILD)) == declared
    assert BUILD.endswith(" examples/container")
    assert RUN == "docker run --rm --publish 8000:8000 acme"


@pytest.mark.parametrize("missing", ["SOURCE", "COMMIT", "BUILD"])
def test_a_build_without_a_part_of_the_version_fails(tmp_path, missing):
    """The build ends with an error that names the missing part."""
    arguments = {name.upper(): text for name, text in VERSION.items()}
    del arguments[missing]
    failed = write_version(tmp_path, arguments)
    assert failed.returncode != 0
    assert f"{missing.lower()} is missing: pass --{missing.lower()}" in failed.stderr
    assert not (tmp_path / "version.json").exists()


def test_a_build_with_a_placeholder_fails(tmp_path):
    """An argument that the CI system did not replace ends the build."""
    arguments = {name.upper(): text for name, text in VERSION.items()}
    failed = write_version(tmp_path, {**arguments, "COMMIT": "$CIRCLE_SHA1"})
    assert failed.returncode != 0
    assert "CIRCLE_SHA1 was not replaced" in failed.stderr


def test_the_image_serves(image):
    """The image serves the endpoints and the build's version on ``$PORT``, and logs only mozlog."""
    with start(image) as container:
        assert container.get("/").body == b"This is /\n"
        assert container.get("/__heartbeat__").status == 200
        assert container.get("/__lbheartbeat__").status == 200
        assert container.get("/__version__").json() == VERSION
        assert "http://0.0.0.0:" in container.logged("gunicorn.error")[1]["msg"]
        assert container.port != 8000
        assert container.stop() == 0
        lines = container.lines()
        (summary,) = container.logged("request.summary")
    assert summary["path"] == "/"
    assert {line["Logger"] for line in lines} == {"acme"}
    assert {line["Type"] for line in lines} == {"gunicorn.error", "request.summary"}


def test_the_server_is_the_containers_first_process(image):
    """The server is the first process, with one worker, so that it gets signals."""
    with start(image) as container:
        assert container.get("/").status == 200
        server = psutil.Process(container.process.pid)
        assert "gunicorn" in server.cmdline()[1]
        assert len(server.children(recursive=True)) == 1


def test_the_log_level_comes_from_the_environment(image):
    """The variable ``LOG_LEVEL`` sets the level: with DEBUG, probes are logged."""
    with start(image, LOG_LEVEL="DEBUG") as container:
        container.get("/__lbheartbeat__")
        container.stop()
        (summary,) = container.logged("request.summary")
    assert summary["path"] == "/__lbheartbeat__"


def test_without_a_port_it_is_8000(image, monkeypatch):
    """Without ``PORT``, gunicorn listens on Dockerflow's default, 8000."""
    monkeypatch.delenv("PORT", raising=False)
    shown = run("gunicorn --print-config app:wrapped_app", cwd=image, check=True)
    assert re.search(r"^bind +.*0\.0\.0\.0:8000", shown.stdout, re.MULTILINE)


def test_uwsgi_serves_the_app(image):
    """uWSGI serves the app with the lines that ``uwsgi.ini`` gives for the Dockerfile."""
    text = (CONTAINER / "uwsgi.ini").read_text()
    assert "COPY app.py uwsgi.ini ./" in text
    assert 'ENTRYPOINT ["uwsgi"]' in text
    assert 'CMD ["uwsgi.ini"]' in text
    with start_uwsgi(image) as container:
        assert container.get("/").body == b"This is /\n"
        assert container.get("/__heartbeat__").status == 200
        assert container.get("/__version__").json() == VERSION
        assert container.stop() == 0
    assert "(port auto-assigned)" in container.output
    (summary,) = container.logged("request.summary")
    assert summary["path"] == "/"


@pytest.mark.parametrize(
    ("begin", "text"),
    [(start, "Handling signal: term"), (start_uwsgi, "graceful shutdown triggered")],
    ids=["gunicorn", "uwsgi"],
)
def test_a_request_in_progress_is_finished_when_the_container_stops(image, begin, text):
    """A request that has begun gets its response when the container is stopped."""
    (image / "app.py").write_text(READER)
    with (
        begin(image) as container,
        socket.create_connection(("127.0.0.1", container.port), TIMEOUT_S) as client,
    ):
        client.sendall(b"POST / HTTP/1.1\r\nHost: acme\r\nContent-Length: 5\r\n\r\n")
        container.wait_for("reading")
        container.process.terminate()
        container.wait_for(text)
        client.sendall(b"hello")
        assert client.makefile("rb").read().endswith(b"read hello")
        assert container.process.wait(TIMEOUT_S) == 0
