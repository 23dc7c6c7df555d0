"""The migrations check, with real Alembic scripts."""

from __future__ import annotations

import json
import sys
import threading
import time

import alembic.command
import pytest
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool, SingletonThreadPool, StaticPool
from waiting import wait_until
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.checks import check_migrations_applied

ENV = """
from alembic import context
config = context.config
with config.attributes["engine"].connect() as connection:
    context.configure(
        connection,
        version_table=config.get_main_option("version_table") or "alembic_version",
    )
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
from alembic import op
revision = {revision!r}
down_revision = {down!r}
def upgrade():
    op.create_table("t_{revision}", sa.Column("id", sa.Integer))
def downgrade():
    op.drop_table("t_{revision}")
"""


def revise(scripts, revision, down):
    """Write a revision script."""
    (scripts / "versions" / f"{revision}.py").write_text(
        REVISION.format(revision=revision, down=down)
    )


def make_config(scripts, engine):
    """Make an Alembic config."""
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["engine"] = engine
    return config


class TestMigrationsCheck:
    """The check compares the scripts with the database's revision."""

    @pytest.fixture
    def engine(self, tmp_path):
        """Make an engine for an empty database."""
        (tmp_path / "db").touch()
        url, options = f"sqlite:///{tmp_path / 'db'}", {"check_same_thread": False}
        engine = create_engine(url, poolclass=QueuePool, connect_args=options)
        yield engine
        engine.dispose()

    @pytest.fixture
    def scripts(self, tmp_path):
        """Make a directory for migration scripts."""
        directory = tmp_path / "migrations"
        (directory / "versions").mkdir(parents=True)
        (directory / "env.py").write_text(ENV)
        return directory

    @pytest.fixture
    def config(self, scripts, engine):
        """Make an Alembic config for two revisions, each on top of the one before."""
        revise(scripts, "aaaa", None)
        revise(scripts, "bbbb", "aaaa")
        return make_config(scripts, engine)

    def test_an_up_to_date_database_is_fine(self, config, engine, listen):
        """The check returns no message, and logs nothing."""
        alembic.command.upgrade(config, "head")
        log = listen(None)
        assert check_migrations_applied(config, engine) == []
        assert engine.pool.checkedout() == 0
        assert [record.name for record in log if record.levelno >= 20] == []

    def test_unapplied_migrations_are_w001(self, config, engine):
        """The message names the pending head, and the hint has the command that applies it."""
        alembic.command.upgrade(config, "aaaa")
        (message,) = check_migrations_applied(config, engine)
        assert (message.level, message.id) == (checks.WARNING, "dockerflow.health.W001")
        assert message.msg == "Unapplied migrations found: bbbb"
        assert "alembic upgrade head" in message.hint

    def test_a_missing_version_table_is_w001(self, config, engine):
        """The message names the table that was looked for, and the settings that name another."""
        config.set_main_option("version_table", "applied")
        (message,) = check_migrations_applied(config, engine)
        assert message.id == "dockerflow.health.W001"
        assert message.msg == (
            "Unapplied migrations found: bbbb (there is no table applied; if env.py uses another "
            "one, configure version_table and version_table_schema)"
        )

    def test_without_revisions_no_version_table_is_needed(self, scripts, engine):
        """A project without migration scripts is up to date without a version table."""
        assert check_migrations_applied(make_config(scripts, engine), engine) == []

    def test_every_pending_head_is_named(self, scripts, config, engine):
        """Of several branches, W001 has the heads that the database lacks."""
        revise(scripts, "cccc", "aaaa")
        revise(scripts, "dddd", None)
        alembic.command.upgrade(config, "bbbb")
        (message,) = check_migrations_applied(config, engine)
        assert message.msg == "Unapplied migrations found: cccc, dddd"
        alembic.command.upgrade(make_config(scripts, engine), "heads")
        assert check_migrations_applied(config, engine) == []

    @pytest.mark.parametrize("revision", ["ffff", "aa"])
    def test_a_revision_that_the_code_lacks_is_i002(self, config, engine, revision):
        """A revision of a later release is I002, also if it is a prefix of a known one."""
        alembic.command.upgrade(config, "head")
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        (message,) = check_migrations_applied(config, engine)
        assert message.id == "dockerflow.health.I002"
        assert message.level == checks.INFO
        assert message.msg.endswith(f"does not have: {revision}")

    def test_a_database_that_cannot_be_asked_is_i001(self, config, tmp_path):
        """A database that refuses is I001, because the database check reports the error."""
        unreachable = create_engine(f"sqlite:///{tmp_path}")
        (message,) = check_migrations_applied(config, unreachable)
        assert message.id == "dockerflow.health.I001"
        assert message.level == checks.INFO

    def test_a_missing_script_directory_is_e011(self, tmp_path, engine):
        """E011 has the name of the missing directory."""
        (message,) = check_migrations_applied(make_config(tmp_path / "nowhere", engine), engine)
        assert message.id == "dockerflow.health.E011"
        assert message.level == checks.ERROR
        assert "nowhere" in message.msg

    def test_a_missing_config_file_is_e011(self, engine):
        """A config file that does not exist is E011."""
        (message,) = check_migrations_applied(Config("/no/such/alembic.ini"), engine)
        assert message.id == "dockerflow.health.E011"

    def test_a_broken_revision_file_is_e011_until_it_is_corrected(self, scripts, config, engine):
        """A revision script that cannot be imported is E011 until it is corrected."""
        broken = scripts / "versions" / "cccc.py"
        broken.write_text("this is no Python")
        (message,) = check_migrations_applied(config, engine)
        assert message.id == "dockerflow.health.E011"
        assert "SyntaxError" in message.msg
        broken.unlink()
        assert check_migrations_applied(config, engine)[0].id == "dockerflow.health.W001"

    def test_the_scripts_are_read_once(self, scripts, config, engine):
        """A revision script that is added later counts in the next process."""
        alembic.command.upgrade(config, "head")
        assert check_migrations_applied(config, engine) == []
        revise(scripts, "cccc", "bbbb")
        assert check_migrations_applied(config, engine) == []

    def test_a_branch_that_another_one_depends_on_is_not_pending(self, scripts, config, engine):
        """A revision that an applied one depends on is applied, although it is not stored."""
        revise(scripts, "cccc", "aaaa")
        path = scripts / "versions" / "cccc.py"
        path.write_text(path.read_text() + '\ndepends_on = "bbbb"\n')
        alembic.command.upgrade(config, "heads")
        assert check_migrations_applied(config, engine) == []

    def test_many_revisions_cost_nothing_after_the_first_time(self, scripts, engine):
        """With 200 revisions, a later check uses almost no processor time."""
        for number in range(200):
            revise(scripts, f"r{number:04}", f"r{number - 1:04}" if number else None)
        config = make_config(scripts, engine)
        assert "found: r0199 (" in check_migrations_applied(config, engine)[0].msg
        started_s = time.process_time()
        for _ in range(10):
            check_migrations_applied(config, engine)
        assert (time.process_time() - started_s) / 10 < 0.02

    def test_an_alembic_that_lacks_a_module_is_e011(self, monkeypatch, config):
        """E011 has the command that installs Alembic."""
        monkeypatch.setitem(sys.modules, "alembic.script", None)
        (message,) = check_migrations_applied(config)
        assert message.id == "dockerflow.health.E011"
        assert "pip install 'dockerflow-wsgi[alembic]'" in message.msg

    def test_the_configs_own_url_is_asked_without_a_db(self, config, engine):
        """Without ``db``, the check uses the config's ``sqlalchemy.url``."""
        url = engine.url.render_as_string(hide_password=False)
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        assert check_migrations_applied(config)[0].id == "dockerflow.health.W001"
        alembic.command.upgrade(config, "head")
        assert check_migrations_applied(config) == []

    @pytest.mark.parametrize("url", [None, "no url", "nosuchdatabase://x"])
    def test_a_config_without_a_usable_url_is_e011(self, config, url):
        """A missing or unusable URL is E011; for a missing one it has the remedy."""
        if url:
            config.set_main_option("sqlalchemy.url", url)
        (message,) = check_migrations_applied(config)
        assert message.id == "dockerflow.health.E011"
        if url is None:
            assert "set it, or pass db" in message.msg

    def test_another_version_table_can_be_configured(self, config, engine):
        """The config's main section can name another version table."""
        config.set_main_option("version_table", "applied")
        alembic.command.upgrade(config, "head")
        assert check_migrations_applied(config, engine) == []
        config.set_main_option("version_table", "alembic_version")
        assert check_migrations_applied(config, engine)[0].id == "dockerflow.health.W001"

    def test_another_schema_of_the_version_table_can_be_configured(self, config, engine):
        """The config's main section can name the schema of the version table."""
        schema = "acme" if engine.dialect.name == "postgresql" else "main"
        with engine.begin() as connection:
            if schema == "acme":
                connection.execute(text("CREATE SCHEMA acme"))
            connection.execute(text(f"CREATE TABLE {schema}.alembic_version (version_num text)"))
            connection.execute(text(f"INSERT INTO {schema}.alembic_version VALUES ('bbbb')"))
        config.set_main_option("version_table_schema", schema)
        assert check_migrations_applied(config, engine) == []

    def test_the_middleware_asks_its_database_for_the_migrations(self, config, engine):
        """A config that is passed as ``migrate`` is compared with the engine passed as ``db``."""
        app = DockerflowMiddleware(hello, db=engine, migrate=config)
        shown = json.loads(request(app, "/__heartbeat__").body)
        assert shown["checks"]["check_migrations_applied"] == "warning"
        alembic.command.upgrade(config, "head")
        assert json.loads(request(app, "/__heartbeat__").body)["status"] == "ok"

    def test_an_exhausted_pool_is_i001(self, config, engine):
        """The check reports it by the deadline, although the pool waits for longer."""
        one = create_engine(engine.url, **ONE_CONNECTION)
        app = DockerflowMiddleware(hello, check_timeout=0.2)
        app.init_check(check_migrations_applied, config, db=one)
        with one.connect():
            reported = json.loads(request(app, "/__heartbeat__").body)
        ((name, reason),) = reported["details"]["check_migrations_applied"]["messages"].items()
        assert name == "dockerflow.health.I001"
        text = "The database cannot be asked for its migrations: The connection pool is exhausted: "
        assert reason.startswith(f"{text}Pool size: 1")
        wait_until(lambda: not check_threads())
        assert one.pool.checkedout() == 0
        one.dispose()


