"""A backing service that fails: the first step that fails is named, with what to do."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import struct
import threading

import pytest
import redis
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from servers import PASSWORD, free_port, postgres_server, redis_server, wsgiref_server
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import QueuePool
from waiting import TIMEOUT_S
from wsgi import hello

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.doctor.app_steps import record_logs
from dockerflow_wsgi.doctor.diagnosis import masked
from dockerflow_wsgi.doctor.services import CheckSteps
from dockerflow_wsgi.flask import Dockerflow

# psycopg complains of each connection that a fault broke while it was being opened.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("nothing_is_left_to_the_next_test"),
]
SHORT_S = 1.5  # for what hangs
WRONG = "wr0ng-4b1d"


def look(timeout_s=TIMEOUT_S, check_timeout=TIMEOUT_S, app=None, **services):
    """Run the check of a service, and return the step's result, without passwords."""
    app = app or DockerflowMiddleware(hello, check_timeout=check_timeout, **services)
    with record_logs():
        (result,) = CheckSteps(app, timeout_s, ()).results()
    shown = json.dumps(result.to_dict())
    assert PASSWORD not in shown
    assert WRONG not in shown
    return result


@contextlib.contextmanager
def engine_for(url, **options):
    """Make an engine."""
    engine = create_engine(url, **options)
    try:
        yield engine
    finally:
        engine.dispose()


@contextlib.contextmanager
def client_for(url, **options):
    """Make a Redis client."""
    with redis.Redis.from_url(url, **options) as client:
        yield client


def look_at_database(url, timeout_s=TIMEOUT_S, **options):
    """Run the check of the database at a URL."""
    with engine_for(url, **options) as engine:
        return look(timeout_s, db=engine)


def look_at_redis(url, timeout_s=TIMEOUT_S, **options):
    """Run the check of the Redis at a URL."""
    with client_for(url, **options) as client:
        return look(timeout_s, redis=client)


