"""The database check, against a real SQLite."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from servers import POSTGRESQL
from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import mysql, oracle, postgresql, sqlite
from sqlalchemy.pool import QueuePool, StaticPool
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


@pytest.fixture
def engine(make_engine, tmp_path):
    """Make an engine that works."""
    options = {"check_same_thread": False}
    return make_engine(sqlite_url(tmp_path / "db"), poolclass=QueuePool, connect_args=options)


def test_a_database_that_answers_is_fine(engine):
    """No message, and the connection is back in its pool."""
    for _ in range(3):
        assert check_database_connected(engine) == []
    assert engine.pool.checkedout() == 0


def test_the_middleware_asks_its_database(engine):
    """Given as ``db``, under the check's published name."""
    response = request(DockerflowMiddleware(hello, db=engine), "/__heartbeat__")
    assert json.loads(response.body)["checks"] == {"check_database_connected": "ok"}


def test_an_object_with_an_engine_is_asked(make_engine):
    """As Flask-SQLAlchemy's was."""
    database = SimpleNamespace(engine=make_engine("sqlite://"))
    assert check_database_connected(database) == []


def test_every_bind_is_asked_and_named(make_engine, tmp_path):
    """As Flask-SQLAlchemy 3 has them: None is the default bind."""
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


def test_the_default_bind_has_no_name(make_engine, tmp_path):
    """Its key says nothing to anybody."""
    engines = {None: make_engine(sqlite_url(tmp_path))}
    (message,) = check_database_connected(SimpleNamespace(engines=engines))
    assert message.msg.startswith("DB-API error: ")


def test_a_host_that_does_not_listen_is_e008(make_engine):
    """Nothing listens on port 1."""
    url = f"{POSTGRESQL}://ada:s3cr3t@127.0.0.1:1/x"
    (message,) = check_database_connected(make_engine(url))
    assert message.id == "dockerflow.health.E008"
    assert "s3cr3t" not in message.msg


def test_a_driver_that_shows_the_url_is_masked():
    """Also for who calls the check itself, without a heartbeat that masks what it reports."""
    from sqlalchemy.exc import OperationalError

    class Engine:
        def connect(self):
            raise OperationalError(None, None, Exception("no postgresql://ada:s3cr3t@db"))

    (message,) = check_database_connected(Engine())
    assert message.id == "dockerflow.health.E008"
    assert "postgresql://ada:***@db" in message.msg


def test_an_sqlite_file_that_cannot_be_opened_is_e008(make_engine, tmp_path):
    """A directory in the file's place."""
    (message,) = check_database_connected(make_engine(sqlite_url(tmp_path)))
    assert message.id == "dockerflow.health.E008"


def test_an_exhausted_pool_is_called_that(make_engine, tmp_path):
    """E009, and nothing of ours stays checked out."""
    engine = make_engine(
        sqlite_url(tmp_path / "db"),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.05,
    )
    with engine.connect():
        (message,) = check_database_connected(engine)
        assert message.id == "dockerflow.health.E009"
        assert message.msg.startswith("The connection pool is exhausted: ")
        assert engine.pool.checkedout() == 1
    assert engine.pool.checkedout() == 0
    assert check_database_connected(engine) == []


def test_a_full_pool_whose_connections_are_free_is_not_exhausted(make_engine, tmp_path):
    """Heartbeat after heartbeat is given the same one."""
    options = {"connect_args": {"check_same_thread": False}}  # SQLAlchemy 1.4 does not set it
    engine = make_engine(
        sqlite_url(tmp_path / "db"), poolclass=QueuePool, pool_size=1, max_overflow=0, **options
    )
    app = DockerflowMiddleware(hello, db=engine, check_timeout=2)
    for _ in range(3):
        assert json.loads(request(app, "/__heartbeat__").body)["status"] == "ok"


def test_any_other_sqlalchemy_error_is_e009():
    """Such as a dialect's complaint that is none of the driver's."""
    from sqlalchemy.exc import InvalidRequestError

    class Engine:
        def connect(self):
            raise InvalidRequestError("misused postgresql://ada:s3cr3t@db")

    (message,) = check_database_connected(Engine())
    assert message.id == "dockerflow.health.E009"
    assert message.msg == ("SQLAlchemy error: InvalidRequestError: misused postgresql://ada:***@db")


def test_what_is_no_engine_is_an_error_of_the_check():
    """The heartbeat says so, instead of failing itself."""
    response = request(DockerflowMiddleware(hello, db=object()), "/__heartbeat__")
    details = json.loads(response.body)["details"]["check_database_connected"]
    assert "AttributeError" in details["messages"]["dockerflow.checks.E001"]


@pytest.mark.parametrize(
    ("dialect", "statement"),
    [
        (sqlite.dialect(), "SELECT 1"),
        (postgresql.dialect(), "SELECT 1"),
        (mysql.dialect(), "SELECT 1"),
        (oracle.dialect(), "SELECT 1 FROM DUAL"),
    ],
)
def test_the_question_has_the_dialects_own_form(dialect, statement):
    """Oracle's SELECT needs a table; the check sends what it sends to a mock of each dialect."""
    sent = []

    class Connection:
        def scalar(self, asked):
            sent.append(str(asked.compile(dialect=dialect, compile_kwargs={"literal_binds": True})))

        def __enter__(self):
            return self

        def __exit__(self, *_arguments):
            pass

    class Engine:
        connect = Connection

    assert check_database_connected(Engine()) == []
    assert sent == [statement]


def test_an_in_memory_database_is_left_alone(make_engine):
    """Neither is a transaction of the app's ended, nor its database dropped for want of room."""
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


def test_the_own_connection_of_an_in_memory_database_is_closed(make_engine):
    """Each heartbeat would leave one behind."""
    engine = make_engine("sqlite://")
    seen = []
    event.listen(engine.pool, "connect", lambda *_: seen.append("opened"))
    event.listen(engine.pool, "close", lambda *_: seen.append("closed"))
    assert check_database_connected(engine) == []
    assert seen == ["opened", "closed"]


def test_an_asyncio_engine_is_told(make_engine):
    """It cannot be asked from a thread."""
    engine = SimpleNamespace(sync_engine=make_engine("sqlite://"))
    (message,) = check_database_connected(engine)
    assert message.id == "dockerflow.health.E009"
    assert "asyncio" in message.msg
