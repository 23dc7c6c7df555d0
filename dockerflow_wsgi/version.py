"""The version object: ``version.json``, as the Dockerflow README asks for it."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from .answer import to_json
from .errors import VersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    VersionCallback: TypeAlias = Callable[[str], Mapping[str, Any] | None]

FILE_NAME = "version.json"
MAX_BYTES = 64 * 1024

# A file written twice within one tick of its time stamp (some file systems count whole
# seconds, FAT two) may look unchanged; one as young as this is compared by its content.
_TOO_YOUNG_NS = 2_000_000_000


def get_version(root: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the version object from a directory.

    Args:
        root: The directory that holds ``version.json``.

    Returns:
        The object; usually with the keys ``source``, ``version``, ``commit`` and ``build``
        (Dockerflow, ``docs/version_object.md``). ``None`` if there is no such file.

    Raises:
        VersionError: The file cannot be read, is larger than 64 KiB, or holds something else
            than a JSON object.
    """
    reading = VersionFile([os.fspath(root)]).read()
    return None if reading is None else reading.version


@dataclass(frozen=True, slots=True)
class VersionReading:
    """What was read from a file, and what the file looked like then.

    Attributes:
        version: The version object.
        body: The same as JSON in UTF-8.
        content: The file's bytes.
        signature: What tells whether the file has changed: times, size and inode.
        is_settled: Whether an equal signature proves an equal content.
    """

    version: dict[str, Any]
    body: bytes
    content: bytes
    signature: tuple[int, ...]
    is_settled: bool


class VersionFile:
    """A ``version.json`` that is parsed again only when it has changed.

    Args:
        directories: Where to look; the first that holds the file is asked.

    Attributes:
        paths: Where the file is looked for.
    """

    __slots__ = ("_readings", "paths")

    def __init__(self, directories: Sequence[str]) -> None:
        self.paths = tuple(os.path.join(directory, FILE_NAME) for directory in directories)
        self._readings: dict[str, VersionReading] = {}

    def directory(self) -> str:
        """Return the first directory that holds the file, or the first one if none does."""
        return os.path.dirname(self._path())

    def read(self) -> VersionReading | None:
        """Read the file, unless it is as it was.

        Returns:
            What it holds, or ``None`` if there is no file.

        Raises:
            VersionError: The file is there and cannot be served.
        """
        path = self.paths[0] if len(self.paths) == 1 else self._path()
        try:
            if not os.path.isabs(path):
                path = os.path.abspath(path)
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            _refuse(f"cannot be read ({error.strerror}): make it readable", path, error)
        if not stat.S_ISREG(status.st_mode):
            _refuse("is not a regular file: put the JSON object in a file", path)
        return self._read_if_changed(path, status)

    def _path(self) -> str:
        return next(filter(os.path.lexists, self.paths), self.paths[0])

    def _read_if_changed(self, path: str, status: os.stat_result) -> VersionReading:
        signature = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        last = self._readings.get(path)
        if last is not None and last.is_settled and last.signature == signature:
            return last
        is_settled = time.time_ns() - status.st_mtime_ns > _TOO_YOUNG_NS
        content = _content(path)
        if last is not None and last.content == content:
            reading = replace(last, signature=signature, is_settled=is_settled)
        else:
            version = _parsed(content, path)
            reading = VersionReading(
                version, version_to_json(version, path), content, signature, is_settled
            )
        self._readings[path] = reading
        return reading


def version_to_json(version: Mapping[str, Any], path: str = "") -> bytes:
    """Write a version object as JSON.

    Args:
        version: The object.
        path: The file that it comes from, if it does.

    Returns:
        JSON in UTF-8.

    Raises:
        VersionError: JSON cannot hold it.
    """
    try:
        return to_json(version)
    except (TypeError, ValueError, RecursionError) as error:
        origin = FILE_NAME if path else "the version object"
        raise VersionError(f"{origin} cannot be written as JSON: {error}", path) from error


def call_version_callback(callback: VersionCallback, directory: str) -> Mapping[str, Any] | None:
    """Ask the user's own function for the version object.

    Args:
        callback: The function.
        directory: The ``version_path`` that it is called with.

    Returns:
        The version object, or ``None`` if there is none.

    Raises:
        VersionError: The callback raised (the cause), or returned something else.
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


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        _refuse(f"cannot be read ({error.strerror}): make it readable", path, error)
    if len(content) > MAX_BYTES:
        _refuse(f"is larger than {MAX_BYTES // 1024} KiB: expected a small JSON object", path)
    return content


def _parsed(content: bytes, path: str) -> dict[str, Any]:
    try:
        version = json.loads(content, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        _refuse(f"is not JSON ({error}): expected a JSON object", path, error)
    if not isinstance(version, dict):
        _refuse(f"holds a {type(version).__name__}: expected a JSON object", path)
    return version


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")


def _refuse(problem: str, path: str, cause: BaseException | None = None) -> NoReturn:
    raise VersionError(f"{FILE_NAME} {problem}", path) from cause
