"""The version object: ``version.json``, which the Dockerflow README requires."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import VersionError
from .redaction import format_error
from .serialization import to_json_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    VersionCallback: TypeAlias = Callable[[str], Mapping[str, Any] | None]

FILE_NAME = "version.json"
KEYS = ("source", "version", "commit", "build")  # Dockerflow, docs/version_object.md
MAX_BYTES = 64 * 1024

# A file that was written twice within one tick of its time stamp may look unchanged. Some file
# systems count whole seconds, FAT two; a younger file is read each time.
_YOUNG_NS = 2_000_000_000


def get_version(root: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the version object from a directory.

    Args:
        root: The directory that holds ``version.json``.

    Returns:
        The object, usually with the keys ``source``, ``version``, ``commit`` and ``build``
        (Dockerflow, ``docs/version_object.md``); ``None`` if there is no such file.

    Raises:
        VersionError: The file cannot be read, is larger than 64 KiB, or is not a JSON object.
    """
    body = VersionFile([os.fspath(root)]).read()
    version: dict[str, Any] | None = None if body is None else json.loads(body)
    return version


class VersionFile:
    """The ``version.json`` of the first directory that has one; read again when it changed."""

    def __init__(self, directories: Sequence[str]) -> None:
        self.paths = tuple(os.path.join(directory, FILE_NAME) for directory in directories)
        self._last: tuple[tuple[object, ...], bytes] = ((), b"")  # one attribute: set at once

    def directory(self) -> str:
        """Return the first directory that has the file; without one, the first directory."""
        return os.path.dirname(self._path())

    def read(self) -> bytes | None:
        """Return the version object as JSON; ``None`` if there is no file.

        Raises:
            VersionError: There is a file, but it cannot be served.
        """
        path = self._path()
        try:
            path = os.path.abspath(path)
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            _refuse(f"cannot be read ({error.strerror}): make it readable", path, error)
        if not stat.S_ISREG(status.st_mode):
            _refuse("is not a regular file: put the JSON object in a file", path)
        times = status.st_mtime_ns, status.st_ctime_ns
        signature = (path, *times, status.st_size, status.st_ino)
        last_signature, last_body = self._last
        if signature == last_signature:
            return last_body
        body = version_to_json(_parse(_read_file(path), path), path)
        if time.time_ns() - status.st_mtime_ns > _YOUNG_NS:
            self._last = (signature, body)
        return body

    def _path(self) -> str:
        return next(filter(os.path.lexists, self.paths), self.paths[0])


def version_to_json(version: Mapping[str, Any], path: str = "") -> bytes:
    """Serialize a version object, from a file if there is a path; may raise `VersionError`."""
    try:
        return to_json_bytes(version)
    except Exception as error:
        origin = FILE_NAME if path else "the version object"
        raise VersionError(
            f"{origin} cannot be written as JSON: {format_error(error)}", path
        ) from error


def call_version_callback(callback: VersionCallback, directory: str) -> Mapping[str, Any] | None:
    """Call the user's function that returns the version object, or ``None`` if there is none.

    Raises:
        VersionError: The function raised, or returned something else.
    """
    try:
        version = callback(directory)
    except Exception as error:
        raise VersionError(
            f"the version callback raised {type(error).__name__}: expected a mapping or None"
        ) from error
    if version is not None and not isinstance(version, Mapping):
        raise VersionError(
            f"the version callback returned a {type(version).__name__}: expected a mapping, "
            "or None if there is no version"
        )
    return version


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        _refuse(f"cannot be read ({error.strerror}): make it readable", path, error)
    if len(content) > MAX_BYTES:
        _refuse(f"is larger than {MAX_BYTES // 1024} KiB: expected a small JSON object", path)
    return content


def _parse(content: bytes, path: str) -> dict[str, Any]:
    try:
        version = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        _refuse(f"is not JSON ({error}): expected a JSON object", path, error)
    if not isinstance(version, dict):
        _refuse(f"is a JSON {type(version).__name__}: expected a JSON object", path)
    return version


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _refuse(problem: str, path: str, cause: BaseException | None = None) -> NoReturn:
    raise VersionError(f"{FILE_NAME} {problem}", path) from cause
