"""What a container must fulfil (Dockerflow's README and ``docs/version_object.md``)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import VersionError
from ..settings import DEFAULT_PORT
from ..version import FILE_NAME, call_version_callback
from .finding import Finding, failed, passed, skipped, warned

if TYPE_CHECKING:
    from ..endpoints import VersionEndpoint

KEYS = ("source", "version", "commit", "build")
USER_ID = GROUP_ID = 10001

_REWRITE = f"Write {FILE_NAME} anew when the container is built"


def check_version(endpoint: VersionEndpoint) -> Finding:
    """Look at the version object, where the middleware looks for it."""
    directory = endpoint.file.directory()
    path = os.path.abspath(os.path.join(directory, FILE_NAME))
    try:
        if endpoint.callback is not None:
            path = "the version callback"
            version = call_version_callback(endpoint.callback, directory)
        else:
            body = endpoint.file.read()
            version = None if body is None else json.loads(body)
    except VersionError as error:
        unreadable = isinstance(error.__cause__, OSError)
        remedy = (
            "Make it readable for the app's user" if unreadable else f"{_REWRITE}, as an object"
        )
        return failed(f"{error.path or path}: {error}", remedy)
    if version is None:
        return _absent(endpoint)
    return check_version_object(version, path)


def check_version_object(version: Mapping[str, Any], origin: str) -> Finding:
    """Look at a version object's keys.

    Args:
        version: The object.
        origin: Where it comes from.

    Returns:
        An error for missing keys, a warning for blank ones; ``version`` may be blank.
    """
    missing = [key for key in KEYS if key not in version]
    if missing:
        has = f"has no {' and no '.join(missing)}"
        return failed(f"{origin} {has}", f"{_REWRITE}, with all of {', '.join(KEYS)}")
    blank = [key for key in KEYS if key != "version" and not str(version[key] or "").strip()]
    if blank:
        return warned(f"{origin}: {', '.join(blank)} is blank", f"{_REWRITE}, with all of its keys")
    shown = " ".join(f"{key} {version[key]}" for key in ("version", "commit") if version[key])
    return passed(f"{origin}: {shown}", **{key: version[key] for key in KEYS})


def check_port() -> Finding:
    """Look at ``$PORT``, which the server is to listen on."""
    port = os.environ.get("PORT")
    remedy = "Set PORT to a number from 1 to 65535"
    if port is None:
        return passed(f"PORT is not set here: the server is to listen on {DEFAULT_PORT}")
    port = port.strip()
    if not port:
        return warned("PORT is set, but empty: gunicorn, for one, refuses that", remedy)
    if not (port.isascii() and port.isdigit()):
        return failed(f"PORT={port!r} is no number", remedy)
    if int(port[:9]) > 65535:
        return failed(f"PORT={port} is out of range", remedy)
    if int(port) == 0:
        return warned("PORT=0: the system chooses a port, which no prober knows", remedy)
    return passed(f"PORT={port}")


def check_user() -> Finding:
    """Look at the user that runs this, who is to be ``app`` with the IDs 10001."""
    if not hasattr(os, "geteuid"):
        return skipped("this system has no user IDs")
    user, group = os.geteuid(), os.getegid()
    remedy = (
        f"Run as the user and the group app, both with the ID {USER_ID}: USER app in Dockerfile"
    )
    if user == 0:
        return warned("runs as root", remedy, uid=user, gid=group)
    if (user, group) != (USER_ID, GROUP_ID):
        return warned(f"runs as uid {user}, gid {group}", remedy, uid=user, gid=group)
    return passed(f"runs as uid {user}, gid {group}", uid=user, gid=group)


def _absent(endpoint: VersionEndpoint) -> Finding:
    if endpoint.callback is not None:
        remedy = "Let it return a mapping with source, version, commit and build"
        return failed("the version callback returned None: there is no version", remedy)
    places = " and no ".join(os.path.abspath(path) for path in endpoint.file.paths)
    remedy = "Write it when the container is built, or set version_path to its directory"
    return failed(f"there is no {places}", remedy)
