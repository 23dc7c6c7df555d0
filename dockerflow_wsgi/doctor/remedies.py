"""What to do about what an app raises, and what it lacks."""

from __future__ import annotations

import os
import shlex
import traceback
from functools import partial
from typing import Any

from ..stack import shown_path

_URL_PACKAGES = ("sqlalchemy", "redis", "valkey", "urllib")
_VALUE = "Correct the value that this line is given, such as an environment variable"


def remedy_of(error: BaseException | None) -> str:
    """Say what to do about an exception.

    Args:
        error: What the app raised.

    Returns:
        The remedy; nothing if there is none that fits.
    """
    if isinstance(error, ModuleNotFoundError) and str(error.name).endswith(".py"):
        return f"Name the module, not its file: did you mean {str(error.name)[:-3]}?"
    if isinstance(error, KeyError) and error.args and _raised_in(error, os.__file__):
        return f"Set the environment variable {error.args[0]}"
    if isinstance(error, ValueError) or type(error).__name__ == "ArgumentError":
        parts = _innermost(error).split(os.sep)
        return _VALUE if any(part.startswith(_URL_PACKAGES) for part in parts) else ""
    return ""


def upgrade_command(check: Any) -> str:
    """Return the command that applies the migrations.

    Args:
        check: The function of the check that misses them.

    Returns:
        The command, with the config's file.
    """
    migrate = check.args[0] if isinstance(check, partial) and check.args else None
    if hasattr(migrate, "get_config"):
        return "flask db upgrade"
    path = getattr(migrate, "config_file_name", None)
    option = f"-c {shlex.quote(shown_path(os.path.abspath(path)))} " if path else ""
    return f"alembic {option}upgrade head"


def _raised_in(error: BaseException, path: str) -> bool:
    return _innermost(error) in {path, "<frozen os>"}


def _innermost(error: BaseException | None) -> str:
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    return frames[-1].filename if frames else ""