ONE_CONNECTION = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 60}


def check_threads():
    """Return the threads of checks that still run."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("dockerflow ")]


@pytest.fixture
def config(tmp_path):
    """Make an Alembic config for one revision."""
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    revise(tmp_path / "migrations", "aaaa", None)
    return make_config(tmp_path / "migrations", None)


def test_a_missing_sqlite_file_is_w001_and_not_created(config, tmp_path):
    """W001 has the path of the missing file."""
    engine = create_engine(f"sqlite:///{tmp_path / 'gone'}")
    (message,) = check_migrations_applied(config, engine)
    assert message.id == "dockerflow.health.W001"
    assert f"aaaa (the SQLite file {tmp_path / 'gone'} does not exist)" in message.msg
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
def test_a_transaction_in_memory_is_not_ended(config, pool):
    """The app's only connection is left alone, and the check reports I001."""
    engine = create_engine("sqlite://", poolclass=pool, connect_args={"check_same_thread": False})
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (x)"))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        (message,) = check_migrations_applied(config, engine)
        connection.execute(text("INSERT INTO orders VALUES (2)"))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT x FROM orders")).scalars().all()
    engine.dispose()
    assert message.id == "dockerflow.health.I001"
    assert rows == [1, 2]


def test_a_file_behind_a_static_pool_is_read(config, tmp_path):
    """The check uses its own connection, so that the app's transaction goes on."""
    options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    engine = create_engine(f"sqlite:///{tmp_path / 'db'}", **options)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('aaaa')"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (x)"))
        assert check_migrations_applied(config, engine) == []
        connection.execute(text("INSERT INTO orders VALUES (1)"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT x FROM orders")).scalars().all() == [1]
    engine.dispose()


@pytest.mark.parametrize("is_url", [True, False], ids=["url", "engine"])
def test_an_asyncio_driver_is_e011(config, is_url):
    """An asyncio driver in the URL or in the engine is E011."""
    pytest.importorskip("aiosqlite")
    asyncio = pytest.importorskip("sqlalchemy.ext.asyncio")
    config.set_main_option("sqlalchemy.url", "sqlite+aiosqlite://")
    db = None if is_url else asyncio.create_async_engine("sqlite+aiosqlite://")
    (message,) = check_migrations_applied(config, db)
    assert message.id == "dockerflow.health.E011"
    assert message.msg.endswith("driver is for asyncio: pass a synchronous engine as db")
