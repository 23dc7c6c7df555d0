"""Connections that fail in other ways than most, and the steps to a database beyond them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading

import psycopg
import pytest
from servers import PASSWORD
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine
from waiting import TIMEOUT_S

from dockerflow_wsgi.doctor.connecting import connected, refuse_stranger, talk
from dockerflow_wsgi.doctor.database import climb_database
from dockerflow_wsgi.doctor.ladder import Address, Ladder
from dockerflow_wsgi.doctor.tls import wrap_tls

SHORT_S = 0.4  # for what hangs


@contextlib.contextmanager
def server_that(serve):
    """Run a server that does this with each connection; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def close(connection):
    """Read what is asked, and close."""
    connection.recv(64)


def reset(connection):
    """Read what is asked, and break the connection off."""
    connection.recv(64)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def mumble(connection):
    """Answer in a way that is nobody's."""
    connection.recv(64)
    connection.sendall(b"?")


def keep_silent(connection):
    """Read until the other side gives up."""
    while connection.recv(65536):
        pass


def ask(ladder):
    """Connect, and say what a stranger says to a question."""
    with connected(ladder) as connection:
        refuse_stranger(ladder, talk(ladder, connection, b"hello\r\n"))


def fall_of(steps, address, timeout_s=TIMEOUT_S):
    """Return the step that fails."""
    return Ladder("Redis", address, timeout_s).climb(steps).fall


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (close, "the connection was closed without an answer: this may be no Redis"),
        (reset, "the connection was closed without an answer: this may be no Redis"),
        (mumble, "something answers that is not Redis"),
    ],
)
def test_a_stranger_of_no_known_kind_is_told(serve, reason):
    """By what it does: it hangs up, or says something."""
    with server_that(serve) as port:
        fall = fall_of(ask, Address("127.0.0.1", port))
    assert (fall.rung, fall.reason) == ("protocol", reason)
    assert fall.remedy == "Correct host and port: they must be Redis's"


def test_a_server_that_never_answers_a_tls_handshake_is_told():
    """It is silent to whatever it is asked: no stranger, but stopped or overloaded."""

    def shake_hands(ladder):
        with connected(ladder) as connection:
            wrap_tls(ladder, connection, ssl.create_default_context(), "localhost")

    with server_that(keep_silent) as port:
        fall = fall_of(shake_hands, Address("127.0.0.1", port), SHORT_S)
    assert fall.rung == "tls"
    assert f"gave no answer to the TLS handshake within {SHORT_S} s" in fall.reason
    assert "stopped or overloaded" in fall.remedy


def test_a_unix_socket_that_nobody_listens_on_is_told(tmp_path):
    """A server that crashed leaves its socket behind."""
    path = str(tmp_path / "left")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    fall = fall_of(ask, Address(path=path))
    assert (fall.rung, fall.reason) == ("tcp", "connection refused: nothing listens there")
    assert "Start Redis" in fall.remedy


def test_a_connection_that_cannot_be_tried_is_told_in_the_systems_words(tmp_path):
    """As of a Unix socket whose path is too long, or an address of everybody."""
    long = fall_of(ask, Address(path=f"{tmp_path}/{'x' * 200}"))
    everybody = fall_of(ask, Address("255.255.255.255", 6379))
    assert "no connection: " in long.reason
    assert "path too long" in long.reason
    assert everybody.reason.startswith("no connection: ")
    assert (long.rung, everybody.rung) == ("tcp", "tcp")
    assert everybody.remedy == "Correct the route, or the address"


def test_what_is_no_address_is_not_connected_to():
    """A ladder to a file has none."""
    with pytest.raises(TypeError, match="data"), connected(Ladder("SQLite", "data", TIMEOUT_S)):
        pytest.fail("it connected")


def climb(url, **options):
    """Climb to the database of a URL."""
    engine = create_engine(url, **options)
    try:
        return climb_database(engine, TIMEOUT_S)
    finally:
        engine.dispose()


@contextlib.contextmanager
def encrypted_postgres(certificate):
    """Do as a PostgreSQL that speaks TLS, as far as the handshake; yield its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def serve(connection):
        connection.recv(8)
        connection.sendall(b"S")
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.recv(64)

    with server_that(serve) as port:
        yield f"postgresql+psycopg://ada:{PASSWORD}@localhost:{port}/x"


@pytest.mark.parametrize("query", ["", "?sslmode=require", "?sslmode=verify-full&sslrootcert={}"])
def test_a_certificate_is_verified_as_sslmode_says(certificate, query):
    """Not at all by default, as libpq does; the authority is the URL's."""
    with encrypted_postgres(certificate) as url:
        ladder = climb(url + query.format(certificate[0]))
    assert dict(ladder.rungs)["tls"].startswith("TLSv1")
    assert ladder.fall.rung == "login"


@pytest.mark.parametrize("query", ["sslmode=verify-ca", "sslmode=verify-full&sslrootcert=system"])
def test_a_certificate_that_is_not_trusted_fails_at_tls(certificate, query):
    """Where the URL wants it verified; the authorities are the system's, unless told."""
    with encrypted_postgres(certificate) as url:
        ladder = climb(f"{url}?{query}")
    assert ladder.fall.rung == "tls"
    assert ladder.fall.reason.startswith("the certificate is not accepted: ")


def test_the_authority_of_the_environment_is_trusted(certificate, monkeypatch):
    """PGSSLROOTCERT and PGSSLMODE count where the URL says nothing, as for libpq."""
    monkeypatch.setenv("PGSSLROOTCERT", certificate[0])
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    with encrypted_postgres(certificate) as url:
        ladder = climb(url)
    assert "tls" in dict(ladder.rungs)
    assert ladder.fall.rung == "login"


def test_a_query_that_is_refused_is_told(postgres_url):
    """By what the server says, as in a transaction that the app's own listener broke."""

    def break_transaction(connection, _record):
        with contextlib.suppress(psycopg.Error):
            connection.execute("SELECT broken")

    engine = create_engine(postgres_url)
    try:
        engine.connect().close()
        event.listen(engine, "connect", break_transaction)
        ladder = climb_database(engine, TIMEOUT_S)
    finally:
        engine.dispose()
    assert [rung for rung, _ in ladder.rungs] == ["tcp", "protocol", "login"]
    assert ladder.fall.rung == "query"
    assert "current transaction is aborted" in ladder.fall.reason


def test_tls_is_not_asked_for_where_it_is_switched_off(certificate):
    """The server speaks it, and the URL does not want it."""
    with encrypted_postgres(certificate) as url:
        ladder = climb(f"{url}?sslmode=disable")
    assert "tls" not in dict(ladder.rungs)
    assert ladder.fall.rung == "login"


def test_an_engine_that_tells_no_address_has_no_steps(postgres_url):
    """An asynchronous one would have to be asked on its loop."""
    assert climb_database(create_async_engine(postgres_url), TIMEOUT_S) is None
    assert climb_database(object(), TIMEOUT_S) is None
