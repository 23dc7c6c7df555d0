"""``MODULE:NAME`` on a command line, the object that it names, and the line where it fails."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import linecache
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .errors import ConfigurationError, DockerflowError, format_traceback
from .redaction import format_error

_TEXT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*(\(.*\))?", re.DOTALL)
_MAX_LINES = 5
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_FRAME = re.compile(r'^\s+File "(.+)", line (\d+)(?:,? in (.+))?$', re.MULTILINE)
_EXPECTED = "Write MODULE:NAME, such as acme.wsgi:app or acme.worker:registry, or acme:create_app()"


class TargetError(DockerflowError, ValueError):
    """``MODULE:NAME`` does not name an object that can be used.

    The text is the reason and the remedy.

    Attributes:
        reason: Why the object cannot be used.
        remedy: What to do.
        stack: The lines of the user's code that led to the error, the innermost last.
    """

    def __init__(self, reason: str, remedy: str, stack: Iterable[str] = ()) -> None:
        self.reason = reason
        self.remedy = remedy
        self.stack = tuple(stack)
        super().__init__(f"{reason.removesuffix('.')}. {remedy}")


@dataclass(frozen=True, slots=True)
class ImportString:
    """``MODULE:NAME``, as gunicorn understands it."""

    module: str
    name: str  # may have dots
    arguments: tuple[list[Any], dict[str, Any]] | None = None  # of a factory


def parse_import_string(text: str, default_name: str = "") -> ImportString:
    """Parse ``MODULE:NAME``, ``MODULE:NAME.ATTRIBUTE`` or ``MODULE:FACTORY(LITERALS)``.

    Raises:
        TargetError: The text has another form, or it has neither a colon nor a default name.
    """
    whole = text if ":" in text else f"{text}:{default_name}"
    module, _, expression = whole.partition(":")
    name, bracket, rest = expression.partition("(")
    arguments = None
    if bracket:
        with suppress(SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            arguments = _parse_arguments(f"f{bracket}{rest}")
    if not _TEXT.fullmatch(whole) or (bracket and arguments is None):
        raise TargetError(f"{text!r} cannot be read", _EXPECTED)
    return ImportString(module, name, arguments)


def _parse_arguments(call_of_f: str) -> tuple[list[Any], dict[str, Any]] | None:
    call = ast.parse(call_of_f, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    if not all(one.arg for one in call.keywords):  # f(**mapping)
        return None
    keywords = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    return [ast.literal_eval(argument) for argument in call.args], keywords


def import_string(parsed: ImportString) -> Any:
    """Import a module, from the current directory first, and return an object of it.

    Raises:
        TargetError: The module cannot be imported, has no such name, or the factory raised.
    """
    try:
        directory = os.getcwd()
    except OSError as error:
        remedy = "Change to an existing directory and try again"
        raise TargetError("the current directory is gone", remedy) from error
    if directory not in sys.path:
        sys.path.insert(0, directory)  # an installed script has its own directory there
    try:
        found: Any = importlib.import_module(parsed.module)
        holder = f"the module {parsed.module!r}"
        for name in parsed.name.split("."):
            found, holder = _attribute(found, name, holder), name
        if parsed.arguments is not None:
            found = found(*parsed.arguments[0], **parsed.arguments[1])
    except TargetError:
        raise
    except (Exception, SystemExit) as error:
        raise _import_error(error, parsed, directory) from error
    return found


def require_wsgi(app: Any, parsed: ImportString) -> None:
    """Raise a `TargetError` if a server cannot call an object, such as a factory."""
    try:
        inspect.signature(app).bind({}, None)
    except TypeError as error:
        remedy = "Name a callable that takes environ and start_response"
        if callable(app) and parsed.arguments is None:
            remedy += f"; if it is a factory, write {parsed.module}:{parsed.name}()"
        raise TargetError(f"{parsed.name} is not a WSGI app: {error}", remedy) from error
    except Exception:  # noqa: BLE001, S110 - written in C, or an object of the user: unknown
        pass


def _attribute(found: Any, name: str, holder: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError as error:
        known = vars(found) if inspect.ismodule(found) else ()
        close = difflib.get_close_matches(name, known, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        remedy = "Name the object that the server gets, as MODULE:NAME"
        raise TargetError(f"{holder} has no {name!r}{hint}", remedy) from error


def _import_error(error: BaseException, parsed: ImportString, directory: str) -> TargetError:
    """Describe an exception of the user's code, or a module that does not exist."""
    traceback = format_traceback(error)
    lines = lines_of_traceback(traceback)
    where = place_of(traceback) or f"importing {parsed.module}:{parsed.name}: "
    reason = f"{type(error).__name__}: {format_error(error)}"
    remedy = "Fix this line of the app, or the value that it gets"
    if isinstance(error, ModuleNotFoundError) and error.name:
        if f"{parsed.module}.".startswith(f"{error.name}."):
            reason = f"there is no module {error.name!r} in {directory}, and none is installed"
            remedy = "Correct the name, or run this in the directory that has the module"
            if parsed.module.endswith(".py"):
                remedy = f"Name the module, not its file: {parsed.module[:-3]}"
            return TargetError(reason, remedy)
        reason, remedy = format_error(error), f"Install the package that has {error.name}"
    elif isinstance(error, ConfigurationError):
        reason = f"the configuration is wrong: {'; '.join(error.problems)}"
        remedy = "Fix each of the problems"
    elif "Port could not be cast" in reason:  # its value, part of the password, is not shown
        reason = "the URL's port is not a number"
        remedy = "Correct the URL; write '/', '#', '?' and '@' in a password as %2F, %23, %3F, %40"
    elif isinstance(error, KeyError) and lines and "environ" in lines[-1]:
        remedy = f"Set the environment variable {error.args[0]}"
    return TargetError(f"{where}{reason}", remedy, lines)


def lines_of_traceback(text: str) -> list[str]:
    """Return the app's lines of a traceback, the innermost last, at most five.

    A line is such as ``app.py:7 in check: time.sleep(60)``. Without lines of the app, those of
    installed packages are returned, because an app may be installed.
    """
    frames = _FRAME.findall(text)
    ours = [index for index, frame in enumerate(frames) if frame[0].startswith(_PACKAGE)]
    frames = frames[ours[0] if ours else 0 :]  # without the script that called this package
    frames = [frame for frame in frames if not frame[0].startswith(("<", _PACKAGE))]
    installed = [frame for frame in frames if _INSTALLED.search(frame[0])]
    own = [frame for frame in frames if not frame[0].startswith(_STANDARD)]
    own = [frame for frame in own if frame not in installed]
    return [
        f"{path.removeprefix(os.getcwd() + os.sep)}:{number} in {name or '<module>'}: "
        f"{linecache.getline(path, int(number)).strip()}"
        for path, number, name in own or installed
    ][-_MAX_LINES:]


def place_of(traceback_text: str) -> str:
    """Return ``file:line: `` of the innermost line of a traceback; empty without a line."""
    lines = lines_of_traceback(traceback_text)
    return f"{lines[-1].partition(' in ')[0]}: " if lines else ""
