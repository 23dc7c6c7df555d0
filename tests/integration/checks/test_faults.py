"""Real faults of backing services: each is reported by the deadline, without secrets.

The table: what happens, the ID under which the heartbeat reports it, and how it is caused.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import sqlite3
import sys
import threading
import time

import pytest
import redis
from alembic.config import Config
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import PASSWORD, POSTGRESQL, free_port, postgres_server, redis_server
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool
from waiting import TIMEOUT_S, wait_until
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.logging import MozlogFormatter

# psycopg complains of each connection that a fault broke while it was being opened.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("nothing_is_left_to_the_next_test"),
]
DEADLINE_S = 2.0
MARGIN_S = 20  # generous: a busy machine is slow, and what hangs would hang for minutes
BROWSER = "text/html"
OLD_PROTOCOL = {"protocol": 2} if redis.__version__ >= "5" else {}  # before, the only one
E001, E002 = checks.ERROR_CHECK_RAISED, checks.ERROR_CHECK_TIMED_OUT
NO_REDIS = checks.ERROR_CANNOT_CONNECT_REDIS
DB_API, SQLALCHEMY = checks.ERROR_DB_API_EXCEPTION, checks.ERROR_SQLALCHEMY_EXCEPTION
NOT_ASKED, UNUSABLE = checks.INFO_CANT_CHECK_MIGRATIONS, checks.ERROR_UNUSABLE_MIGRATIONS


def check_threads():
    """Return the threads of checks that still run."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("dockerflow ")]


@contextlib.contextmanager
def redis_client(url, **options):
    """Make a client that has the password."""
    with redis.Redis.from_url(url, password=PASSWORD, **options) as client:
        yield {"redis": client}


@contextlib.contextmanager
def redis_stopped(_):
    """Run a Redis that accepts and does not answer, because its process is stopped."""
    with redis_server("--requirepass", PASSWORD) as server, redis_client(server.url) as given:
        given["redis"].ping()
        with server.stopped():
            yield given


@contextlib.contextmanager
def redis_killed(_):
    """Run a Redis that dies under an open connection."""
    with redis_server("--requirepass", PASSWORD) as server, redis_client(server.url) as given:
        given["redis"].ping()
        server.kill()
        yield given


@contextlib.contextmanager
def redis_refuses_the_password(_):
    """Run a Redis with another password."""
    with redis_server("--requirepass", "another") as server, redis_client(server.url) as given:
        yield given


@contextlib.contextmanager
def redis_without_hello(_):
    """Run a Redis that repeats the arguments of HELLO, which has the password."""
    if redis.__version__ < "5":
        pytest.skip("redis-py says HELLO since 5")
    options = ("--requirepass", PASSWORD, "--rename-command", "HELLO", "")
    with redis_server(*options) as server, redis_client(server.url, protocol=3) as given:
        yield given


@contextlib.contextmanager
def redis_without_auth(_):
    """Run a Redis that repeats the arguments of AUTH, which has the password."""
    options = ("--requirepass", PASSWORD, "--rename-command", "AUTH", "")
    with redis_server(*options) as server, redis_client(server.url, **OLD_PROTOCOL) as given:
        yield given


@contextlib.contextmanager
def redis_without_tls(_):
    """Connect with TLS to a plain port, which waits for the end of a line."""
    soon = {"socket_timeout": DEADLINE_S / 20, "retry": Retry(NoBackoff(), 0)}
    port = free_port()
    with redis_server(port=port), redis_client(f"rediss://127.0.0.1:{port}", **soon) as given:
        yield given


def redis_refused(_):
    """Connect to a port that nothing listens on."""
    return redis_client(f"redis://127.0.0.1:{free_port()}")


@contextlib.contextmanager
def redis_refused_a_client_that_retries(_):
    """Retry for longer than the deadline, as redis-py does by default."""
    with redis.Redis(port=free_port(), password=PASSWORD) as client:
        yield {"redis": client}


def redis_not_resolved(_):
    """Connect to a host without an address."""
    return redis_client("redis://nowhere.invalid")


