"""Hides credentials in text that is shown or logged."""

from __future__ import annotations

import re

MASK = "***"

# scheme://user:password@host. A password may hold any character, an unquoted "/" or "@"
# too (SQLAlchemy accepts both), so the match runs to the last "@" of the word: rather a
# host hidden than half a password shown. It is bounded so that no text can make it slow.
_URL_PASSWORD = re.compile(
    r"(\b[a-z][a-z0-9+.-]{0,63}://[^\s:/@]{0,256}:)\S{0,2048}(?=@)", re.IGNORECASE
)

# password=..., 'password': '...', PWD=...; as in libpq and ODBC connection strings, query
# strings and the repr of keyword arguments.
_KEY_PASSWORD = re.compile(
    r"""(\b\w*(?:password|passwd|pwd)\b['"]?\s*[=:]\s*)   # the key and its sign
        (?:"[^"]*"|'[^']*'|[^\s,;&)}'"]+)                 # the value, quoted or bare""",
    re.IGNORECASE | re.VERBOSE,
)


def mask_credentials(text: str) -> str:
    """Replace every password that can be recognised in ``text`` by ``***``.

    Args:
        text: Any text, such as that of an exception or a traceback.

    Returns:
        The text with the passwords of URLs (``redis://:secret@host``) and of key-value
        pairs (``password=secret``) masked.
    """
    return _KEY_PASSWORD.sub(rf"\g<1>{MASK}", _URL_PASSWORD.sub(rf"\g<1>{MASK}", text))


def describe(error: BaseException) -> str:
    """Say what an exception says, with credentials masked.

    Args:
        error: Any exception, even one whose own ``__str__`` raises.

    Returns:
        Its text, or its class name where it has none.
    """
    return mask_credentials(text_of(error)) or type(error).__name__


def text_of(value: object) -> str:
    """Return ``str(value)``, whatever that does.

    Args:
        value: Anything.

    Returns:
        Its text, or a placeholder naming its type when ``__str__`` raises.
    """
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the object is the user's, and its text is for a report
        return f"<{type(value).__name__} that cannot be shown>"
