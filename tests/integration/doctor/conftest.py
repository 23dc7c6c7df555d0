"""Fixtures for the doctor's tests."""

from __future__ import annotations

import http.server
import json
import ssl
import sys
import threading
from dataclasses import dataclass

import pytest
from programs import run
from system import program

APP = """
import logging
from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.logging import MozlogHandler

logging.basicConfig(handlers=[MozlogHandler()], level=logging.INFO)

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]

wrapped = DockerflowMiddleware(app, version_path=".")
"""


@dataclass
class Printed:
    """What the command printed.

    Attributes:
        code: Its exit code.
        out: Its standard output.
        err: Its standard error.
    """

    code: int
    out: str
    err: str

    @property
    def report(self):
        """The JSON object."""
        return json.loads(self.out)

    def __getitem__(self, name):
        """Return the probe of that name."""
        (probe,) = [probe for probe in self.report["probes"] if probe["name"] == name]
        return probe

    @property
    def red(self):
        """The names of the probes that failed."""
        return [probe["name"] for probe in self.report["probes"] if not probe["ok"]]


@pytest.fixture
def doctor(version_directory):
    """Return a function that runs the command in a directory with an app and a version.json."""
    (version_directory / "app.py").write_text(APP)

    def run_doctor(*arguments, code="", **environment):
        if code:
            (version_directory / "app.py").write_text(code)
        command = [sys.executable, "-m", "dockerflow_wsgi", "doctor", *arguments]
        environment = {"PYTHONDONTWRITEBYTECODE": "1", **environment}
        done = run(command, cwd=version_directory, **environment)
        return Printed(done.returncode, done.stdout, done.stderr)

    run_doctor.directory = version_directory
    run_doctor.app = APP
    return run_doctor


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate for localhost that signs itself; return its path and its key's."""
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [
        *(program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        *("-out", paths[0], "-keyout", paths[1]),
    ]
    run(command, check=True)
    return [str(path) for path in paths]


@pytest.fixture
def tls_port(certificate):
    """Run a server that speaks TLS, with a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
