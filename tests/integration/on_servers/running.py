"""A running server under test, and its log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import uuid
from importlib.util import find_spec
from pathlib import Path

import psutil
from on_servers.catalogue import HERE
from on_servers.wire import Wire, request
from programs import running as start
from servers import free_port, uwsgi_executable, wait_until_uwsgi_is_up
from system import missing, program
from waiting import TIMEOUT_S, wait_until

MOD_WSGI = "/usr/lib/apache2/modules/mod_wsgi.so"
FILE_BYTES = 4 * 1024 * 1024

HTTPD_CONF = """
ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/httpd.pid
ErrorLog {directory}/error.log
Listen 127.0.0.1:{port}
ServerName localhost
AllowEncodedSlashes On
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule wsgi_module {module}
<IfDefine !RECYCLING>
    WSGIDaemonProcess pages processes=2 threads=5 python-path={directory}
</IfDefine>
<IfDefine RECYCLING>
    WSGIDaemonProcess pages processes=1 threads=5 python-path={directory} maximum-requests=3
</IfDefine>
WSGIProcessGroup pages
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {directory}/pages.wsgi
"""


class Log:
    """Receives the lines that a server's processes log.

    Args:
        directory: The directory for its socket.

    Attributes:
        broken: Lines that are not JSON.
    """

    def __init__(self, directory):
        self.broken = []
        self.path = f"{directory}/log"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen(1024)
        os.chmod(self.path, 0o777)
        self._changed = threading.Condition()
        self._lines = []
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self):
        while line := self._receive_line():
            with self._changed:
                try:
                    self._lines.append(json.loads(line))
                except ValueError:
                    self.broken.append(line)
                self._changed.notify_all()

    def _receive_line(self):
        connection, _address = self._socket.accept()
        with connection, connection.makefile("rb") as reader:
            return reader.read()

    def drain(self):
        """Wait until every line sent before has been received."""
        mark = str(uuid.uuid4())
        self._send(json.dumps({"Type": "mark", "Fields": {"mark": mark}}).encode())
        self.wait_for("mark", mark)

    def close(self):
        """Stop receiving."""
        self._send(b"")
        self._thread.join()
        self._socket.close()

    def _send(self, data):
        with socket.socket(socket.AF_UNIX) as sender:
            sender.connect(self.path)
            sender.sendall(data)

    def find(self, field, value):
        """Return the lines received so far with this value of a field."""
        return [line for line in self._lines if line["Fields"].get(field) == value]

    def wait_for(self, field, value):
        """Wait for a line with this value of a field, and return the first one."""
        with self._changed:
            found = self._changed.wait_for(lambda: self.find(field, value), TIMEOUT_S)
        assert found, f"no line with {field}={value!r} was logged; the last: {self._lines[-3:]}"
        return found[0]

    def summaries(self):
        """Return all summaries received so far."""
        return [line for line in self._lines if line["Type"] == "request.summary"]


class Running:
    """A running server.

    Attributes:
        kind: The `catalogue.ServerKind`.
        port: The port that it listens on.
        log: The `Log` of the app.
        file: The bytes of the app's file.
        program: The `programs.Program`.
    """

    def __init__(self, kind, port, log, file, program):
        self.kind = kind
        self.port = port
        self.log = log
        self.file = file
        self.program = program

    def ask(self, method, target, *headers, body=b"", bare=False):
        """Send a request on a new connection; return its ID and the response."""
        rid = str(uuid.uuid4())
        lines = [f"X-Request-ID: {rid}", "Connection: close", *headers, *["X-Bare: 1"] * bare]
        with Wire(self.port) as wire:
            wire.send(request(method, target, *lines, body=body))
            return rid, wire.read(method)

    def ask_for_bytes(self, target, *headers):
        """Send a request; return its ID and the bytes of the response, without varying headers."""
        rid = str(uuid.uuid4())
        with Wire(self.port) as wire:
            lines = [f"X-Request-ID: {rid}", "Connection: close", *headers]
            wire.send(request("GET", target, *lines))
            return rid, re.sub(rb"(?im)^(date|x-request-id):.*\n", b"", wire.rest())

    def stop(self):
        """Send SIGTERM, wait for all processes to end, and return the exit status."""
        family = self.program.family()
        status = self.program.stop()
        _gone, alive = psutil.wait_procs(family, timeout=TIMEOUT_S)
        assert not alive, f"{self.kind} does not stop: {alive}"
        return status


@contextlib.contextmanager
def running(kind, *options, tracer=()):
    """Run a server.

    Args:
        kind: The `catalogue.ServerKind`.
        *options: Additional options of the command.
        tracer: A command that runs the server's command.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        port = free_port()
        executable = program(*kind.program) if kind.program else ""
        if kind.is_uwsgi:
            uwsgi_executable()
        file = os.urandom(FILE_BYTES)
        Path(directory, "file").write_bytes(file)
        log = Log(directory)
        stack.callback(log.close)
        environment = {"TEST_LOG": log.path, "TEST_FILE": f"{directory}/file"}
        if kind.program:
            _prepare_apache(directory, port, environment)
        command = [
            word.format(port=port, directory=directory, program=executable)
            for word in (*kind.command, *options)
        ]
        running_server = stack.enter_context(start([*tracer, *command], cwd=HERE, **environment))
        _wait_until_ready(running_server, port)
        if kind.is_uwsgi:
            wait_until_uwsgi_is_up(f"{directory}/stats")
        yield Running(kind, port, log, file, running_server)


def _prepare_apache(directory, port, environment):
    """Copy the app's files to a directory that Apache's user may read."""
    if not os.path.exists(MOD_WSGI):
        missing(f"there is no {MOD_WSGI}: install it with apt-get install libapache2-mod-wsgi-py3")
    os.chmod(directory, 0o755)
    for package in ("dockerflow_wsgi", "werkzeug", "markupsafe"):
        (source,) = find_spec(package).submodule_search_locations
        shutil.copytree(source, f"{directory}/{package}")
    shutil.copy(HERE / "pages.py", directory)
    Path(directory, "httpd.conf").write_text(
        HTTPD_CONF.format(directory=directory, port=port, module=MOD_WSGI)
    )
    Path(directory, "pages.wsgi").write_text(
        f"import os\nos.environ.update({environment!r})\nfrom pages import application\n"
    )


def _wait_until_ready(program, port):
    def serves():
        assert program.is_alive, program.output
        with contextlib.suppress(OSError), Wire(port) as wire:
            wire.send(request("GET", "/__lbheartbeat__", "Connection: close"))
            return wire.read().status == 200
        return False

    wait_until(serves)