@contextlib.contextmanager
def over_tcp(path):
    """Forward a TCP port to a Unix socket, and yield the port."""
    opened, threads = [socket.create_server(("127.0.0.1", 0))], []

    def start(function, *arguments):
        threads.append(threading.Thread(target=function, args=arguments))
        threads[-1].start()

    def carry(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = opened[0].accept()
                server = socket.socket(socket.AF_UNIX)
                opened.extend([client, server])
                server.connect(path)
                start(carry, client, server)
                start(carry, server, client)

    start(serve)
    try:
        yield opened[0].getsockname()[1]
    finally:
        while any(thread.is_alive() for thread in threads):
            for one in opened:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(0.1)
        for one in opened:
            one.close()


@pytest.fixture
def postgres_port(postgres_url):
    """Return a TCP port of the PostgreSQL."""
    with over_tcp(socket_of(postgres_url)) as port:
        yield port


def socket_of(url):
    """Return the path of the Unix socket of a PostgreSQL."""
    return f"{make_url(url).query['host']}/.s.PGSQL.5432"


def rendered(url, **parts):
    """Change parts of a URL."""
    return make_url(url).set(**parts).render_as_string(hide_password=False)


class TestHealthy:
    """A service that answers passes."""

    def test_services_that_answer(self, postgres_url, redis_url):
        """PostgreSQL and Redis pass."""
        assert look_at_database(postgres_url).status == "ok"
        assert look_at_redis(redis_url).status == "ok"

    def test_sqlite_in_memory(self):
        """An SQLite database in memory passes."""
        assert look_at_database("sqlite://").status == "ok"


class TestLogin:
    """The reason for a failed login is the driver's message."""

    def test_a_wrong_password_of_postgresql(self, postgres_url):
        """The reason is PostgreSQL's, over a Unix socket."""
        finding = look_at_database(rendered(postgres_url, password=WRONG))
        assert finding.status == "error"
        assert 'login: password authentication failed for user "ada"' in finding.message
        assert finding.remedy == "Correct user name and password in the URL"

    def test_a_wrong_password_of_postgresql_over_tcp(self, postgres_port):
        """The message has the address."""
        finding = look_at_database(
            f"postgresql+psycopg://ada:{WRONG}@localhost:{postgres_port}/postgres"
        )
        assert finding.message.startswith(f"PostgreSQL at localhost:{postgres_port}: login: ")

    def test_a_wrong_database(self, postgres_url):
        """The message has the name of the database."""
        finding = look_at_database(rendered(postgres_url, database="nowhere"))
        assert 'database "nowhere" does not exist' in finding.message
        assert finding.remedy == "Create the database, or correct its name"

    def test_a_refused_setting(self, postgres_port):
        """A message with the word "TimeZone" is not taken for a timeout."""
        finding = look_at_database(
            f"postgresql+psycopg://ada:{PASSWORD}@127.0.0.1:{postgres_port}/postgres",
            connect_args={"options": "-c TimeZone=nowhere"},
        )
        assert 'invalid value for parameter "TimeZone"' in finding.message

    def test_passwords_of_redis(self):
        """A wrong password, a missing one and a wrong database have different remedies."""
        with redis_server("--requirepass", PASSWORD) as server:
            wrong, missing = look_at_redis(server.url, password=WRONG), look_at_redis(server.url)
            number = look_at_redis(server.url.replace("/0", "/99"), password=PASSWORD)
        assert "login: " in wrong.message
        assert wrong.remedy == "Correct user name and password in the URL"
        assert "login: " in missing.message
        assert missing.remedy == "Put the password into the URL"
        assert "DB index is out of range" in number.message

    def test_a_missing_permission(self):
        """The step is the query, and the reason is Redis's message."""
        with redis_server() as server:
            with redis.Redis.from_url(server.url) as client:
                client.acl_setuser(
                    "bea", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+get"]
                )
            finding = look_at_redis(server.url, username="bea", password=PASSWORD)
        assert "query: " in finding.message
        assert "NOPERM" in finding.message or "no permissions" in finding.message.lower()


class TestTLS:
    """TLS on one side only, and wrong certificates, are named."""

    def test_postgresql_without_tls(self, postgres_port):
        """The client requires TLS, and PostgreSQL does not support it."""
        url = f"postgresql+psycopg://ada:{PASSWORD}@127.0.0.1:{postgres_port}/postgres"
        finding = look_at_database(f"{url}?sslmode=require")
        assert "TLS: " in finding.message
        assert "server does not support SSL" in finding.message

    def test_redis_without_tls(self, redis_url):
        """The URL is rediss://, and Redis does not support TLS."""
        finding = look_at_redis(redis_url.replace("redis://", "rediss://"), SHORT_S)
        assert "TLS: the TLS handshake failed: " in finding.message
        assert "TLS" in finding.remedy

    def test_a_client_without_tls(self, tls_port):
        """The remedy has the scheme to write."""
        finding = look_at_redis(f"redis://:{WRONG}@127.0.0.1:{tls_port}", 5)
        assert "TLS: it speaks TLS, and the client does not" in finding.message
        assert finding.remedy == "Use TLS in the client: rediss:// instead of redis://"

    def test_a_certificate(self, tls_port):
        """The reason is that of the verification."""
        finding = look_at_redis(f"rediss://:{WRONG}@localhost:{tls_port}")
        assert "TLS: " in finding.message
        assert "self-signed certificate" in finding.message.replace("self signed", "self-signed")
        assert "Renew the certificate" in finding.remedy


class TestProtocol:
    """Another service on the port and a silent one are named."""

    def test_a_stopped_postgresql(self):
        """A stopped process accepts connections, and does not answer."""
        with postgres_server() as server, server.stopped():
            finding = look_at_database(server.url, SHORT_S, connect_args={"connect_timeout": 20})
            with over_tcp(socket_of(server.url)) as port:
                url = rendered(server.url, host="127.0.0.1", port=port, query={})
                over = look_at_database(url, SHORT_S, connect_args={"connect_timeout": 20})
        assert finding.message == "PostgreSQL: protocol: it did not answer in time"
        assert "it accepts connections, but did not answer in time" in over.message
        assert "stopped or overloaded" in over.remedy

    def test_redis_instead_of_postgresql(self, redis_url):
        """The message has the answer of Redis."""
        port = make_url(redis_url).port
        url = f"postgresql+psycopg://ada:{WRONG}@127.0.0.1:{port}/x?connect_timeout=2"
        finding = look_at_database(url, SHORT_S)
        assert "answers, not PostgreSQL: -ERR" in finding.message

    def test_postgresql_instead_of_redis(self, postgres_port):
        """Another service is named as such."""
        finding = look_at_redis(f"redis://:{WRONG}@127.0.0.1:{postgres_port}")
        assert "answers, not Redis" in finding.message

    @pytest.mark.parametrize(
        ("scheme", "query"), [("redis", ""), ("postgresql+psycopg", "?connect_timeout=2")]
    )
    def test_an_http_server(self, scheme, query):
        """The message has the status line of the HTTP server."""
        look_at = look_at_redis if scheme == "redis" else look_at_database
        with wsgiref_server(hello) as port:
            finding = look_at(f"{scheme}://ada:{WRONG}@127.0.0.1:{port}/0{query}", SHORT_S)
        assert "protocol: something else answers, not " in finding.message
        assert ": HTTP/1.0 " in finding.message
        assert finding.remedy.startswith("Correct host and port")

    @pytest.mark.parametrize("scheme", ["redis", "postgresql+psycopg"])
    def test_a_service_that_speaks_first(self, scheme):
        """A service that sends a greeting, such as SSH, is named as another one."""
        look_at = look_at_redis if scheme == "redis" else look_at_database
        with socket.create_server(("127.0.0.1", 0)) as server:

            def greet():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = server.accept()
                        with connection:
                            connection.sendall(b"SSH-2.0-Test\r\n")
                            connection.recv(64)

            threading.Thread(target=greet, daemon=True).start()
            port = server.getsockname()[1]
            finding = look_at(f"{scheme}://ada:{WRONG}@127.0.0.1:{port}/0", SHORT_S)
            server.shutdown(socket.SHUT_RDWR)
        assert "answers, not " in finding.message
        assert finding.remedy.startswith("Correct host and port")

    def test_mysql(self):
        """A closed port and a wrong service are named for MySQL too."""
        closed = look_at_database(f"mysql+pymysql://ada:{WRONG}@127.0.0.1:{free_port()}/x")
        assert "MySQL at 127.0.0.1:" in closed.message
        assert "TCP: connection refused" in closed.message
        with wsgiref_server(hello) as port:
            url = f"mysql+pymysql://ada:{WRONG}@127.0.0.1:{port}/x?read_timeout=1"
            stranger = look_at_database(url, SHORT_S)
        assert "protocol: something else answers, not MySQL: HTTP/1.0 " in stranger.message

    def test_a_stopped_redis(self):
        """A stopped process accepts connections, and does not answer."""
        with redis_server() as server, server.stopped():
            finding = look_at_redis(server.url, SHORT_S, socket_timeout=SHORT_S)
        assert "protocol: it accepts connections, but did not answer" in finding.message

    def test_a_reset(self):
        """A service that resets connections fails with this reason, at TCP or at the protocol."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def reset():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = server.accept()
                        connection.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                        connection.close()

            threading.Thread(target=reset, daemon=True).start()
            finding = look_at_redis(f"redis://127.0.0.1:{server.getsockname()[1]}", SHORT_S)
            server.shutdown(socket.SHUT_RDWR)
        assert "reset by peer" in finding.message


class TestConnection:
    """DNS and TCP are diagnosed by sockets, with the address."""

    @pytest.mark.parametrize("scheme", ["redis", "postgresql+psycopg"])
    def test_a_closed_port(self, scheme):
        """The step is TCP, and the message has the address."""
        look_at = look_at_redis if scheme == "redis" else look_at_database
        port = free_port()
        finding = look_at(f"{scheme}://ada:{WRONG}@127.0.0.1:{port}/0")
        assert f"at 127.0.0.1:{port}: TCP: connection refused" in finding.message
        assert "or correct host and port" in finding.remedy

    def test_an_at_sign_in_a_password(self):
        """The part of a password that is taken for the host is not shown."""
        finding = look_at_database("postgresql+psycopg://ada:s3@cr3t-7@127.0.0.1:1/x")
        assert "PostgreSQL at ***@127.0.0.1:1: DNS: the name '***@127.0.0.1'" in finding.message
        assert "%40" in finding.remedy
        assert "cr3t" not in repr(finding)

    @pytest.mark.parametrize("scheme", ["redis", "postgresql+psycopg"])
    def test_an_unknown_name(self, scheme):
        """The step is DNS, and the message has the name."""
        look_at = look_at_redis if scheme == "redis" else look_at_database
        finding = look_at(f"{scheme}://ada:{WRONG}@nowhere.invalid/0")
        assert "DNS: the name 'nowhere.invalid' cannot be resolved" in finding.message

    def test_a_firewall(self):
        """An attempt without an answer, as behind a firewall, fails at TCP."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            port = full.getsockname()[1]
            finding = look_at_redis(f"redis://127.0.0.1:{port}", SHORT_S, socket_timeout=SHORT_S)
            for filler in fillers:
                filler.close()
        assert f"TCP: no answer to the connection attempt within {SHORT_S} s" in finding.message
        assert "firewall" in finding.remedy

    def test_a_missing_unix_socket(self, tmp_path):
        """The reason is the driver's message with the path."""
        finding = look_at_redis(f"unix://{tmp_path}/redis.sock")
        assert f"{tmp_path}/redis.sock. No such file or directory" in finding.message
        assert finding.remedy == "Correct the URL, or start Redis"

    def test_binds(self):
        """Each bind of Flask-SQLAlchemy is checked, in the app's context."""
        port = free_port()
        app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        url = f"postgresql+psycopg://ada:{WRONG}@127.0.0.1:{port}/x"
        app.config["SQLALCHEMY_BINDS"] = {"archive": url}
        Dockerflow(app, db=SQLAlchemy(app))
        finding = look(app=app.wsgi_app)
        assert f"PostgreSQL at 127.0.0.1:{port}: TCP: connection refused" in finding.message

    def test_connect_args(self, postgres_url):
        """The address and the database are those of `connect_args`."""
        url, port = make_url(postgres_url), free_port()
        elsewhere = url.set(host="127.0.0.1", port=port, query={})
        here = {"host": url.query["host"], "port": 5432}
        finding = look_at_database(elsewhere, connect_args={**here, "dbname": "nowhere"})
        assert 'login: database "nowhere" does not exist' in finding.message
        finding = look_at_database(url, connect_args={"host": "127.0.0.1", "port": port})
        assert f"PostgreSQL at 127.0.0.1:{port}: TCP: connection refused" in finding.message

    def test_a_creator(self):
        """The reason is the exception of the engine's `creator`."""

        def create():
            raise ConnectionRefusedError("by the proxy")

        finding = look_at_database(
            f"postgresql+psycopg://127.0.0.1:{free_port()}/x", creator=create
        )
        assert "by the proxy" in finding.message

    def test_several_hosts(self, postgres_url):
        """With several hosts, the reason is the driver's message."""
        host = make_url(postgres_url).query["host"]
        for hosts in (f"host=127.0.0.1:{free_port()}&host={host}:5432", f"host=/none&host={host}"):
            finding = look_at_database(f"postgresql+psycopg://ada:{WRONG}@/postgres?{hosts}")
            assert "login: " in finding.message
            assert "password authentication failed" in finding.message


class TestOwnMessages:
    """The message of the check is the reason where the service answers."""

    def test_a_missing_sqlite_file(self, tmp_path):
        """A missing SQLite file is named, and not created."""
        path = tmp_path / "data.sqlite3"
        finding = look_at_database(f"sqlite:///{path}")
        assert f"The SQLite file {path} does not exist" in finding.message
        assert "create the database" in finding.remedy
        assert not path.exists()
        sqlite3.connect(path).close()
        assert look_at_database(f"sqlite:///{path}").status == "ok"

    def test_an_exhausted_pool(self, postgres_url):
        """An exhausted pool is the reason, and not a silent service."""
        options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 3}
        with engine_for(postgres_url, **options) as engine, engine.connect():
            finding = look(db=engine, check_timeout=1.0)
        assert "The connection pool is exhausted" in finding.message
        assert "not given back" in finding.remedy

    def test_masked(self, postgres_url):
        """Credentials in nested values are redacted."""
        shown = masked({"a": [postgres_url, {"b": f"password={PASSWORD}"}]})
        assert PASSWORD not in str(shown)
