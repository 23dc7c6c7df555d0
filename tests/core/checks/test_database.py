"""The database check, against a real SQLite."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from types import SimpleNamespace

import pytest
from servers import POSTGRESQL
from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import mysql, oracle, postgresql
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.pool import QueuePool, StaticPool
from waiting import TIMEOUT_S, wait_until
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.checks import check_database_connected


@pytest.fixture
def make_engine():
    """Return a function that makes engines, and dispose of them afterwards."""
    engines = []

    def make(url, **options):
        engines.append(create_engine(url, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def sqlite_url(path):
    """Return the URL of an SQLite file."""
    return f"sqlite:///{path}"


def messages_of(app):
    """Ask for the heartbeat, and return the messages of its only check by ID."""
    details = json.loads(request(app, "/__heartbeat__").body)["details"]
    return details.get("check_database_connected", {"messages": {}})["messages"]


def check_threads():
    """Return the threads of checks that still run."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("dockerflow ")]


@pytest.fixture
def engine(make_engine, tmp_path):
    """Make an engine for an empty SQLite file."""
    (tmp_path / "db").touch()
    options = {"check_same_thread": False}
    return make_engine(sqlite_url(tmp_path / "db"), poolclass=QueuePool, connect_args=options)


def failing_engine(make_engine, error):
    """Make an engine that raises an error when it connects."""

    def connect():
        raise error

    return make_engine("sqlite://", creator=connect)


