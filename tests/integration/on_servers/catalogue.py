"""The WSGI servers under test: the command and the limits of each."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True)
class ServerKind:
    """A WSGI server with the options it is started with.

    Attributes:
        name: The server's name, with its special options.
        command: The command that starts it, with ``{port}`` and ``{directory}``.
        limits: The behaviours that the server does not support, with reasons. Their tests run, and
            must fail.
        lacks: The behaviours that do not apply to the server, with reasons. Their tests do not run.
        recycling: The options that replace a worker after three requests.
        program: A program of the system, and the Debian package that has it.
        is_uwsgi: Whether it is uWSGI, which serves statistics at ``{directory}/stats``.
        truncates: Whether it may lose the end of a response, or all of it, when the app raises
            during the body, because it resets the connection before the data is sent.
    """

    name: str
    command: tuple[str, ...]
    limits: dict[str, str] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)
    recycling: tuple[str, ...] = ()
    program: tuple[str, str] | None = None
    is_uwsgi: bool = False
    truncates: bool = False

    def __str__(self):
        return self.name


NO_KEEP_ALIVE = "closes the connection after each response"
WHOLE_TARGET = "uses the whole target as the path"
NO_RECYCLING = "has no workers to replace"
NO_SENDFILE = "has no file wrapper that uses sendfile"


def gunicorn(name, *options, **limits):
    """Describe a gunicorn."""
    return ServerKind(
        f"gunicorn {name}",
        (
            sys.executable,
            "-m",
            "gunicorn",
            "--bind=127.0.0.1:{port}",
            *options,
            "pages:application",
        ),
        limits=limits,
        recycling=("--max-requests=3",),
    )


def uwsgi(name, *options):
    """Describe a uWSGI."""
    return ServerKind(
        name,
        (
            *(str(SCRIPTS / "uwsgi"), "--http-socket=127.0.0.1:{port}", "--home", sys.prefix),
            *("--module=pages:application", "--need-app", "--master", "--die-on-term"),
            *("--buffer-size=32768", "--stats={directory}/stats", *options),
        ),
        is_uwsgi=True,
        limits={
            "keep_alive": NO_KEEP_ALIVE,
            "pipelining": NO_KEEP_ALIVE,
            "absolute_form": WHOLE_TARGET,
        },
        recycling=("--max-requests=3", "--min-worker-lifetime=0"),
    )


def library(name, *command, truncates=False, **limits):
    """Describe a server that is a library, or that has its own command."""
    return ServerKind(
        name,
        (sys.executable, *command),
        truncates=truncates,
        limits=limits,
        lacks={"recycling": NO_RECYCLING, "sendfile": NO_SENDFILE},
    )


SERVERS = [
    gunicorn("sync", keep_alive=NO_KEEP_ALIVE, pipelining=NO_KEEP_ALIVE),
    gunicorn("gthread", "--worker-class=gthread", "--threads=4"),
    gunicorn("gevent", "--worker-class=gevent", sendfile="its gevent worker does not use it"),
    gunicorn("preload", "--preload", "--workers=3", "--worker-class=gthread", "--threads=4"),
    uwsgi("uWSGI"),
    uwsgi("uWSGI threads", "--processes=2", "--threads=4"),
    library("waitress", "-m", "waitress", "--listen=127.0.0.1:{port}", "pages:application"),
    library(
        "granian",
        *("-m", "granian", "--interface=wsgi", "--host=127.0.0.1", "--port={port}"),
        "pages:application",
        truncates=True,
    ),
    library(
        "cheroot",
        *("-m", "cheroot", "--bind=127.0.0.1:{port}", "--request-queue-size=128"),
        "pages:application",
        absolute_form="answers 400, except as a proxy",
    ),
    library("gevent", "embedded.py", "gevent", "{port}", absolute_form=WHOLE_TARGET),
    library(
        "wsgiref",
        *("embedded.py", "wsgiref", "{port}"),
        absolute_form=WHOLE_TARGET,
        keep_alive=NO_KEEP_ALIVE,
        pipelining=NO_KEEP_ALIVE,
    ),
    library(
        "werkzeug",
        *("embedded.py", "werkzeug", "{port}"),
        keep_alive=NO_KEEP_ALIVE,
        pipelining=NO_KEEP_ALIVE,
    ),
    ServerKind(
        "mod_wsgi",
        ("{program}", "-f", "{directory}/httpd.conf", "-D", "FOREGROUND"),
        program=("apache2", "apache2 libapache2-mod-wsgi-py3"),
        lacks={"sendfile": NO_SENDFILE},
        limits={
            "head_has_the_headers_of_get": "removes Content-Length: 0 from a response to HEAD",
        },
        recycling=("-D", "RECYCLING"),
    ),
]
