"""Sessions that a check leaves open."""

from __future__ import annotations

import gc

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware


@pytest.fixture
def engine(tmp_path):
    """Make an engine whose pool refuses a third connection without waiting."""
    url = f"sqlite:///{tmp_path}/a.db"
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=0,
        pool_timeout=0,
        connect_args={"check_same_thread": False},
    )
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine):
    """Make the app's session of the current thread."""
    return scoped_session(sessionmaker(bind=engine))


@pytest.fixture
def no_collection():
    """Keep the garbage collector from helping."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("check_timeout", [20, None])
@pytest.mark.parametrize("error", [None, ValueError("lost")])
def test_a_check_gives_its_sessions_connection_back(engine, session, check_timeout, error):
    """After each run the connection of a thread-local session is back in the pool."""
    app = DockerflowMiddleware(
        hello, check_timeout=check_timeout, heartbeat_failed_level="critical"
    )

    @app.check
    def users_can_be_read():
        session.execute(text("SELECT 1"))
        with session.begin_nested():
            session.execute(text("SELECT 1"))
        if error:
            raise error

    for _ in range(10):
        assert request(app, "/__heartbeat__").status == "200 OK"
        assert engine.pool.checkedout() == 0


def test_the_sessions_of_others_stay_open(engine, session):
    """A session that began before, or outside a check, keeps its transaction."""
    app = DockerflowMiddleware(hello, check_timeout=None)

    @app.check
    def users_can_be_read():
        with session.begin_nested():
            session.execute(text("SELECT 1"))

    session.execute(text("SELECT 1"))
    assert request(app, "/__heartbeat__").status == "200 OK"
    assert engine.pool.checkedout() == 1
    session.remove()
    session.execute(text("SELECT 1"))
    assert engine.pool.checkedout() == 1
    session.remove()