class TestEngines:
    """The check queries each engine on a connection of its pool."""

    def test_a_database_that_answers_is_fine(self, engine):
        """The check returns no message, and gives its connection back to the pool."""
        for _ in range(3):
            assert check_database_connected(engine) == []
        assert engine.pool.checkedout() == 0

    def test_the_middleware_asks_its_database(self, engine):
        """An engine that is passed as ``db`` is checked under the check's published name."""
        response = request(DockerflowMiddleware(hello, db=engine), "/__heartbeat__")
        assert json.loads(response.body)["checks"] == {"check_database_connected": "ok"}

    def test_an_object_with_an_engine_is_asked(self, make_engine):
        """An object with an ``engine`` is checked, such as Flask-SQLAlchemy 2's."""
        database = SimpleNamespace(engine=make_engine("sqlite://"))
        assert check_database_connected(database) == []

    def test_every_bind_is_asked_and_named(self, make_engine, tmp_path):
        """All of Flask-SQLAlchemy 3's ``engines`` are checked; messages have the bind's name."""
        engines = {
            None: make_engine("sqlite://"),
            "users": make_engine(sqlite_url(tmp_path / "no" / "users")),
            "meta": make_engine(sqlite_url(tmp_path)),
        }
        messages = check_database_connected(SimpleNamespace(engines=engines))
        assert [message.msg.partition(": ")[0] for message in messages] == [
            "Bind 'users'",
            "Bind 'meta'",
        ]
        assert {message.id for message in messages} == {"dockerflow.health.E008"}

    def test_the_default_bind_has_no_name(self, make_engine, tmp_path):
        """Messages about the default bind have no name of a bind."""
        engines = {None: make_engine(sqlite_url(tmp_path))}
        (message,) = check_database_connected(SimpleNamespace(engines=engines))
        assert message.msg.startswith("DB-API error: ")

    @pytest.mark.parametrize(
        ("dialect", "statement"),
        [
            (postgresql.dialect(), "SELECT 1"),
            (mysql.dialect(), "SELECT 1"),
            (oracle.dialect(), "SELECT 1 FROM DUAL"),
        ],
    )
    def test_the_question_has_the_dialects_own_form(self, dialect, statement):
        """The query is ``SELECT 1``, with a table where the dialect needs one, as Oracle does."""
        sent = []

        class Connection:
            def scalar(self, asked):
                sent.append(
                    str(asked.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
                )

            def __enter__(self):
                return self

            def __exit__(self, *_arguments):
                pass

        class Engine:
            connect = Connection
            pool = None

        Engine.dialect = Connection.dialect = dialect
        assert check_database_connected(Engine()) == []
        assert sent == [statement]

    @pytest.mark.parametrize("take", [lambda engine: engine, lambda engine: engine.sync_engine])
    def test_an_asyncio_engine_is_e009(self, take):
        """An asyncio engine, or its inner engine, is E009, which asks for a synchronous one."""
        pytest.importorskip("aiosqlite")
        asyncio = pytest.importorskip("sqlalchemy.ext.asyncio")
        (message,) = check_database_connected(
            take(asyncio.create_async_engine("sqlite+aiosqlite://"))
        )
        assert message.id == "dockerflow.health.E009"
        assert message.msg == "The engine's driver is for asyncio: pass a synchronous engine"

    def test_an_object_that_is_not_an_engine_is_e001(self):
        """An object that is not an engine gives E001 with the exception."""
        response = request(DockerflowMiddleware(hello, db=object()), "/__heartbeat__")
        details = json.loads(response.body)["details"]["check_database_connected"]
        assert "AttributeError" in details["messages"]["dockerflow.checks.E001"]


class TestErrors:
    """Errors of the driver are E008, others of SQLAlchemy E009."""

    def test_a_host_that_does_not_listen_is_e008(self, make_engine):
        """A port that nothing listens on is E008, without the password of the URL."""
        url = f"{POSTGRESQL}://ada:s3cr3t@127.0.0.1:1/x"
        (message,) = check_database_connected(make_engine(url))
        assert message.id == "dockerflow.health.E008"
        assert "s3cr3t" not in message.msg

    def test_a_drivers_message_is_in_one_line(self, make_engine):
        """Line breaks and tabs in a driver's message become spaces."""
        error = sqlite3.OperationalError("refused\n\tIs the server running?")
        (message,) = check_database_connected(failing_engine(make_engine, error))
        assert message.msg == "DB-API error: OperationalError: refused Is the server running?"

    def test_credentials_in_a_drivers_message_are_redacted(self, make_engine):
        """The check redacts credentials, for callers that use it without a heartbeat."""
        error = sqlite3.OperationalError("no postgresql://ada:s3cr3t@db")
        (message,) = check_database_connected(failing_engine(make_engine, error))
        assert message.id == "dockerflow.health.E008"
        assert message.msg == "DB-API error: OperationalError: no postgresql://ada:***@db"

    def test_any_other_sqlalchemy_error_is_e009(self, make_engine):
        """An error of SQLAlchemy itself is E009 with its class."""
        error = InvalidRequestError("misused postgresql://ada:s3cr3t@db")
        (message,) = check_database_connected(failing_engine(make_engine, error))
        assert message.id == "dockerflow.health.E009"
        assert (
            message.msg == "SQLAlchemy error: InvalidRequestError: misused postgresql://ada:***@db"
        )


class TestSQLiteFile:
    """The check reads an SQLite file, and never creates one."""

    def test_a_directory_is_e008(self, make_engine, tmp_path):
        """A directory cannot be opened as a database."""
        (message,) = check_database_connected(make_engine(sqlite_url(tmp_path)))
        assert message.id == "dockerflow.health.E008"

    @pytest.mark.parametrize("name", ["{}", "file:{}?uri=true", "file:{}?mode=rwc&uri=true"])
    def test_a_missing_file_is_e008_and_not_created(self, make_engine, tmp_path, name):
        """The message names the path, also if the URL holds a URI."""
        path = tmp_path / "gone file"
        (message,) = check_database_connected(make_engine(f"sqlite:///{name.format(path)}"))
        assert message.id == "dockerflow.health.E008"
        assert message.msg == f"The SQLite file {path} does not exist"
        assert not path.exists()

    def test_a_database_in_memory_has_no_file(self, make_engine):
        """A URI can name a database in memory, with a name that looks like a file's."""
        for url in ("sqlite://", "sqlite:///file:gone?mode=memory&cache=shared&uri=true"):
            assert check_database_connected(make_engine(url, poolclass=StaticPool)) == []

    @pytest.mark.parametrize("position", [0, 100], ids=["garbage", "corrupt"])
    def test_a_damaged_file_is_e008(self, make_engine, tmp_path, position):
        """Damage in the header or in the schema is found, because the file is read."""
        path = tmp_path / "db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (x)")
            connection.commit()
        content = path.read_bytes()
        path.write_bytes(content[:position] + b"damaged " * 50 + content[position + 400 :])
        (message,) = check_database_connected(make_engine(sqlite_url(path)))
        assert message.id == "dockerflow.health.E008"
        assert message.msg.startswith("DB-API error: DatabaseError: ")
        assert "SELECT" not in message.msg

    @pytest.mark.parametrize("timeout_s", [0.01, 60])
    def test_a_locked_file_is_e008(self, make_engine, tmp_path, timeout_s):
        """The lock is reported, even if the driver waits for longer than the heartbeat."""
        path = tmp_path / "db"
        engine = make_engine(sqlite_url(path), connect_args={"timeout": timeout_s})
        app = DockerflowMiddleware(hello, db=engine, check_timeout=0.2)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            reported = messages_of(app)
        assert list(reported) == ["dockerflow.health.E008"]
        assert "locked" in reported["dockerflow.health.E008"]
        wait_until(lambda: not check_threads())


