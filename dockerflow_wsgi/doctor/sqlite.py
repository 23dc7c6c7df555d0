"""SQLite: the database's file, and a guard that keeps it from being created."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from .ladder import Ladder, RungError

NO_FILE = ", and doctor makes none"
CREATE_FILE = "Create it by applying the migrations, mount its volume, or correct the path"


def forbid_new_files() -> None:
    """Keep SQLite from ever creating a database in this process: to connect would do so.

    For good, as an audit hook cannot be taken out: a check that is over its deadline runs on.
    """
    sys.addaudithook(_refuse_new_file)


def climb_sqlite(engine: Any, timeout_s: float) -> Ladder | None:
    """Look at the file of an engine's database, the step ``file``.

    Args:
        engine: A SQLAlchemy engine for SQLite.
        timeout_s: Not needed: a file answers at once.

    Returns:
        The ladder; ``None`` for a database in memory.
    """
    path = file_of(_name(engine.url))
    if path is None:
        return None
    return Ladder("SQLite", os.path.abspath(path), timeout_s).climb(lambda one: _climb(one, path))


def file_of(database: object) -> str | None:
    """Return the path of the file that a name of a database means; ``None`` in memory."""
    try:
        name = os.fsdecode(database)  # type: ignore[arg-type]
    except TypeError:
        return None
    if name.startswith("file:"):
        path, _, query = name[len("file:") :].partition("?")
        is_in_memory = "memory" in parse_qs(query).get("mode", []) or path == ":memory:"
        name = "" if is_in_memory else unquote(path.split("#")[0])
        name = name[len("//localhost") :] if name.startswith("//localhost/") else name
        name = name[2:] if name.startswith("///") else name
    return None if name in {"", ":memory:"} else name


def _name(url: Any) -> str:
    """Return the name that SQLite is given: that of a URI has the URL's query, too."""
    name = url.database or ""
    return f"{name}?{urlencode(url.query, doseq=True)}" if name.startswith("file:") else name


def _climb(ladder: Ladder, path: str) -> None:
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        remedy = "Make the directory, or correct the path in the URL"
        raise RungError("file", f"there is no directory {directory}", remedy)
    if not os.path.exists(path):
        _refuse_absence(directory)
    if not os.path.isfile(path):
        raise RungError("file", "it is no file", "Correct the path in the URL")
    if not _may(path, os.R_OK | os.W_OK):
        raise RungError("file", "it may not be read and written", "Let the app's user own the file")
    if not _may(directory, os.W_OK | os.X_OK):
        raise RungError("file", f"{directory} may not be written", _OWN_DIRECTORY)
    ladder.reached("file", "it is there, and writable")


_OWN_DIRECTORY = "Let the app's user own the directory: SQLite writes its journal there"


def _refuse_absence(directory: str) -> None:
    if not _may(directory, os.W_OK | os.X_OK):
        reason = f"there is no such file, and {directory} may not be written"
        raise RungError("file", reason, _OWN_DIRECTORY)
    raise RungError("file", "there is no such file", CREATE_FILE)


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _refuse_new_file(event: str, arguments: tuple[Any, ...]) -> None:
    # Steps and checks have threads of their own; the main one may end the process as it likes.
    if event != "sqlite3.connect" or threading.current_thread() is threading.main_thread():
        return
    path = file_of(arguments[0])
    if path is not None and not os.path.exists(path):
        # The module is there, for it is what calls this; not every Python is built with it.
        kind = sys.modules["sqlite3"].OperationalError
        raise kind(f"there is no database file {path}{NO_FILE}")
