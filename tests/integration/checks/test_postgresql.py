"""The database and migrations checks, against a real PostgreSQL."""

from __future__ import annotations

import json

import pytest
from core.checks import test_migrations
from servers import PASSWORD
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.checks import check_database_connected


@pytest.fixture
def engine(postgres_url):
    """Make an engine with a pool of one connection."""
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


def test_a_database_that_answers_is_fine(engine):
    """The check returns no message, and gives its connection back to the pool."""
    for _ in range(3):
        assert check_database_connected(engine) == []
    assert engine.pool.checkedout() == 0


def test_the_middleware_checks_its_database(engine):
    """An engine that is passed as ``db`` is checked under the check's published name."""
    response = request(DockerflowMiddleware(hello, db=engine), "/__heartbeat__")
    assert json.loads(response.body)["checks"] == {"check_database_connected": "ok"}


@pytest.mark.parametrize("change", [{"database": "nowhere"}, {"username": "nobody"}])
def test_a_db_api_error_is_e008(postgres_url, change):
    """A missing database or user is E008, with the driver's text, and without the password."""
    engine = create_engine(make_url(postgres_url).set(**change))
    (message,) = check_database_connected(engine)
    engine.dispose()
    assert message.id == "dockerflow.health.E008"
    assert message.level == checks.ERROR
    assert message.msg.startswith("DB-API error: ")
    assert next(iter(change.values())) in message.msg
    assert PASSWORD not in message.msg


class TestMigrationsCheck(test_migrations.TestMigrationsCheck):
    """The check keeps the same promises as on SQLite."""

    @pytest.fixture
    def engine(self, postgres_url):
        """Make an engine for an empty database."""
        server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text("DROP DATABASE IF EXISTS migrated"))
            connection.execute(text("CREATE DATABASE migrated"))
        server.dispose()
        engine = create_engine(server.url.set(database="migrated"))
        yield engine
        engine.dispose()