class TestMemory:
    """The app's connection to a database in memory is left alone."""

    def test_an_in_memory_database_is_left_alone(self, make_engine):
        """No transaction of the app is ended, and its tables stay."""
        shared = make_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        own = make_engine("sqlite://")
        app = DockerflowMiddleware(hello)
        app.init_check(check_database_connected, shared, name="shared")
        app.init_check(check_database_connected, own, name="own")
        with shared.connect() as one, own.connect() as two:
            for connection in (one, two):
                connection.execute(text("CREATE TABLE t (x)"))
                connection.execute(text("INSERT INTO t VALUES (1)"))
            for _ in range(20):
                assert request(app, "/__heartbeat__").status == "200 OK"
            for connection in (one, two):
                assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 1

    def test_the_own_connection_of_an_in_memory_database_is_closed(self, make_engine):
        """The check closes the connection that it opens."""
        engine = make_engine("sqlite://")
        seen = []
        event.listen(engine.pool, "connect", lambda *_: seen.append("opened"))
        event.listen(engine.pool, "close", lambda *_: seen.append("closed"))
        assert check_database_connected(engine) == []
        assert seen == ["opened", "closed"]


class TestPool:
    """The check queues for a connection as the app does."""

    @pytest.fixture
    def small(self, make_engine, tmp_path):
        """Return a function that makes engines with one connection at most."""

        def make(**options):
            (tmp_path / "db").touch()
            return make_engine(
                sqlite_url(tmp_path / "db"),
                poolclass=QueuePool,
                pool_size=1,
                max_overflow=0,
                connect_args={"check_same_thread": False},  # the default of SQLAlchemy 2
                **options,
            )

        return make

    def test_an_exhausted_pool_is_named(self, small):
        """The pool's own timeout gives E009, and the check holds no connection."""
        engine = small(pool_timeout=0.05)
        with engine.connect():
            (message,) = check_database_connected(engine)
            assert message.id == "dockerflow.health.E009"
            assert message.msg.startswith("The connection pool is exhausted: ")
            assert "not given back" in message.hint
            assert engine.pool.checkedout() == 1
        assert engine.pool.checkedout() == 0
        assert check_database_connected(engine) == []

    def test_an_exhausted_pool_is_named_by_the_deadline(self, small):
        """The pool waits for longer than the heartbeat; the report has the pool's status."""
        engine = small(pool_timeout=60)
        app = DockerflowMiddleware(hello, db=engine, check_timeout=0.2)
        with engine.connect():
            reported = messages_of(app)
        text = reported.pop("dockerflow.health.E009")
        assert text.startswith("The connection pool is exhausted: Pool size: 1 ")
        assert not reported
        wait_until(lambda: not check_threads())
        assert engine.pool.checkedout() == 0

    def test_a_busy_pool_is_fine(self, small):
        """The check gets the connection that the app gives back before the deadline."""
        engine = small()
        app = DockerflowMiddleware(hello, db=engine, check_timeout=TIMEOUT_S)
        connection = engine.connect()
        timer = threading.Timer(0.1, connection.close)
        timer.start()
        assert messages_of(app) == {}
        timer.join()

    def test_a_connection_that_is_being_opened_is_not_exhaustion(self, make_engine, tmp_path):
        """A database that accepts no connection is E009 without the pool's status.

        The pool may have as many connections in use as its size, if it can overflow.
        """
        go_on = threading.Event()
        go_on.set()

        def connect():
            go_on.wait(TIMEOUT_S)
            return sqlite3.connect(":memory:", check_same_thread=False)

        engine = make_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=1)
        request_of_app = engine.connect()
        go_on.clear()
        reported = messages_of(DockerflowMiddleware(hello, db=engine, check_timeout=0.1))
        go_on.set()
        assert reported == {"dockerflow.health.E009": "No connection in time"}
        wait_until(lambda: not check_threads())
        request_of_app.close()

    def test_a_full_pool_whose_connections_are_free_is_not_exhausted(self, make_engine, tmp_path):
        """Every heartbeat gets the same free connection of a pool of one."""
        (tmp_path / "db").touch()
        options = {"connect_args": {"check_same_thread": False}}  # SQLAlchemy 1.4 does not set it
        engine = make_engine(
            sqlite_url(tmp_path / "db"), poolclass=QueuePool, pool_size=1, max_overflow=0, **options
        )
        app = DockerflowMiddleware(hello, db=engine, check_timeout=2)
        for _ in range(3):
            assert json.loads(request(app, "/__heartbeat__").body)["status"] == "ok"
