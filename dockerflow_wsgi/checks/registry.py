"""The registered checks."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..redaction import redact
from .run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .outcome import CheckContext

    Runs = dict[tuple[int, CheckContext], Run]
    CheckFunction = Callable[[], Any]

F = TypeVar("F", bound="Callable[..., Any]")


class RegisteredCheck:
    """A check in a registry, which runs at most once at a time in this process.

    Args:
        name: Its name in the registry.
        function: What is called, without arguments.
        runs: The runs of this name that are under way.

    Attributes:
        name: Its name in the registry.
        function: What is called.
    """

    __slots__ = ("_runs", "function", "name")

    def __init__(self, name: str, function: CheckFunction, runs: Runs) -> None:
        self.name = name
        self.function = function
        # By process, for a fork copies the run, but not the thread that would end it.
        # setdefault() and pop() are atomic: no lock that a fork could leave locked.
        self._runs = runs

    def run(self, context: CheckContext, deadline_s: float | None) -> tuple[Run, bool]:
        """Join the run that is under way, or make a new one.

        Args:
            context: Makes the context manager that the check runs in; a run in another context
                is another run.
            deadline_s: How long the heartbeat waits, in seconds of the monotonic clock; ``None``
                for as long as it takes.

        Returns:
            The run, which the caller has to start, and whether it is new.
        """
        key = (os.getpid(), context)
        forget = partial(self._runs.pop, key, None)
        new = Run(self.name, self.function, context, deadline_s, forget)
        run = self._runs.setdefault(key, new)
        return run, run is new


class CheckRegistry:
    """A set of checks, in the order of their registration.

    Each middleware has one of its own, unless one is shared by passing it to several.

    Example:
        >>> registry = CheckRegistry()
        >>> @registry.check
        ... def storage_reachable():
        ...     return []
        >>> list(registry.names)
        ['storage_reachable']
    """

    __slots__ = ("_checks", "_runs", "version")

    def __init__(self) -> None:
        self._checks: dict[str, RegisteredCheck] = {}
        self._runs: dict[str, Runs] = {}  # outlive their check: it may be registered again
        self.version = 0  #: Grows whenever a check comes or goes.

    @overload
    def check(self, func: F, name: str | None = None) -> F: ...

    @overload
    def check(self, func: None = None, name: str | None = None) -> Callable[[F], F]: ...

    def check(self, func: F | None = None, name: str | None = None) -> F | Callable[[F], F]:
        """Register a check; a decorator, with and without parentheses.

        Args:
            func: The check: a function without arguments, plain or ``async``, that returns
                messages (see `dockerflow_wsgi.checks.CheckMessage`), none if all is well.
            name: Its name; by default the function's.

        Returns:
            The function itself.

        Raises:
            TypeError: ``func`` cannot be called, or has no name and none was given.
            ValueError: Another function has that name.
        """
        if func is None:
            return lambda function: self.check(function, name)
        self._add(func, name)
        return func

    def init_check(
        self, check: Callable[..., Any], obj: object, name: str | None = None, **options: object
    ) -> None:
        """Register a check that needs to be called with an object.

        Args:
            check: A function of that object, such as the built-in checks.
            obj: What it is called with, such as an engine or a client.
            name: Its name; by default the function's.
            **options: Keyword arguments for the function.

        Raises:
            TypeError: ``check`` cannot be called, or has no name and none was given.
            ValueError: Another function has that name, or this one with another object.
        """
        self._add(partial(check, obj, **options), name or getattr(check, "__name__", None))

    def remove(self, name: str) -> None:
        """Take a check out; a run of it that is under way goes on.

        Args:
            name: The check's name.

        Raises:
            KeyError: There is no such check.
        """
        if self._checks.pop(name, None) is None:
            raise KeyError(f"no check is named {name!r}: the names are {', '.join(self.names)}")
        self.version += 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the checks, in the order of their registration."""
        return tuple(self._checks)

    def __iter__(self) -> Iterator[RegisteredCheck]:
        return iter(list(self._checks.values()))  # a check may register another one meanwhile

    def __len__(self) -> int:
        return len(self._checks)

    def __contains__(self, name: object) -> bool:
        return name in self._checks

    def __repr__(self) -> str:
        return f"<CheckRegistry: {', '.join(self.names) or 'no checks'}>"

    def _add(self, function: CheckFunction, name: str | None) -> None:
        if not callable(function):
            raise TypeError(f"a check must be a function, not a {type(function).__name__}")
        name = name or getattr(function, "__name__", None)
        if not isinstance(name, str):
            kind = type(function).__name__
            raise TypeError(f"a {kind} has no __name__ of its own: register it with name=...")
        new = RegisteredCheck(name, function, self._runs.setdefault(name, {}))
        registered = self._checks.setdefault(name, new)
        if registered is new:
            self.version += 1
        elif not _is_same(registered.function, function):
            text = f"a check named {name!r} is registered already, for {registered.function!r}: "
            text += f"give {function!r} another name with name=..."
            raise ValueError(redact(text))


class RegistersChecks:
    """Registers checks with the registry that it has.

    Attributes:
        registry: The registry.
    """

    registry: CheckRegistry

    @overload
    def check(self, func: F, name: str | None = None) -> F: ...

    @overload
    def check(self, func: None = None, name: str | None = None) -> Callable[[F], F]: ...

    def check(self, func: F | None = None, name: str | None = None) -> F | Callable[[F], F]:
        """Register a check, a decorator; see `CheckRegistry.check`."""
        return self.registry.check(name=name) if func is None else self.registry.check(func, name)

    def init_check(
        self, check: Callable[..., Any], obj: object, name: str | None = None, **options: object
    ) -> None:
        """Register a check that is called with an object; see `CheckRegistry.init_check`."""
        self.registry.init_check(check, obj, name, **options)


def _is_same(one: CheckFunction, other: CheckFunction) -> bool:
    if isinstance(one, partial) and isinstance(other, partial):
        return _parts(one) == _parts(other)
    return one == other  # bound methods are equal, not identical


def _parts(check: partial[Any]) -> tuple[object, ...]:
    return (
        check.func,
        [id(argument) for argument in check.args],
        {name: id(value) for name, value in check.keywords.items()},
    )
