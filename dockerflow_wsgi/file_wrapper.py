"""``wsgi.file_wrapper``: files that a server sends by itself, often by ``sendfile``.

It does so only for the very object that its wrapper made (PEP 3333), which we therefore must
recognise and must not wrap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIEnvironment

ENVIRON_KEY = "wsgi.file_wrapper"


class FileWrapperRecorder:
    """Stands in for a server's ``wsgi.file_wrapper`` that is a function.

    What a class made can be told by its type; what a function made must be remembered.

    Args:
        make: The server's function.

    Attributes:
        made: What it returned last; ``None`` before.
    """

    __slots__ = ("_make", "made")

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.made: object = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the server's function, and remember what it returns."""
        self.made = self._make(*arguments, **keywords)
        return self.made


def expect_file(environ: WSGIEnvironment) -> None:
    """Prepare the environ so that `is_file` can tell the server's file wrapper.

    Args:
        environ: The request. A wrapper that is a class stays as it is, because gunicorn and
            others look it up in the environ again to recognise its instances.
    """
    wrapper = environ.get(ENVIRON_KEY)
    if wrapper is not None and not isinstance(wrapper, type):
        environ[ENVIRON_KEY] = FileWrapperRecorder(wrapper)


def is_file(iterable: object, environ: WSGIEnvironment) -> bool:
    """Tell whether the server's file wrapper made a body.

    Args:
        iterable: What the app returned.
        environ: The request.

    Returns:
        Whether the server may send the file by itself.
    """
    wrapper = environ.get(ENVIRON_KEY)
    if isinstance(wrapper, type):
        return isinstance(iterable, wrapper)
    return isinstance(wrapper, FileWrapperRecorder) and iterable is wrapper.made
