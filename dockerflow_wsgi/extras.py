"""Names the extra to install where an optional package is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import optional packages inside this context.

    Args:
        name: The extra of this distribution that brings the packages.

    Yields:
        Nothing.

    Raises:
        ImportError: A package is missing; the text says what to install.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{error}: install it with  pip install 'dockerflow-wsgi[{name}]'"
        ) from error
