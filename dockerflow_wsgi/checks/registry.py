"""`CheckRegistry`: the registered checks."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    CheckFunction = Callable[[], Any]
    Functions = dict[str, CheckFunction]  # by name

F = TypeVar("F", bound="Callable[..., Any]")


class ChecksMixin:
    """Methods that register checks in ``self.registry``."""

    __slots__ = ()

    registry: CheckRegistry

    @overload
    def check(self, func: F, name: str | None = None) -> F: ...

    @overload
    def check(self, func: None = None, name: str | None = None) -> Callable[[F], F]: ...

    def check(self, func: F | None = None, name: str | None = None) -> F | Callable[[F], F]:
        """Register a check; usable as a decorator, with and without parentheses.

        A function with the same module and qualified name replaces the registered one, so that
        an application factory can be called twice.

        Args:
            func: The check: a function without arguments, plain or ``async``, that returns
                messages (see `dockerflow_wsgi.checks.CheckMessage`) or ``None``.
            name: The check's name; by default the function's name.

        Returns:
            The function.

        Raises:
            TypeError: ``func`` is not callable, or has no name and none was given.
            ValueError: Another function is registered under the name.
        """
        if func is None:
            return lambda function: self.check(function, name)
        self.registry.add(func, name)
        return func

    def init_check(
        self, check: Callable[..., Any], obj: object, name: str | None = None, **options: object
    ) -> None:
        """Register a check that takes an object, such as a built-in one; see `check`.

        Args:
            check: A function with that argument.
            obj: The argument, such as an engine or a client.
            name: The check's name; by default the function's name.
            **options: Keyword arguments for the function.

        Raises:
            ValueError: The name is taken, or the check is registered with another object.
        """
        self.registry.add(partial(check, obj, **options), name or getattr(check, "__name__", None))


class CheckRegistry(ChecksMixin):
    """A set of checks in the order of registration, for one middleware or for several."""

    def __init__(self) -> None:
        self.registry = self
        self._functions: Functions = {}
        self.runs: dict[tuple[str, int, int], Any] = {}  # of CheckRunner, those that are not over

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the checks, in the order of their registration."""
        return tuple(self._functions)

    @property
    def functions(self) -> Functions:
        """The checks by name, in the order of their registration, as a copy."""
        return self._functions.copy()

    def __repr__(self) -> str:
        return f"<CheckRegistry: {', '.join(self.names) or 'no checks'}>"

    def add(self, function: CheckFunction, name: str | None) -> None:
        """Register a check; see `check`."""
        name = name or getattr(function, "__name__", None)
        if not callable(function) or not isinstance(name, str):
            kind = type(function).__name__
            raise TypeError(f"a check is a function, or a callable with name=..., not a {kind}")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            from . import event_loop  # noqa: F401 - it imports asyncio; see there
        registered = self._functions.setdefault(name, function)
        if _is_same(registered, function):
            return
        if not _is_same_definition(registered, function):
            text = f"a check named {name!r} is registered already, for {registered!r}: "
            text += f"give {function!r} another name with name=..."
            raise ValueError(redact(text))
        self._functions[name] = function


def _is_same_definition(one: CheckFunction, other: CheckFunction) -> bool:
    if not (inspect.isfunction(one) and inspect.isfunction(other)):
        return False
    if one.__name__ == "<lambda>":  # all lambdas of a module share one qualified name
        return False
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _is_same(one: CheckFunction, other: CheckFunction) -> bool:
    if isinstance(one, partial) and isinstance(other, partial):
        return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
    return one == other  # bound methods are equal, not identical
