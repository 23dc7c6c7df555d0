"""The checks for Django, in a process with Django's settings and SQLite."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import psutil
import pytest
from django_process import (
    LOCMEM,
    django_process,
    heartbeats,
    migrate,
    register_check,
    with_settings,
)

from dockerflow_wsgi import checks
from dockerflow_wsgi.django import (
    check_caches,
    check_databases,
    check_migrations,
    check_system,
)

HEARTBEAT_CHECKS = ["check_databases", "check_migrations", "check_caches", "check_system"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Make the directory of the databases."""
    return tmp_path_factory.mktemp("databases")


@pytest.fixture(scope="module")
def in_django(directory):
    """Start Django with the migrated database ``default`` and the empty one ``archive``."""
    databases = {
        alias: {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(directory / alias),
            "OPTIONS": {"timeout": 0.1},
        }
        for alias in ("default", "archive")
    }
    for alias in databases:
        (directory / alias).touch()
    with django_process(databases) as call:
        call(migrate)
        yield call


@pytest.fixture(params=["missing", "garbage", "locked"])
def broken_archive(directory, request):
    """Break the database ``archive``, and return a part of the reason."""
    path = directory / "archive"
    if request.param == "missing":
        path.unlink()
        yield "there is no SQLite file 'archive'"
        assert not path.exists(), "the check has created the file"
    elif request.param == "garbage":
        path.write_bytes(b"garbage" * 1000)
        yield "not a database"
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield "locked"
    path.write_bytes(b"")


class TestDatabases:
    """`check_databases` sends a query to each database."""

    def test_databases_that_answer_are_fine(self, in_django):
        """There is no message if each database answers."""
        assert in_django(with_settings, {}, check_databases) == []

    def test_a_broken_database_is_e008_with_its_alias(self, in_django, broken_archive):
        """Each database that fails is an error with alias and reason; no file is created."""
        (message,) = in_django(with_settings, {}, check_databases)
        assert (message.id, message.level) == (checks.ERROR_DB_API_EXCEPTION, checks.ERROR)
        assert message.msg.startswith("Database 'archive': ")
        assert broken_archive in message.msg


class TestMigrations:
    """`check_migrations` compares the database with the installed apps."""

    def test_a_migrated_database_is_fine(self, in_django):
        """There is no message if all migrations are applied."""
        assert in_django(with_settings, {}, check_migrations) == []

    def test_unapplied_migrations_are_w001(self, in_django):
        """The warning has the app and the name of each migration."""
        (message,) = in_django(with_settings, {}, check_migrations, database="archive")
        assert (message.id, message.level) == (checks.WARNING_UNAPPLIED_MIGRATION, checks.WARNING)
        assert "'archive': contenttypes.0001_initial, " in message.msg
        assert "auth.0001_initial" in message.msg

    def test_a_database_that_cannot_be_queried_is_i001(self, in_django, broken_archive):
        """A database that cannot be queried is an info, because `check_databases` fails."""
        (message,) = in_django(with_settings, {}, check_migrations, database="archive")
        assert (message.id, message.level) == (checks.INFO_CANT_CHECK_MIGRATIONS, checks.INFO)
        assert broken_archive in message.msg


class TestCaches:
    """`check_caches` uses each cache."""

    def check(self, in_django, backend):
        """Check a working cache and one with another backend."""
        settings = {"default": {"BACKEND": LOCMEM}, "other": {"BACKEND": backend}}
        return in_django(with_settings, {"CACHES": settings}, check_caches)

    @pytest.mark.parametrize(
        "backend",
        [LOCMEM, "django.core.cache.backends.dummy.DummyCache", "django_process.LateCache"],
    )
    def test_a_cache_that_stores_is_fine(self, in_django, backend):
        """A dummy cache need not store anything, and a replica may be a little late."""
        assert self.check(in_django, backend) == []

    @pytest.mark.parametrize(
        ("backend", "text"),
        [
            ("django_process.ForgetfulCache", "does not return the value that was set"),
            ("django_process.BrokenCache", "ConnectionError: no connection to redis://:***@cache"),
            ("django_process.NoCache", "Could not find backend 'django_process.NoCache'"),
        ],
    )
    def test_a_broken_cache_is_an_error_with_its_alias(self, in_django, backend, text):
        """The error is reported under the check's name, without credentials."""
        (message,) = self.check(in_django, backend)
        assert (message.id, message.level) == (None, checks.ERROR)
        assert message.msg.startswith("Cache 'other'")
        assert text in message.msg

    def test_no_key_is_left(self, in_django, tmp_path):
        """The check deletes its key, so that a cache with few entries keeps those of the app."""
        backend = "django.core.cache.backends.filebased.FileBasedCache"
        settings = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
        assert in_django(with_settings, {"CACHES": settings}, check_caches) == []
        assert list(tmp_path.iterdir()) == []


class TestSystem:
    """`check_system` reports the messages of Django's system checks."""

    def test_deployment_checks_have_their_ids(self, in_django):
        """A deployment check is reported under Django's ID, at Django's level."""
        messages = {message.id: message for message in in_django(check_system, deploy=True)}
        assert messages["security.W021"].level == checks.WARNING
        assert messages["security.W021"].msg.startswith("You have not set the SECURE_HSTS_PRELOAD")

    def test_deployment_checks_are_off_by_default(self, in_django):
        """Without ``deploy``, the deployment checks are not run."""
        assert "security.W021" not in {message.id for message in in_django(check_system)}

    def test_silenced_checks_are_left_out(self, in_django):
        """Checks in ``SILENCED_SYSTEM_CHECKS`` are not reported."""
        silenced = {"SILENCED_SYSTEM_CHECKS": ["security.W021"]}
        messages = in_django(with_settings, silenced, check_system, deploy=True)
        assert messages
        assert "security.W021" not in {message.id for message in messages}

    def test_checks_of_the_app_are_run(self, in_django):
        """A check that the app has registered with Django is reported, with its hint."""
        in_django(register_check)
        messages = {message.id: message for message in in_django(check_system)}
        assert (messages["app.I001"].msg, messages["app.I001"].hint) == ("found", "look")
        assert messages["app.I001"].level == checks.INFO


class TestConnectionsClosed:
    """`connections_closed` closes the connections of a check's thread."""

    def test_heartbeats_leave_no_database_file_open(self, in_django, directory):
        """Heartbeats with every check leave no database file open."""
        status, report = in_django(heartbeats, 3)
        assert status == "200 OK"
        assert list(report["checks"]) == HEARTBEAT_CHECKS
        process = psutil.Process(in_django(os.getpid))
        assert str(directory / "default") not in [file.path for file in process.open_files()]
