"""The command ``serve`` serves the endpoints in the foreground."""

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
class Outer:
    def __init__(self, app):
        self.app = app
    def __call__(self, environ, start_response):
        return self.app(environ, start_response)
outer = Outer(app)
"""


@pytest.fixture(autouse=True)
def directory(tmp_path):
    """Make a directory with a module to serve."""
    (tmp_path / "acme.py").write_text(SERVED)
    (tmp_path / "acme_flask.py").write_text(
        "from dockerflow_wsgi.flask import Dockerflow\ndockerflow = Dockerflow()\n"
    )
    return tmp_path


SERVE = [sys.executable, "-m", "dockerflow_wsgi", "serve"]


@contextmanager
def served(directory, *arguments, **environment):
    """Run the command; yield the program and its port when it is ready."""
    with running([*SERVE, *arguments], cwd=directory, **environment) as command:
        yield command, command.wait_until_served()


def fail(directory, *arguments, **environment):
    """Run the command, and return its exit code and stderr."""
    done = run([*SERVE, *arguments], cwd=directory, **environment)
    return done.returncode, done.stderr


@pytest.mark.parametrize("target", ["acme:registry", "acme:make()"])
def test_a_registry_is_served(directory, target):
    """The target may be a registry or a factory of one."""
    with served(directory, target, "--port", "0", "--host", "127.0.0.1") as (_command, port):
        assert heartbeat(port) == (200, {"status": "ok", "checks": {"fine": "ok"}, "details": {}})


@pytest.mark.parametrize("target", ["acme:app", "acme:outer"])
def test_an_apps_endpoints_are_served_and_no_page(directory, target):
    """The app may be wrapped in other middlewares; the port is ``$PORT``; the log is mozlog."""
    with served(directory, target, PORT="0") as (command, port):
        assert lbheartbeat_status(port) == 200
        assert probe(port, "/").startswith(b"HTTP/1.0 404 Not Found")
        assert probe(port, "/__version__").startswith(b"HTTP/1.0 404 Not Found")
        logged = [json.loads(command.wait_for(""))["Type"] for _ in range(2)]
    assert logged == ["dockerflow_wsgi", "request.summary"]


@pytest.mark.parametrize("target", ["acme:registry", "acme:app"])
def test_when_disabled_it_is_exit_code_1(directory, target):
    """While Dockerflow is disabled, there is nothing to serve, and stderr has the remedy."""
    code, stderr = fail(directory, target, "--port", "0", DOCKERFLOW_DISABLED="1")
    assert code == 1
    assert stderr == (
        "dockerflow-wsgi serve: Dockerflow is disabled: nothing to serve. "
        "Unset DOCKERFLOW_DISABLED\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(directory, number):
    """After a signal, the exit code is 0, nothing is logged, and the port is free."""
    with served(directory, "acme:registry", "--port", "0") as (command, port):
        logged = command.output
        assert command.stop(number) == 0
        assert command.output == logged
    assert lbheartbeat_status(port) is None


def test_a_taken_port_is_exit_code_1_with_reason_and_remedy(directory):
    """Stderr has one line with the reason and the remedy."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, stderr = fail(directory, "acme:registry", "--port", str(port), "--host", "127.0.0.1")
    assert code == 1
    assert stderr.startswith(f"dockerflow-wsgi serve: port {port} is taken;  ss -ltnp")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        (["acme:registri"], {}, "did you mean 'registry'?"),
        (["nowhere:app"], {}, "there is no module 'nowhere'"),
        (["acme:__name__"], {}, "__name__ is not a WSGI app: "),
        (["acme:hello"], {}, "the app has no DockerflowMiddleware: wrap it in one first"),
        (["acme"], {}, "Write MODULE:NAME"),
        (["acme:make"], {}, "if it is a factory, write acme:make()"),
        (["acme:build"], {}, "write acme:build()"),
        (["acme_flask:dockerflow"], {}, "the extension has no app: call init_app(app) first"),
        (["acme:needs"], {}, "Name a callable that takes environ and start_response"),
        (["acme:registry", "--port", "x"], {}, "port = 'x' (argument port): expected a port"),
        (["acme:registry"], {"PORT": "x"}, "port = 'x' (environment variable PORT): expected"),
        (["acme:registry"], {"DOCKERFLOW_CHECK_TIMEOUT": "x"}, "check_timeout = 'x'"),
        ([], {}, "the following arguments are required: MODULE:NAME"),
    ],
)  # fmt: skip
def test_misuse_is_exit_code_2_with_the_reason(directory, arguments, environment, reason):
    """Stderr has the reason, without a traceback."""
    code, stderr = fail(directory, *arguments, **environment)
    assert code == 2
    assert reason in stderr
    assert "Traceback" not in stderr


def test_a_directory_that_is_gone_is_exit_code_2_with_a_remedy(directory):
    """A current directory that a deployment has replaced is an error with a remedy."""
    gone = directory / "gone"
    gone.mkdir()
    code = "import os; os.rmdir(os.getcwd()); from dockerflow_wsgi.__main__ import main; main()"
    # -I, as sys.path of the script has no current directory: with it, Python 3.13.0 fails.
    done = run([sys.executable, "-I", "-c", code, "serve", "acme:registry"], cwd=gone)
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
def test_a_password_in_a_wrong_argument_is_not_shown(directory, arguments, environment):
    """The error shows the wrong value, with the password replaced."""
    code, stderr = fail(directory, *arguments, **environment)
    assert code in {1, 2}
    assert "***@db" in stderr
    assert "s3cr3t" not in stderr