@contextlib.contextmanager
def silent_port():
    """Accept connections without answering."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def redis_silent(_):
    """Connect a Redis client to a port that does not answer."""
    with silent_port() as port, redis_client(f"redis://127.0.0.1:{port}") as given:
        yield given


@contextlib.contextmanager
def database(url, **options):
    """Make an engine."""
    engine = create_engine(url, **options)
    try:
        yield {"db": engine}
    finally:
        engine.dispose()


def postgres_url(port=None, **change):
    """Make the URL of a PostgreSQL that is reached by TCP."""
    url = make_url(f"{POSTGRESQL}://ada:{PASSWORD}@127.0.0.1/x")
    return url.set(port=port, **change)


@contextlib.contextmanager
def postgres_stopped(_):
    """Run a PostgreSQL that accepts and does not answer, because it is stopped."""
    with postgres_server() as server, database(server.url) as given:
        given["db"].connect().close()
        with server.stopped():
            yield given


@contextlib.contextmanager
def postgres_killed_in_a_query(_):
    """Run a PostgreSQL that dies during the query."""
    with postgres_server() as server, database(server.url) as given:
        given["db"].connect().close()
        server.send_signal(signal.SIGSTOP)  # the query is running when the signal comes
        killer = threading.Timer(DEADLINE_S / 4, server.send_signal, [signal.SIGKILL])
        killer.start()
        yield given
        killer.join()
        server.process.wait(TIMEOUT_S)


def postgres_refuses_the_password(fixture):
    """Connect to PostgreSQL with a wrong password."""
    return database(make_url(fixture("postgres_url")).set(password=PASSWORD + "-wrong"))


def postgres_lacks_the_database(fixture):
    """Connect to a database that does not exist."""
    return database(make_url(fixture("postgres_url")).set(database="nowhere"))


def postgres_refused(_):
    """Connect to a port that nothing listens on."""
    return database(postgres_url(free_port()))


def postgres_not_resolved(_):
    """Connect to a host without an address."""
    return database(postgres_url(host="nowhere.invalid"))


@contextlib.contextmanager
def postgres_silent(_):
    """Connect a PostgreSQL driver to a port that does not answer."""
    with silent_port() as port, database(postgres_url(port)) as given:
        yield given


@contextlib.contextmanager
def postgres_locks_the_table(fixture):
    """Lock the table of revisions, as a running migration does."""
    url, config = fixture("postgres_url"), Config()
    config.set_main_option("script_location", str(fixture("empty_scripts")))
    config.set_main_option("version_table", "locked")
    with database(url) as given:
        with given["db"].begin() as owner:
            owner.execute(text("CREATE TABLE locked (version_num varchar(32))"))
        with given["db"].begin() as holder:
            holder.execute(text("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE"))
            yield {"migrate": config, **given}
            holder.execute(text("DROP TABLE locked"))


@contextlib.contextmanager
def pool_exhausted(fixture):
    """Use all connections of a pool that waits for 30 seconds."""
    path = fixture("tmp_path") / "db"
    path.touch()
    url = f"sqlite:///{path}"
    with database(url, poolclass=QueuePool, pool_size=1, max_overflow=1) as given:
        one, two = given["db"].connect(), given["db"].connect()
        yield given
        assert given["db"].pool.checkedout() == 2, "the check took or kept a connection"
        one.close()
        two.close()
        wait_until(lambda: not check_threads())  # it gets a connection, and gives it back
        assert given["db"].pool.checkedout() == 0


def sqlite_without_its_file(fixture):
    """Open a missing file by a URI that is for reading only."""
    return database(f"sqlite:///file:{fixture('tmp_path') / 'gone'}?mode=ro&uri=true")


def sqlite_with_a_directory(fixture):
    """Open a directory."""
    return database(f"sqlite:///{fixture('tmp_path')}")


@contextlib.contextmanager
def sqlite_locked(fixture):
    """Lock the file for longer than the driver waits."""
    path, config = fixture("tmp_path") / "db", Config()
    config.set_main_option("script_location", str(fixture("empty_scripts")))
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    try:
        with database(f"sqlite:///{path}", connect_args={"timeout": 0.1}) as given:
            yield {"migrate": config, **given}
    finally:
        writer.close()


@contextlib.contextmanager
def migrations_without_a_usable_url(fixture):
    """Make a config with a URL without slashes."""
    config = Config()
    config.set_main_option("script_location", str(fixture("empty_scripts")))
    config.set_main_option("sqlalchemy.url", f"postgresql:ada:{PASSWORD}@db")
    yield {"migrate": config}


@contextlib.contextmanager
def migrations_of_a_database_that_refuses(fixture):
    """Make a config with the URL of a port that nothing listens on."""
    config = Config()
    config.set_main_option("script_location", str(fixture("empty_scripts")))
    url = postgres_url(free_port()).render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url)
    yield {"migrate": config}


def of_a_check(check):
    """Return a cause that registers a check."""

    @contextlib.contextmanager
    def cause(_):
        yield {"check": check}

    return cause


URL = f"redis://:{PASSWORD}@cache"


def raises():
    """Raise with a URL in the text, and another in the cause."""
    try:
        raise LookupError(f"password={PASSWORD}")
    except LookupError as error:
        raise ValueError(f"cannot reach {URL}") from error


def raises_half_way():
    """Yield a message, then raise."""
    yield checks.Info(f"asked {URL}", id="a.I1", hint=URL)
    raises()


async def raises_in_a_coroutine():
    """Raise in an event loop."""
    raises()


FAULTS = {
    redis_stopped: {NO_REDIS},
    redis_killed: {NO_REDIS},
    redis_refuses_the_password: {NO_REDIS},
    redis_without_hello: {checks.ERROR_REDIS_EXCEPTION},
    redis_without_auth: {checks.ERROR_REDIS_EXCEPTION},
    redis_without_tls: {NO_REDIS},
    redis_refused: {NO_REDIS},
    redis_refused_a_client_that_retries: {NO_REDIS},
    redis_not_resolved: {NO_REDIS},
    redis_silent: {NO_REDIS},
    postgres_stopped: {DB_API},
    postgres_killed_in_a_query: {DB_API},
    postgres_refuses_the_password: {DB_API},
    postgres_lacks_the_database: {DB_API},
    postgres_refused: {DB_API},
    postgres_not_resolved: {DB_API},
    postgres_silent: {SQLALCHEMY},
    postgres_locks_the_table: {NOT_ASKED},
    pool_exhausted: {SQLALCHEMY},
    sqlite_without_its_file: {DB_API},
    sqlite_with_a_directory: {DB_API},
    sqlite_locked: {DB_API, NOT_ASKED},
    migrations_without_a_usable_url: {UNUSABLE},
    migrations_of_a_database_that_refuses: {NOT_ASKED},
    of_a_check(raises): {E001},
    of_a_check(raises_half_way): {"a.I1", E001},
    of_a_check(raises_in_a_coroutine): {E001},
    of_a_check(lambda: sys.exit(URL)): {E001},
    of_a_check(lambda: [URL]): {checks.ERROR_CHECK_RETURNED_NO_MESSAGE},
    of_a_check(lambda: threading.Event().wait(DEADLINE_S * 2)): {E002},
}


@pytest.fixture
def empty_scripts(tmp_path):
    """Make a directory of migration scripts without any revision."""
    directory = tmp_path / "migrations"
    (directory / "versions").mkdir(parents=True)
    return directory


@pytest.mark.parametrize("cause", FAULTS, ids=lambda cause: cause.__name__)
def test_each_fault_is_reported_in_time_and_without_secrets(request, listen, cause):
    """Each fault is reported under its ID by the deadline, and no password is shown."""
    log = listen("dockerflow_wsgi.checks")
    with cause(request.getfixturevalue) as given:
        check = given.pop("check", None)
        app = DockerflowMiddleware(hello, check_timeout=DEADLINE_S, **given)
        if check is not None:
            app.check(check, name="checked")
        started_s = time.monotonic()
        response = ask(app)
        assert time.monotonic() - started_s < DEADLINE_S + MARGIN_S
        page = ask(app, HTTP_ACCEPT=BROWSER).body.decode()
    shown = json.loads(response.body)
    reported = {key for found in shown["details"].values() for key in found["messages"]}
    assert reported == FAULTS[cause]
    logged = [formatter.format(record) for record in log for formatter in FORMATTERS]
    assert len(logged) >= 2
    for output in (response.body.decode(), page, *logged, repr(app), repr(app.registry)):
        assert PASSWORD not in output


FORMATTERS = [MozlogFormatter(), logging.Formatter("%(message)s")]


def ask(app, **keys):
    """Ask for the heartbeat."""
    return request(app, "/__heartbeat__", **keys)


def test_no_fault_hides_behind_another():
    """With several broken services, each check reports its own within one deadline."""
    with contextlib.ExitStack() as stack:
        given = stack.enter_context(redis_silent(None)) | stack.enter_context(postgres_silent(None))
        app = DockerflowMiddleware(hello, check_timeout=DEADLINE_S, **given)
        app.check(raises)
        started_s = time.monotonic()
        shown = json.loads(ask(app).body)
        assert time.monotonic() - started_s < DEADLINE_S + MARGIN_S
    assert shown["checks"] == {
        "check_database_connected": "error",
        "check_redis_connected": "error",
        "raises": "error",
    }


def test_a_redis_that_comes_back_is_reported_as_ok():
    """The heartbeat recovers after a stop and after a restart of Redis."""
    port = free_port()
    with redis.Redis(port=port) as client:
        app = DockerflowMiddleware(hello, check_timeout=DEADLINE_S, redis=client)
        with redis_server(port=port) as server:
            assert ask(app).status == "200 OK"
            with server.stopped():
                assert ask(app).status == "500 Internal Server Error"
            wait_until(lambda: ask(app).status == "200 OK")
        assert ask(app).status == "500 Internal Server Error"
        with redis_server(port=port):
            wait_until(lambda: ask(app).status == "200 OK")  # with the client's next try


TERMINATE_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE usename = 'ada' AND pid <> pg_backend_pid()
"""


def test_a_postgres_that_comes_back_is_reported_as_ok():
    """A pooled connection that the server has closed is replaced within the same heartbeat."""
    with postgres_server() as server, database(server.url) as given:
        app = DockerflowMiddleware(hello, check_timeout=DEADLINE_S * 4, **given)
        assert ask(app).status == "200 OK"
        with database(server.url) as other, other["db"].connect() as killer:
            killer.execute(text(TERMINATE_OTHERS))
        assert ask(app).status == "200 OK"
        assert given["db"].pool.checkedout() == 0
