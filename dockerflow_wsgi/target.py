"""``MODULE:NAME`` on a command line, and what it names."""

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

from .errors import ConfigurationError, TargetError
from .find_middleware import static_attribute
from .redaction import format_error, redact
from .stack import place_of_error, stack_of_error

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_EXPECTED = "Write MODULE:NAME, such as acme.wsgi:app or acme.worker:registry, or acme:create_app()"
_SERVABLE = "Name a callable that takes environ and start_response, or a CheckRegistry"
_MAX_NAMES = 10


@dataclass(frozen=True, slots=True)
class Target:
    """``MODULE:NAME``, as gunicorn understands it.

    Attributes:
        module: The module's name.
        names: The attribute, or the way to it.
        arguments: What the attribute is called with, if it is a factory.
        keywords: The same by name.
        is_call: Whether it is a factory.
    """

    module: str
    names: tuple[str, ...]
    arguments: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()
    is_call: bool = False

    @property
    def path(self) -> str:
        """The names, as they stand behind the colon."""
        return ".".join(self.names)


def parse_target(text: str) -> Target:
    """Read ``MODULE:NAME``, ``MODULE:NAME.ATTRIBUTE`` or ``MODULE:FACTORY(...)``.

    Args:
        text: What the operator wrote; a factory's arguments are literals.

    Returns:
        The target.

    Raises:
        TargetError: It is something else.
    """
    module, _, expression = text.partition(":")
    try:
        node = ast.parse(expression.strip(), mode="eval").body
        target = _target(module, node)
    except (SyntaxError, ValueError) as error:
        raise TargetError(f"{text!r} cannot be read", _EXPECTED) from error
    if not _MODULE.fullmatch(module):
        raise TargetError(f"{text!r} cannot be read", _EXPECTED)
    return target


def load_target(target: Target) -> Any:
    """Import a module, the current directory's first, and get an object from it.

    Args:
        target: What to load.

    Returns:
        The object, or what the factory returned.

    Raises:
        TargetError: The module cannot be imported, it has no such name, or the factory raised;
            or the current directory is gone.
    """
    directory = _current_directory()
    if directory not in sys.path:
        sys.path.insert(0, directory)  # an installed script has its own directory there
    found = _module(target.module)
    for name in target.names:
        found = _attribute(found, name)
    return _called(found, target) if target.is_call else found


def require_wsgi(app: Any, target: Target) -> None:
    """See that a server could call what was loaded.

    Args:
        app: What was loaded.
        target: What named it.

    Raises:
        TargetError: It is not a WSGI app, but perhaps a factory.
    """
    if not callable(app):
        reason = f"{target.path} is not a WSGI app but of type {type(app).__name__}"
        raise TargetError(reason, _SERVABLE)
    try:
        signature = inspect.signature(app)
    except Exception:  # noqa: BLE001 - written in C, or an object of the user's: it does not tell
        return
    if _takes(signature, {}, None):
        return
    is_factory = not target.is_call and _takes(signature)
    factory = f"If it is a factory, write {target.module}:{target.path}()"
    raise TargetError(
        f"{target.path}{signature} cannot be called with environ and start_response",
        factory if is_factory else _SERVABLE,
    )


def _takes(signature: inspect.Signature, *arguments: object) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _current_directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        remedy = "Go to it anew, or to another one, and run this there"
        raise TargetError("the current directory is gone", remedy) from error


def _target(module: str, node: ast.expr) -> Target:
    if not isinstance(node, ast.Call):
        return Target(module, _names(node))
    arguments = tuple(ast.literal_eval(argument) for argument in node.args)
    keywords = tuple((str(k.arg), ast.literal_eval(k.value)) for k in node.keywords)
    return Target(module, _names(node.func), arguments, keywords, is_call=True)


def _names(node: ast.expr) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        return (*_names(node.value), node.attr)
    raise ValueError(ast.dump(node))


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and _is_part_of(error.name, name):
            raise TargetError(
                f"there is no module {error.name!r} in {os.getcwd()}, nor is one installed",
                "Correct the name, or run this in the directory that holds it",
            ) from error
        raise _broken(error, f"importing {name}", "imported") from error


def _is_part_of(name: str | None, module: str) -> bool:
    return name is not None and f"{module}.".startswith(f"{name}.")


def _attribute(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError as error:
        known = _names_in(holder)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {_listed(known)}"
        raise TargetError(
            f"{_shown(holder)} has no {name!r}: {hint}",
            "Name what the server is given, as MODULE:NAME",
        ) from error
    except Exception as error:
        raise _broken(error, f"getting {name}", "loaded") from error


def _names_in(holder: Any) -> list[str]:
    try:
        return [name for name in dir(holder) if not name.startswith("_")]
    except Exception:  # noqa: BLE001 - the object is the user's
        return []


def _listed(names: list[str]) -> str:
    more = ["..."] if len(names) > _MAX_NAMES else []
    return ", ".join(names[:_MAX_NAMES] + more) or "none"


def _shown(holder: Any) -> str:
    name = static_attribute(holder, "__name__")
    return f"the {type(holder).__name__}" + (f" {name!r}" if isinstance(name, str) else "")


def _called(factory: Any, target: Target) -> Any:
    try:
        return factory(*target.arguments, **dict(target.keywords))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _broken(error, f"calling {target.path}()", "made") from error


def _broken(error: BaseException, doing: str, done: str) -> TargetError:
    place = place_of_error(error)
    where, stack = place or doing, stack_of_error(error)
    if isinstance(error, ConfigurationError):
        reason, remedy = f"{where}: the configuration is wrong", "Fix each of its problems"
        return TargetError(reason, remedy, stack, error.problems)
    if isinstance(error, SystemExit):
        code = redact(repr(error.code))
        reason = f"the app calls sys.exit({code}) while it is {done}"
        remedy = "Let it raise an exception that says why, or not exit"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        reason, remedy = format_error(error), f"Install the package that brings {error.name}"
    else:
        reason = f"{type(error).__name__}: {format_error(error)}"
        remedy = f"Mend {'this line of the app' if place else 'the app'}, or what it needs"
    return TargetError(f"{where}: {reason}", remedy, stack)
