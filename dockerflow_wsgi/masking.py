"""Hides credentials in text that is shown or logged."""

from __future__ import annotations

import re

MASK = "***"
MAX_LENGTH = 4000
"""Characters of an exception's text that are masked and shown."""

# scheme://user:password@host, or a malformed URL without its "//". A password may hold any
# character, an unquoted "/" or "@" too (SQLAlchemy accepts both), so it is taken to end at
# the last "@" of the word: rather a host hidden than half a password shown. Neither of the
# expressions can be made slow by a text.
_WORD = re.compile(r"\S+")

# password=..., 'password': '...', PWD=...; as in libpq and ODBC connection strings, query
# strings and the repr of keyword arguments.
_KEY_PASSWORD = re.compile(
    r"""(\b\w*(?:password|passwd|pwd)(?:\b['"]?\s*[=:]\s*|%3D)   # the key and its sign
        |\b\w*(?:token|secret|api_?key)\b=)                      # words of prose, but for the sign
        (?:b?"(?:[^"\\]|\\.)*"?|b?'(?:[^'\\]|\\.)*'?|\{[^}]*\}      # the value, quoted
        |(?:(?!%3B)[^\s,;&)}'"])+)                                # or bare""",
    re.IGNORECASE | re.VERBOSE,
)

# A URL whose password has spaces; digits after the colon are a port.
_SPACED_PASSWORD = re.compile(r"(://[^\s:/@]*:)(?!\d+(?:[/?\#\s]|$))[^@\n]{1,256}(?=@)")

# Where a password without its "@" was taken for a port, and what parsers of URLs say of it.
_NO_PORT = re.compile(r"(://[^\s:/@\[\]]*:)(?!\d+(?:\W|$)|[{$%*])[^\s/?#'\"@]+(?=[\s/?#'\"]|$)")
_SAID_PORT = re.compile(
    r"((?:Port could not be cast to integer value as|invalid literal for int\(\) with base 10:) )"
    r"(?:'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?)"
)

# Where a URL's password was taken to end at its first "@", drivers call the rest the host.
_CALLED_HOST = re.compile(
    r"""(\b(?:host|host\ name|server\ on|server\ at)\s+(['"]))[^'"\n]*@(?=[^'"@\n]*\2)""",
    re.VERBOSE,
)

# What a Redis that does not know HELLO or AUTH answers: it repeats the command's arguments.
_REPEATED_ARGUMENTS = re.compile(r"(with args beginning with:).*", re.IGNORECASE | re.DOTALL)


def mask_credentials(text: str) -> str:
    """Replace every password that can be recognised in ``text`` by ``***``.

    Args:
        text: Any text, such as that of an exception or a traceback.

    Returns:
        The text with the passwords of URLs (``redis://:secret@host``) and of key-value
        pairs (``password=secret``) masked.
    """
    if "@" in text:
        text = _SPACED_PASSWORD.sub(rf"\g<1>{MASK}", _WORD.sub(_mask_url, text))
        text = _CALLED_HOST.sub(rf"\g<1>{MASK}@", text)
    text = _SAID_PORT.sub(rf"\g<1>{MASK}", _NO_PORT.sub(rf"\g<1>{MASK}", text))
    text = _REPEATED_ARGUMENTS.sub(rf"\g<1> {MASK}", text)
    return _KEY_PASSWORD.sub(rf"\g<1>{MASK}", text)


def describe(error: BaseException) -> str:
    """Say what an exception says, with credentials masked.

    Args:
        error: Any exception, even one whose own ``__str__`` raises.

    Returns:
        Its text, or its class name where it has none.
    """
    text = text_of(error)
    if len(text) > MAX_LENGTH:  # masking a longer one takes too long; a word may be a URL
        text = f"{text[:MAX_LENGTH].rpartition(' ')[0] or text[:MAX_LENGTH]}..."
    return mask_credentials(text) or type(error).__name__


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


def _mask_url(word: re.Match[str]) -> str:
    before, _, host = word[0].rpartition("@")
    scheme, slashes, rest = before.partition("://")
    if not slashes:
        scheme, rest = "", before
    user, _, password = rest.partition(":")
    return f"{scheme}{slashes}{user}:{MASK}@{host}" if password else word[0]
