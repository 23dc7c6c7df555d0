"""The steps to a Redis, where it or the client is out of the ordinary."""

from __future__ import annotations

import contextlib
import ssl
import threading
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
import redis
from redis.sentinel import Sentinel
from servers import PASSWORD, redis_server
from waiting import TIMEOUT_S

from dockerflow_wsgi.doctor.redis import climb_redis

WRONG = "wr0ng-4b1d"


def climb(url, **options):
    """Climb to the Redis of a URL."""
    with redis.Redis.from_url(url, **options) as client:
        return climb_redis(client, TIMEOUT_S)


class ScriptedHandler(StreamRequestHandler):
    """Answers each command by its first word, as the server's ``answers`` say."""

    def handle(self):
        with contextlib.suppress(OSError):
            while line := self.rfile.readline():
                word = line.split()[0] if line.split() else b""
                if word.startswith(b"*"):
                    self.rfile.readline()
                    word = self.rfile.readline().strip()
                    for _ in range(2 * (int(line[1:]) - 1)):
                        self.rfile.readline()
                if word:
                    self.wfile.write(self.server.answers.get(word, b"+OK") + b"\r\n")


@contextlib.contextmanager
def scripted_redis(**answers):
    """Run a server that answers as it is told to, and yield its URL."""
    with ThreadingTCPServer(("127.0.0.1", 0), ScriptedHandler) as server:
        server.answers = {word.encode(): answer for word, answer in answers.items()}
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        finally:
            server.shutdown()
            thread.join()


def test_a_client_that_tells_no_address_has_no_steps():
    """As one of Sentinel, or a stand-in: the check's own message is all there is."""
    with Sentinel([]).master_for("main") as client:
        assert climb_redis(client, TIMEOUT_S) is None
    assert climb_redis(object(), TIMEOUT_S) is None


def test_tls_that_the_client_does_not_speak_fails_at_tls(tls_port):
    """The server answers with a TLS alert, or shuts the connection."""
    fall = climb(f"redis://127.0.0.1:{tls_port}").fall
    assert (fall.rung, fall.reason) == ("tls", "it speaks TLS, and the client does not")
    assert fall.remedy == "Use TLS in the client: rediss:// in place of redis://"


def test_a_tls_alert_names_the_scheme_to_write():
    """The alert is what a Redis with ``tls-port`` answers to PING."""
    with scripted_redis(PING=b"\x15\x03\x03\x00\x02\x02\x46") as url:
        fall = climb(url).fall
    assert (fall.rung, fall.reason) == ("tls", "it speaks TLS, and the client does not")
    assert fall.remedy == "Use TLS in the client: rediss:// in place of redis://"


def test_a_missing_password_fails_at_the_login():
    """The remedy says where to put it."""
    with redis_server("--requirepass", PASSWORD) as server:
        fall = climb(server.url).fall
    assert (fall.rung, fall.reason) == ("login", "it wants a password, and the client has none")
    assert "Put the password" in fall.remedy


def test_a_login_that_is_refused_otherwise_is_told_in_redis_words():
    """Without the password, should they repeat it."""
    with scripted_redis(PING=b"-NOAUTH", AUTH=b"-ERR no AUTH for " + WRONG.encode()) as url:
        fall = climb(url, password=WRONG).fall
    assert (fall.rung, fall.remedy) == ("login", "Mend what it says")
    assert fall.reason == "it answered AUTH with: ERR no AUTH for ***"


def test_a_command_that_is_refused_fails_at_the_query():
    """As to a user whose rights leave PING out."""
    with redis_server() as server:
        with redis.Redis.from_url(server.url) as client:
            client.acl_setuser("bea", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+get"])
        ladder = climb(server.url, username="bea", password=PASSWORD)
    assert ("login", "as bea") in ladder.rungs
    assert ladder.fall.rung == "query"
    assert ladder.fall.reason.startswith("it answered PING with: NOPERM")
    assert "rights of its user" in ladder.fall.remedy


def test_a_database_number_that_redis_has_not_fails_at_the_query(redis_url):
    """The number is in the reason, with what Redis says."""
    fall = climb(redis_url.replace("/0", "/99")).fall
    assert (fall.rung, fall.remedy) == ("query", "Correct the database's number in the URL")
    assert fall.reason.startswith("database 99 cannot be selected: ERR ")


class Provider(redis.CredentialProvider):
    """Gives what it is made with."""

    def __init__(self, *credentials):
        self.credentials = credentials

    def get_credentials(self):
        return self.credentials


@pytest.mark.parametrize(
    ("credentials", "user"), [((PASSWORD,), "default"), (("default", PASSWORD), "default")]
)
def test_credentials_come_from_the_clients_provider(credentials, user):
    """It gives a password, or user name and password."""
    with redis_server("--requirepass", PASSWORD) as server:
        ladder = climb(server.url, credential_provider=Provider(*credentials))
        wrong = climb(server.url, credential_provider=Provider(WRONG))
    assert ladder.fall is None
    assert ("login", f"as {user}") in ladder.rungs
    assert wrong.fall.reason == "user name or password is wrong"


def test_a_redis_on_a_unix_socket_is_climbed_to(tmp_path):
    """The step ``dns`` is not taken."""
    path = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(path)):
        ladder = climb(f"unix://{path}")
    assert ladder.fall is None
    assert ladder.rungs[0] == ("tcp", "connected to the Unix socket")
    assert [rung for rung, _ in ladder.rungs] == ["tcp", "protocol", "login", "query"]


@contextlib.contextmanager
def tls_front(certificate):
    """Speak TLS as a Redis that wants a client's certificate; yield its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate[0])

    class TLSServer(ThreadingTCPServer):
        answers = {b"PING": b"+PONG"}  # noqa: RUF012 - it is not changed
        daemon_threads = True

        def finish_request(self, request, client_address):
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(request, server_side=True) as one,
            ):
                super().finish_request(one, client_address)

    with TLSServer(("127.0.0.1", 0), ScriptedHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_client_that_shows_a_certificate_is_let_in(certificate):
    """The doctor shows the client's own, and trusts the authority that the client trusts."""
    own = {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]}
    with tls_front(certificate) as port:
        url = f"rediss://localhost:{port}"
        shown = climb(url, ssl_ca_certs=certificate[0], **own)
        untrusted = climb(url, **own)
    assert shown.fall is None
    assert dict(shown.rungs)["tls"].startswith("TLSv1")
    assert [rung for rung, _ in shown.rungs] == [
        *("dns", "tcp", "tls", "protocol", "login", "query")
    ]
    assert (untrusted.fall.rung, untrusted.rungs[-1][0]) == ("tls", "tcp")
