"""SQLite's file: which one a database's name means, and what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from dockerflow_wsgi.doctor.services import sqlite_failure, sqlite_file


def failure_of(path):
    """Return the reason and the remedy."""
    return sqlite_failure(str(path))


@pytest.fixture
def directory():
    """Make a directory that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_app():
    """Be the user of a container, for root may write everywhere."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    os.setegid(10001)
    os.seteuid(10001)
    yield
    os.seteuid(0)
    os.setegid(0)


@pytest.fixture
def database(directory):
    """Make a database that only root may write."""
    path = directory / "data.sqlite3"
    sqlite3.connect(path).close()
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    ("name", "query", "path"),
    [
        ("data.sqlite3", {}, "data.sqlite3"),
        ("file:data.sqlite3", {}, "data.sqlite3"),
        ("file:/srv/data.sqlite3", {"mode": "ro"}, "/srv/data.sqlite3"),
        ("file:///srv/data.sqlite3", {"mode": "rw", "cache": "shared"}, "/srv/data.sqlite3"),
        ("file://localhost/srv/data.sqlite3", {}, "/srv/data.sqlite3"),
        ("file:my%20data%3F.sqlite3#top", {}, "my data?.sqlite3"),
        ("", {}, ""),
        (":memory:", {}, ""),
        ("file::memory:", {"cache": "shared"}, ""),
        ("file:shared", {"mode": "memory", "uri": "true"}, ""),
    ],
)
def test_the_file_of_a_url_is_found(name, query, path):
    """SQLite takes paths and URIs; a database in memory has no file."""
    assert sqlite_file(name, query) == path


def test_a_directory_where_the_file_should_be_is_told(directory):
    """SQLite cannot open it."""
    reason, remedy = failure_of(directory)
    assert reason == "it is not a file"
    assert remedy == "Correct the path in the URL"


def test_a_file_below_no_directory_is_told(directory):
    """It is the directory that is missing."""
    reason, remedy = failure_of(directory / "none" / "data.sqlite3")
    assert reason == f"there is no directory {directory / 'none'}"
    assert "Create the directory" in remedy


def test_a_file_in_a_directory_that_may_be_written_is_to_be_made(directory):
    """By the migrations, or the volume is not mounted."""
    reason, remedy = failure_of(directory / "data.sqlite3")
    assert reason == "there is no such file"
    assert "migrations" in remedy


def test_a_file_that_may_not_be_written_is_told(database, as_app):
    """As one that root made when the image was built."""
    reason, remedy = failure_of(database)
    assert reason == "it cannot be read and written"
    assert remedy == "Let the user of the app own the file"


def test_a_file_in_a_directory_that_may_not_be_written_is_told(database, request):
    """The file itself may be, but the journal is written beside it."""
    database.chmod(0o666)
    request.getfixturevalue("as_app")
    reason, remedy = failure_of(database)
    assert reason == f"{database.parent} cannot be written"
    assert "journal" in remedy


def test_a_file_that_may_be_written_is_fine(directory):
    """Nothing fails."""
    path = directory / "data.sqlite3"
    sqlite3.connect(path).close()
    assert failure_of(path) is None
