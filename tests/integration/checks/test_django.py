"""The checks for Django, with a real PostgreSQL and a real Redis."""

from __future__ import annotations

import gc

import pytest
import redis
from django_process import django_process, heartbeats, migrate, with_settings
from servers import PASSWORD, free_port, postgres_server, redis_server
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from waiting import wait_until

from dockerflow_wsgi import checks
from dockerflow_wsgi.django import check_caches, check_databases, check_migrations

APPLICATION = "dockerflow_wsgi_django"
CHECKS = ["check_databases", "check_migrations", "check_caches", "check_system"]


def database(url, **changed):
    """Return the item of ``DATABASES`` for a URL."""
    parts = make_url(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.database,
        "USER": parts.username,
        "PASSWORD": PASSWORD,
        "HOST": parts.query["host"],
        "OPTIONS": {"application_name": APPLICATION},
        "CONN_MAX_AGE": None,
        **changed,
    }


def cache(url):
    """Return the item of ``CACHES`` for a Redis."""
    return {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}


@pytest.fixture(scope="module")
def postgres():
    """Run a PostgreSQL, for this module alone."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def in_django(postgres, redis_url):
    """Start Django with a migrated PostgreSQL and a Redis, without garbage collection."""
    databases = {"default": database(postgres.url)}
    with django_process(databases, {"default": cache(redis_url)}) as call:
        call(migrate)
        call(gc.disable)
        yield call


def test_heartbeats_leave_no_connection_open(in_django, postgres, redis_url):
    """PostgreSQL has no connection left, and Redis one, though the garbage collector is off."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
    engine = create_engine(postgres.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, redis.Redis.from_url(redis_url) as own:
        before = own.info("clients")["connected_clients"]
        status, report = in_django(heartbeats, 50)
        assert (status, report["checks"]) == ("200 OK", dict.fromkeys(CHECKS, "ok"))

        def is_closed():  # a server's process may end a moment after its connection
            number = connection.execute(query, {"name": APPLICATION}).scalar()
            return number == 0 and own.info("clients")["connected_clients"] <= before + 1

        wait_until(is_closed)
    engine.dispose()


@pytest.mark.parametrize("change", [{"NAME": "nowhere"}, {"USER": "nobody"}, {"PORT": "1"}])
def test_a_postgresql_that_refuses_is_e008_and_i001(postgres, change):
    """The messages have the driver's reason, and not the password."""
    with django_process({"default": database(postgres.url, **change)}) as call:
        (error,), (info,) = (
            call(with_settings, {}, check) for check in (check_databases, check_migrations)
        )
        status, report = call(heartbeats)
    assert (error.id, info.id) == (
        checks.ERROR_DB_API_EXCEPTION,
        checks.INFO_CANT_CHECK_MIGRATIONS,
    )
    assert "failed" in error.msg
    assert PASSWORD not in error.msg + info.msg
    assert status == "500 Internal Server Error"
    assert (report["checks"]["check_databases"], report["checks"]["check_migrations"]) == (
        "error",
        "info",
    )


def test_a_postgresql_that_goes_down_is_e008(redis_url):
    """The heartbeat fails from the moment on at which the server is down."""
    with postgres_server() as server:
        databases = {"default": database(server.url)}
        with django_process(databases, {"default": cache(redis_url)}) as call:
            call(migrate)
            assert call(heartbeats)[1]["status"] == "ok"
            server.kill()
            assert call(heartbeats)[1]["checks"]["check_databases"] == "error"


def test_a_redis_that_goes_down_and_comes_back(in_django):
    """The message has the alias and the client's reason; the check passes after a restart."""
    options = ("--requirepass", PASSWORD)
    with redis_server(*options, port=(port := free_port())) as server:
        url = server.url.replace("redis://", f"redis://:{PASSWORD}@")
        changed = {"CACHES": {"default": cache(url)}}
        assert in_django(with_settings, changed, check_caches) == []
        server.stop()
        (message,) = in_django(with_settings, changed, check_caches)
    assert message.msg.startswith("Cache 'default': ConnectionError: ")
    assert PASSWORD not in message.msg
    with redis_server(*options, port=port):
        assert in_django(with_settings, changed, check_caches) == []


def test_a_wrong_password_of_redis_is_an_error_without_the_password(in_django):
    """The password in the cache's ``LOCATION`` is redacted."""
    with redis_server("--requirepass", PASSWORD) as server:
        url = server.url.replace("redis://", "redis://:wr0ng-pass@")
        (message,) = in_django(with_settings, {"CACHES": {"default": cache(url)}}, check_caches)
    assert "invalid username-password pair" in message.msg
    assert "wr0ng-pass" not in message.msg


def test_a_replica_of_redis_may_be_late(in_django):
    """Django reads from replicas; the check waits a little for them."""
    with redis_server() as leader, redis_server() as replica:
        leader_port = int(leader.url.rpartition(":")[2].partition("/")[0])
        with redis.Redis.from_url(replica.url) as client:
            client.replicaof("127.0.0.1", leader_port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        changed = {"CACHES": {"default": cache([leader.url, replica.url])}}
        for _ in range(5):
            assert in_django(with_settings, changed, check_caches) == []
