"""The exceptions of this package, all under one root."""

from __future__ import annotations

from collections.abc import Iterable


class DockerflowError(Exception):
    """The root of every exception that this package defines."""


class ConfigurationError(DockerflowError, ValueError):
    """One or more settings are wrong; raised when the middleware is built.

    Args:
        problems: One line per wrong setting: its name, its value, where the value came
            from and what is accepted.

    Attributes:
        problems: The same lines, as a tuple.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        title = "1 setting is wrong" if count == 1 else f"{count} settings are wrong"
        super().__init__("\n  ".join([f"{title}:", *self.problems]))


class InitializedTwiceError(DockerflowError, RuntimeError):
    """An app was given a second extension, or the same one again."""


class ListenError(DockerflowError, OSError):
    """The endpoints cannot be served at the address; the text says why and what to do."""


class TargetError(DockerflowError, ValueError):
    """``MODULE:NAME`` names nothing that can be used.

    The text is the reason, the problems and the remedy.

    Args:
        reason: Why.
        remedy: What to do.
        stack: Where the user's code was, the innermost line last.
        problems: One line per wrong setting, if these are the reason.

    Attributes:
        reason: Why.
        remedy: What to do.
        stack: Where the user's code was, as a tuple.
        problems: The settings' lines, as a tuple.
    """

    def __init__(
        self, reason: str, remedy: str, stack: Iterable[str] = (), problems: Iterable[str] = ()
    ) -> None:
        self.reason = reason
        self.remedy = remedy
        self.stack = tuple(stack)
        self.problems = tuple(problems)
        told = ": ".join([reason, *filter(None, ["; ".join(self.problems)])])
        super().__init__(f"{told.removesuffix('.')}. {remedy}")


class VersionError(DockerflowError, ValueError):
    """The version object exists and cannot be served.

    The text names the file by its base name only, because it is shown to whoever asks
    for ``/__version__``.

    Args:
        text: What is wrong and what was expected.
        path: The full path of the file, for the log; ``""`` when there is no file.
    """

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.path = path
