"""``MODULE:NAME`` on a command line, and the object that it names."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import os
import re
import sys
from dataclasses import dataclass
from typing import Any

from .doctor.diagnosis import lines_of_error, place_of_error
from .errors import ConfigurationError, TargetError
from .find_middleware import static_attribute
from .redaction import format_error, redact

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_EXPECTED = "Write MODULE:NAME, such as acme.wsgi:app or acme.worker:registry, or acme:create_app()"
_SERVABLE = "Name a callable that takes environ and start_response, or a CheckRegistry"
_MAX_NAMES = 10


@dataclass(frozen=True, slots=True)
class ImportString:
    """``MODULE:NAME``, as gunicorn understands it.

    Attributes:
        module: The module's name.
        names: The attribute's name, or the names of nested attributes.
        arguments: The positional arguments of a factory.
        keywords: The keyword arguments of a factory.
        is_call: Whether the attribute is a factory.
    """

    module: str
    names: tuple[str, ...]
    arguments: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()
    is_call: bool = False

    @property
    def path(self) -> str:
        """The names after the colon."""
        return ".".join(self.names)


def parse_import_string(text: str, default_name: str = "") -> ImportString:
    """Parse ``MODULE:NAME``, ``MODULE:NAME.ATTRIBUTE`` or ``MODULE:FACTORY(...)``.

    Args:
        text: The text; the arguments of a factory are literals.
        default_name: The name for a text without a colon; by default that is an error.

    Raises:
        TargetError: The text has another form.
    """
    module, colon, expression = text.partition(":")
    try:
        node = ast.parse(expression.strip() if colon else default_name, mode="eval").body
        parsed = _parse(module, node)
    except (SyntaxError, ValueError) as error:
        raise TargetError(f"{text!r} cannot be read", _EXPECTED) from error
    if not _MODULE.fullmatch(module):
        raise TargetError(f"{text!r} cannot be read", _EXPECTED)
    return parsed


def import_string(parsed: ImportString) -> Any:
    """Import a module, from the current directory first, and return an object of it.

    Args:
        parsed: The name of the object.

    Returns:
        The object, or the result of the factory.

    Raises:
        TargetError: The module cannot be imported, has no such name, or the factory raised; or
            the current directory is gone.
    """
    try:
        directory = os.getcwd()
    except OSError as error:
        remedy = "Change to an existing directory and try again"
        raise TargetError("the current directory is gone", remedy) from error
    if directory not in sys.path:
        sys.path.insert(0, directory)  # an installed script has its own directory there
    found = _import_module(parsed.module)
    for name in parsed.names:
        found = _attribute(found, name)
    if not parsed.is_call:
        return found
    try:
        return found(*parsed.arguments, **dict(parsed.keywords))
    except (Exception, SystemExit) as error:
        raise _user_error(error, f"calling {parsed.path}()", "created") from error


def require_wsgi(app: Any, parsed: ImportString) -> None:
    """Check that a server can call an object.

    Args:
        app: The object.
        parsed: Its name.

    Raises:
        TargetError: It is not a WSGI app, but perhaps a factory.
    """
    if not callable(app):
        reason = f"{parsed.path} is not a WSGI app but of type {type(app).__name__}"
        raise TargetError(reason, _SERVABLE)
    try:
        signature = inspect.signature(app)
    except Exception:  # noqa: BLE001 - written in C, or an object of the user: unknown
        return
    if _accepts(signature, {}, None):
        return
    is_factory = not parsed.is_call and _accepts(signature)
    raise TargetError(
        f"{parsed.path}{signature} cannot be called with environ and start_response",
        f"If it is a factory, write {parsed.module}:{parsed.path}()" if is_factory else _SERVABLE,
    )


def _accepts(signature: inspect.Signature, *arguments: object) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _parse(module: str, node: ast.expr) -> ImportString:
    if not isinstance(node, ast.Call):
        return ImportString(module, _names(node))
    arguments = tuple(ast.literal_eval(argument) for argument in node.args)
    keywords = tuple((str(k.arg), ast.literal_eval(k.value)) for k in node.keywords)
    return ImportString(module, _names(node.func), arguments, keywords, is_call=True)


def _names(node: ast.expr) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        return (*_names(node.value), node.attr)
    raise ValueError(ast.dump(node))


def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            hint = f"did you mean {name[:-3]}?" if name.endswith(".py") else ""
            remedy = "Correct the name, or run this in the directory that has the module"
            raise TargetError(
                f"there is no module {error.name!r} in {os.getcwd()}, and none is installed",
                f"Name the module, not its file: {hint}" if hint else remedy,
            ) from error
        raise _user_error(error, f"importing {name}", "imported") from error


def _attribute(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError as error:
        known = _public_names(holder)
        close = difflib.get_close_matches(name, known, n=1)
        listed = ", ".join(known[:_MAX_NAMES] + ["..."] * (len(known) > _MAX_NAMES)) or "none"
        hint = f"did you mean {close[0]!r}?" if close else f"it has {listed}"
        own_name = static_attribute(holder, "__name__")
        shown = f"the {type(holder).__name__}" + (
            f" {own_name!r}" if isinstance(own_name, str) else ""
        )
        remedy = "Name the object that the server gets, as MODULE:NAME"
        raise TargetError(f"{shown} has no {name!r}: {hint}", remedy) from error
    except Exception as error:
        raise _user_error(error, f"getting {name}", "loaded") from error


def _public_names(holder: Any) -> list[str]:
    try:
        return [name for name in dir(holder) if not name.startswith("_")]
    except Exception:  # noqa: BLE001 - an object of the user
        return []


def _user_error(error: BaseException, doing: str, done: str) -> TargetError:
    place = place_of_error(error)
    where, lines = place or doing, lines_of_error(error)
    if isinstance(error, ConfigurationError):
        reason, remedy = f"{where}: the configuration is wrong", "Fix each of the problems"
        return TargetError(reason, remedy, lines, error.problems)
    if isinstance(error, SystemExit):
        code = redact(repr(error.code))
        reason = f"the app calls sys.exit({code}) while it is {done}"
        remedy = "Raise an exception that has the reason, or do not exit"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        reason, remedy = format_error(error), f"Install the package that has {error.name}"
    else:
        reason = f"{type(error).__name__}: {format_error(error)}"
        remedy = f"Fix {'this line of the app' if place else 'the app'}, or what it needs"
    return TargetError(f"{where}: {reason}", remedy, lines)
