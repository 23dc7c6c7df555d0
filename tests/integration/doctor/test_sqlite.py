"""SQLite's file: which one a database's name means, and what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest
from programs import run
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool
from waiting import TIMEOUT_S

from dockerflow_wsgi.doctor.sqlite import climb_sqlite, file_of

GUARDED = """
import sqlite3, sys, threading
from dockerflow_wsgi.doctor.sqlite import forbid_new_files

def connect():
    try:
        sqlite3.connect(sys.argv[1], uri=True).execute("SELECT 1")
        print("connected")
    except sqlite3.OperationalError as error:
        print(error)

forbid_new_files()
thread = threading.Thread(target=connect)
thread.start()
thread.join()
"""


def fall_of(path):
    """Return the step that fails on the way to a file, or ``None``."""
    engine = create_engine(f"sqlite:///{path}")
    try:
        return climb_sqlite(engine, TIMEOUT_S).fall
    finally:
        engine.dispose()


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
    ("name", "path"),
    [
        ("data.sqlite3", "data.sqlite3"),
        (b"/srv/data.sqlite3", "/srv/data.sqlite3"),
        (Path("/srv/data.sqlite3"), "/srv/data.sqlite3"),
        ("file:data.sqlite3", "data.sqlite3"),
        ("file:/srv/data.sqlite3?mode=ro", "/srv/data.sqlite3"),
        ("file:///srv/data.sqlite3?mode=rw&cache=shared", "/srv/data.sqlite3"),
        ("file://localhost/srv/data.sqlite3", "/srv/data.sqlite3"),
        (b"file:my%20data%3F.sqlite3#top", "my data?.sqlite3"),
    ],
)
def test_the_file_of_a_name_is_found(name, path):
    """SQLite takes paths of each type, and URIs, whose escapes it undoes."""
    assert file_of(name) == path


@pytest.mark.parametrize(
    "name",
    [
        *("", b"", ":memory:", b":memory:", "file:", "file::memory:", "file::memory:?cache=shared"),
        *("file:shared?mode=memory", "file:shared?cache=shared&mode=memory", None, 7),
    ],
)
def test_a_name_of_no_file_is_told(name):
    """A database in memory has none, nor has what is no name."""
    assert file_of(name) is None


def test_an_engine_for_a_uri_in_memory_has_no_file(directory):
    """The URL's query says so; without it, the URI is that of a file."""
    path = directory / "data.sqlite3"
    in_memory = create_engine(f"sqlite:///file:{path}?mode=memory&uri=true", poolclass=StaticPool)
    in_file = create_engine(f"sqlite:///file:{path}?mode=rw&uri=true")
    assert climb_sqlite(in_memory, TIMEOUT_S) is None
    assert climb_sqlite(in_file, TIMEOUT_S).address == str(path)


def test_a_directory_where_the_file_should_be_is_told(directory):
    """SQLite cannot open it."""
    fall = fall_of(directory)
    assert (fall.rung, str(fall)) == ("file", "it is no file")
    assert fall.remedy == "Correct the path in the URL"


def test_a_file_below_no_directory_is_told(directory):
    """It is the directory that is missing."""
    fall = fall_of(directory / "none" / "data.sqlite3")
    assert fall.reason == f"there is no directory {directory / 'none'}"
    assert "Make the directory" in fall.remedy


def test_a_file_in_a_directory_that_may_be_written_is_to_be_made(directory):
    """By the migrations, or the volume is not mounted."""
    fall = fall_of(directory / "data.sqlite3")
    assert fall.reason == "there is no such file"
    assert "migrations" in fall.remedy


def test_a_file_that_may_not_be_written_is_told(database, as_app):
    """As one that root made when the image was built."""
    fall = fall_of(database)
    assert (fall.rung, fall.reason) == ("file", "it may not be read and written")
    assert fall.remedy == "Let the app's user own the file"


def test_a_file_in_a_directory_that_may_not_be_written_is_told(database, request):
    """The file itself may be, but the journal is written beside it."""
    database.chmod(0o666)
    request.getfixturevalue("as_app")
    fall = fall_of(database)
    assert fall.reason == f"{database.parent} may not be written"
    assert "journal" in fall.remedy


def test_no_file_in_a_directory_that_may_not_be_written_is_told(directory, as_app):
    """The migrations could not make it either."""
    fall = fall_of(directory / "data.sqlite3")
    assert fall.reason == f"there is no such file, and {directory} may not be written"
    assert "own the directory" in fall.remedy


def test_a_file_that_may_be_written_is_fine(directory):
    """Nothing fails."""
    path = directory / "data.sqlite3"
    sqlite3.connect(path).close()
    assert fall_of(path) is None


@pytest.mark.parametrize("name", ["{path}", "file:{path}", "file://{path}?mode=rwc"])
def test_the_guard_keeps_a_thread_from_making_a_file(directory, name):
    """However it is named; a file that is there may be opened, and so may memory."""
    path = directory / "data.sqlite3"

    def connect(to):
        command = [sys.executable, "-c", GUARDED, to]
        return run(command, check=True).stdout

    there = connect(name.format(path=path))
    assert there == f"there is no database file {path}, and doctor makes none\n"
    assert not path.exists()
    path.touch()
    assert connect(name.format(path=path)) == "connected\n"
    assert connect("file:shared?mode=memory") == "connected\n"
