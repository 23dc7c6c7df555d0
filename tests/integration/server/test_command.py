"""The command ``serve``: the endpoints in the foreground."""

from __future__ import annotations

import json
import signal
import socket
import sys
from contextlib import contextmanager

import pytest
from probing import heartbeat, lbheartbeat_status, probe
from programs import run, running

SERVED = """
from dockerflow_wsgi import CheckRegistry, DockerflowMiddleware
registry = CheckRegistry()
@registry.check
def fine():
    return []
def make():
    return registry
def build(debug=False):
    return app
def needs(one):
    return app
def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
app = DockerflowMiddleware(hello)
def decorate(inner):
    return lambda environ, start_response: inner(environ, start_response)
decorated = decorate(app)
"""


@pytest.fixture(autouse=True)
def directory(tmp_path):
    """Make a directory with a module to serve."""
    (tmp_path / "acme.py").write_text(SERVED)
    return tmp_path


SERVE = [sys.executable, "-m", "dockerflow_wsgi", "serve"]


@contextmanager
def served(directory, *arguments, told="Dockerflow's endpoints are at", **environment):
    """Run the command until it logs that it is ready, and yield its program and port."""
    with running([*SERVE, *arguments], cwd=directory, **environment) as command:
        line = json.loads(command.wait_for(" port "))["Fields"]["msg"]
        assert line.startswith(told)
        yield command, int(line.rpartition(" ")[2])


def fail(directory, *arguments, **environment):
    """Run the command, and return its exit code and what it writes to stderr."""
    done = run([*SERVE, *arguments], cwd=directory, **environment)
    return done.returncode, done.stderr


@pytest.mark.parametrize("target", ["acme:registry", "acme:make()"])
def test_a_registry_is_served(directory, target):
    """Or what a factory returns."""
    with served(directory, target, "--port", "0", "--host", "127.0.0.1") as (_command, port):
        assert heartbeat(port) == (200, {"status": "ok", "checks": {"fine": "ok"}, "details": {}})


def test_an_app_is_served_as_it_is(directory):
    """With its pages; $PORT is the port. What it does is logged as mozlog."""
    with served(directory, "acme:app", PORT="0") as (command, port):
        assert probe(port, "/").endswith(b"\r\n\r\nhello")
        assert json.loads(command.wait_for(""))["Type"] == "request.summary"


@pytest.mark.parametrize(
    ("target", "environment", "reason"),
    [
        ("acme:hello", {}, "no DockerflowMiddleware was found in the app"),
        ("acme:app", {"DOCKERFLOW_DISABLED": "1"}, "Dockerflow is disabled"),
    ],
)
def test_an_app_without_endpoints_is_served_with_a_warning(directory, target, environment, reason):
    """Its pages are answered; nobody is told that there are endpoints."""
    told = "The app is served at"
    with served(directory, target, "--port", "0", told=told, **environment) as (command, port):
        line = json.loads(command.wait_for(""))
        assert probe(port, "/").endswith(b"\r\n\r\nhello")
    assert line["Severity"] == 4
    assert line["Fields"]["msg"] == f"/__lbheartbeat__ is the app's own to answer: {reason}"


def test_a_wrapped_app_is_found_behind_a_decorator(directory):
    """No warning is told then."""
    with served(directory, "acme:decorated", "--port", "0") as (_command, port):
        assert lbheartbeat_status(port) == 200


def test_a_registry_that_is_switched_off_is_exit_code_1(directory):
    """There is nothing to serve; who waits for the endpoints is not left to find out."""
    code, told = fail(directory, "acme:registry", "--port", "0", DOCKERFLOW_DISABLED="1")
    assert code == 1
    assert told == (
        "dockerflow-wsgi serve: Dockerflow is disabled, so there is nothing to serve. "
        "Unset DOCKERFLOW_DISABLED\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(directory, number):
    """Exit code 0, not a word, the port free again."""
    with served(directory, "acme:registry", "--port", "0") as (command, port):
        logged = command.output
        assert command.stop(number) == 0
        assert command.output == logged
    assert lbheartbeat_status(port) is None


def test_a_taken_port_is_exit_code_1_with_reason_and_remedy(directory):
    """On one line of stderr."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, told = fail(directory, "acme:registry", "--port", str(port), "--host", "127.0.0.1")
    assert code == 1
    assert told.startswith(f"dockerflow-wsgi serve: port {port} is taken: another process")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["acme:registri"], {}, "did you mean 'registry'?"),
        (["nowhere:app"], {}, "there is no module 'nowhere'"),
        (["acme:__name__"], {}, "must be a CheckRegistry or a WSGI application, not a str"),
        (["acme"], {}, "Write MODULE:NAME"),
        (["acme:make"], {}, "make() cannot be called with environ and start_response. If it is a "
                            "factory, write acme:make()"),
        (["acme:build"], {}, "write acme:build()"),
        (["acme:needs"], {}, "Name a callable that takes environ and start_response, or a Che"),
        (["acme:registry", "--port", "x"], {}, "--port: 'x': expected a port number from 0 to 65"),
        (["acme:registry"], {"PORT": "x"}, "port = 'x' (environment variable PORT): expected"),
        (["acme:registry"], {"DOCKERFLOW_CHECK_TIMEOUT": "x"}, "check_timeout = 'x'"),
        ([], {}, "the following arguments are required: MODULE:NAME"),
    ],
)  # fmt: skip
def test_misuse_is_exit_code_2_with_the_reason(directory, arguments, environment, told):
    """And never a traceback."""
    code, stderr = fail(directory, *arguments, **environment)
    assert code == 2
    assert told in stderr
    assert "Traceback" not in stderr


def test_a_directory_that_is_gone_is_exit_code_2_with_a_remedy(directory):
    """As after a deployment that replaced it."""
    gone = directory / "gone"
    gone.mkdir()
    code = "import os; os.rmdir(os.getcwd()); from dockerflow_wsgi.__main__ import main; main()"
    done = run([sys.executable, "-c", code, "serve", "acme:registry"], cwd=gone)
    assert done.stderr.startswith("dockerflow-wsgi serve: the current directory is gone")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["http://ada:s3cr3t@db/"], {}),
        (["acme:registry", "--port", "redis://:s3cr3t@db"], {}),
        (["acme:registry", "--port", "0", "--host", "redis://:s3cr3t@db"], {}),
        (["acme:registry"], {"PORT": "redis://:s3cr3t@db"}),
        (["acme:registry"], {"DOCKERFLOW_CHECK_TIMEOUT": "redis://:s3cr3t@db"}),
    ],
)
def test_a_password_at_a_wrong_place_is_not_shown(directory, arguments, environment):
    """What is wrong with the value is said all the same."""
    code, stderr = fail(directory, *arguments, **environment)
    assert code in {1, 2}
    assert "***@db" in stderr
    assert "s3cr3t" not in stderr
