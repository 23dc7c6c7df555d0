"""Remove credentials from text that is logged or returned.

Redaction goes by patterns: a secret that does not look like one is shown. It takes linear time for
any text: repetitions are bounded, or nothing that could fail follows them.
"""

from __future__ import annotations

import re
from functools import cache

MASK = "***"
MAX_LENGTH = 4000
"""Characters of a text that are redacted and shown; see `truncate`."""

# The stem of a key. What stands before it does not matter: PGPASSWORD, dbPassword, AWS_SECRET_...
_STEM = r"""(?:
    pass(?:word|wd|phrase|code) | pwd(?!["']?[=:]\s?/(?-i:[a-z]))
    | (?<!\d:)secret | credential
    | (?<!expected\ )(?<!illegal\ )(?<!unknown\ )(?<!next)(?<!page)(?<!next[_-])(?<!page[_-])
      (?<!continuation)(?<!continuation[_-])token
    | (?:api|access|account|admin|auth|client|encryption|fernet|functions|license|master|private
        |service|session|shared|signing|ssh|storage|subscription)[-_. ]?key
    | (?:admin|db|key|proxy|root|smtp|store|user)pass | sess(?:ion)?[-_]?id
    | (?:(?<=[-_.])|(?<=[a-z])(?-i:(?=P))|(?<![\w-]))(?:pass(?!["']?[:=]\ ?\d)|pw|otp)(?![a-z]))
"""
# The rest of the key: password2, secret_key, SecretString; but not token_type or max_tokens=100.
_SUFFIX = r"""
    (?!s?[-_.]?(?:types?|ur[li]|endpoint|name|count|limit|length|min|max|age|timeout|ttl|lifetime
        |expir\w{1,9}|policy|hashers|validators|fields?|file|path|arn|version|usage|reset|stdin|header)
        (?![a-z]))
    (?!s["']?[=:]\s?\d)
    s?\d{0,3}(?:access)?(?:key|hash|value|id)?(?:[-_.][\w.-]{0,40}|(?-i:[A-Z])\w{0,40})?(?!\w)
    (?:\[\w{0,20}\]|\]|%5D|\)(?==\())?
"""
_KEY = _STEM + _SUFFIX
_QUOTE = r"""(?:\\{0,7}["']|&quot;|&\#(?:3[49]|x27);|%22)"""
_PROSE = r"[ ]{0,8}[a-z]{1,15}[ ]+(?-i:[a-z(]|[A-Z][A-Za-z]{1,20}[ ])"  # "password: too short"
_BETWEEN = rf"""(?:
    (?:{_QUOTE}|["'`]{{1,2}})?[ \t]{{0,8}}(?:=>|->|:=|={{1,3}}|%3D|(?::|%3A)(?!{_PROSE}))
      (?:[ \t]|%20){{0,8}}(?:[|>][-+]?\s{{1,20}})?                  # also a block of YAML
    | {_QUOTE}?,?\s{{0,20}}{_QUOTE}?value{_QUOTE}?[ ]{{0,4}}[:=][ ]{{0,4}}  # name: K, value: V
    | \s(?:is|was)\s(?=["']|\S{{0,30}}\d)
    | \n[^\n]{{0,300}}?\binput_value=                               # Pydantic
    | "(?:\r?\n){{2}}                                               # multipart/form-data
    | ["'],[ ]?(?=b?["'][^"'\n]{{1,400}}["']\)))                    # ('token', 'value')
"""
_OPEN = (
    rf"""(?:[bfnru]{{0,2}}(?P<quote>{_QUOTE}) | (?P<list>[\[(])(?=b?["'][^\s"']{{1,80}}["']))?"""
)
# A list up to its end, a quoted value up to the next such quote, a bare one up to a delimiter.
# Words such as "None", placeholders and reprs of objects stay.
_VALUE = r"""
    (?!(?:none|null|nil|undefined|true|false|yes|no|eof|str|bytes|\*{3,40}|\.{3})
       (?(quote)\\{0,7}["']|(?:[\s,;)\]}&<\\"']|\Z)))
    (?(list)[^\])]+|(?(quote)(?:(?!(?<!\\)(?P=quote)).|(?P=quote){2})+
    |(?!["']|[\[(]["'\s\])]|<[a-z]|\$\d\b|(?-i:\$[A-Z_]{2})|\$?\{[\s"'\\{]|%s\b|%\(|\?(?!\w)
       |:[a-z_]+\b)
     (?:\{[^}]*\}?|[\w.]{1,60}\([^)\n]*
       |(?:\\.|(?!%3B|%26)[^\s,;&)}\]'"<>\\`]|[)}\]'"<>`](?=\w)|,(?=\w)(?!\w{1,40}=))+)))
"""
# SQLAlchemy's statement and parameters, which follow the driver's message.
_SQL = re.compile(r"(?s:(?:\s|\\n)?\[SQL: .*?(?=(?:\s|\\n)[ |]{0,40}\(Background on this|\Z))")

# What stands before a credential, and the form of the credential.
_FORMS = (
    (r"-----BEGIN\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY[A-Z\ ]{0,10}-----", r".*?(?=-----END\ |\Z)"),
    # JSON Web Tokens, tokens of well-known services, hashes of passwords.
    (
        r"""\b(?=eyJ|(?:gh[opsur]_|github_pat_|glpat-|xox[a-z]-|npm_|hvs\.|pypi-|[rs]k_(?:live|test)_
        |sk-|SG\.|AIza|ya29\.)[\w.-]{0,60}\d)
        |(?<=hooks\.slack\.com)/services/|/webhooks/\d{1,30}/|/bot(?=\d{6,20}:)""",
        r"[\w.:/-]{10,}",
    ),
    (r"\$(?:2[aby]|apr1|[156]|argon2\w{0,2})\$", r"[^\s'\",:]+"),
    # Headers; without quotes up to the end of the line.
    (rf"(?:authorization|cookies?){_QUOTE}?\s?[=:,]\s?b?{_QUOTE}", r"""[^"'\\\n]+"""),
    (
        r"authorization\s?[=:]\s?(?!none\b)|cookies?\s?[=:]\s?(?=[^\s=:]{1,64}=)|<Cookie\s",
        r"""(?:[^\r\n"'>]|(?<==)"[^"\n]*")+""",
    ),
    (
        r"(?<![/\w])(?:bearer|basic|negotiate|token|api-?key)\s{1,4}(?=\S{0,60}(?:\d|(?-i:[a-z][A-Z])))",
        r"[\w.~+/-]{4,}={0,2}",
    ),
    # Keys and values; XML elements; options.
    (rf"{_KEY}{_BETWEEN}{_OPEN}", _VALUE),
    (rf"<[\w:.-]{{0,40}}{_KEY}(?:\s[^<>]{{0,200}})?>(?:<!\[CDATA\[)?(?!\ )", r"[^<]+"),
    (
        rf"""(?:(?<![\w-])--?[\w-]{{0,30}}{_KEY}(?:["'],)?[ ]
        |\b(?:(?:login|mysql|mariadb|sshpass|mongo)[^\n]{{0,200}}?[\s"'](?-i:-p)
          |redis-cli\b[^\n]{{0,200}}?[\s"']-a)(?:["'],)?
        |(?<![\w-])(?:-u|--user)["',=\s]{{1,4}}[^\s:'"]{{1,60}}:(?!\d{{1,5}}\b))
        [ ]{{0,4}}(?!["']?-){_OPEN}""",
        _VALUE,
    ),
    # SQL, Redis, .netrc, SMTP; HTTP authentication in Python and JSON.
    (
        rf"""\b(?:identified\s{{1,4}}(?:with\s{{1,4}}\S{{1,40}}\s{{1,4}})?(?:by|as)\s{{1,4}}
        (?:password\s{{1,4}})?|password(?:\s{{1,4}}|\s?\(\s?)(?=["'])
        |(?:requirepass|masterauth|login\s\S{{1,60}}\spassword)["']?\s{{1,4}}
        |(?-i:AUTH)\s(?:PLAIN|LOGIN)\s|auth"\s(?:"[^"\n]{{1,60}}"\s(?="))?){_OPEN}""",
        _VALUE,
    ),
    (r"""(?<![a-z])auth["']?\s?[=:]\s?(?:\([^,()]{1,80},\s?)?["']""", r"""[^"'\n]+"""),
    # Signatures; short keys in query strings; URLs in query strings, and those of Oracle.
    (r"""(?:signature|sig|hmac)(?:provided)?["']?\s?[=:>]\s?["']?""", r"[\w%+/=.~-]{16,}"),
    (
        r"[?&](?:(?:sig|signature|x-\w{2,6}-credential)=|(?:key|code|auth)=(?=[^\s&]{12}))",
        r"""[^\s&\#"']+""",
    ),
    (r"(?:%2F%2F[^\s%&:@/]{0,64}(?:%3A|:)|:thin:[^\s/]{1,60}/)", r"[^\s&]{1,256}?(?=%40|@)"),
    # Where a URL's password was taken to end at its first "@", drivers call the rest the host.
    (
        r"""\b(?:host|name|server\ (?:on|at)|connecting\ to|found\ for|URL|from\ string)\s["']?""",
        r"""[^'"\n]{1,256}(?=@)""",
    ),
    (
        rf"""(?:Port\ could\ not\ be\ cast\ to\ integer\ value\ as|Invalid\ port:
        |missing\ "="\ after)\s{_OPEN}""",
        _VALUE,
    ),
    # Parts of statements, and values, in messages of PostgreSQL and MySQL.
    (
        r"^LINE\ \d+:\ |Key\ \([^\n]{1,99}?\)=\(|Failing\ row\ contains\ \(|Duplicate\ entry\ '",
        r"(?:[^\n]{1,400}(?=\)(?:\.$|\ already|\ is\ |\ conflicts)|'\ for\ key)|[^\n]+)",
    ),
    (r"with\ args\ beginning\ with:\s", r".+"),  # an old Redis repeats what it does not know
)
_FLAGS = re.IGNORECASE | re.VERBOSE | re.DOTALL | re.MULTILINE
_LAST_WORD = re.compile(r"\s\S*\Z")
_URL = re.compile(r"(:?(?:\\?/){2,4}|:/)")
_USER = re.compile(r"([^\s/?#:@'\"<>\[\]]*)([:@])")
_PLAIN_USER = re.compile(r"[a-z_-]{0,16}")  # such as "git" in ssh://git@host
_PORT = re.compile(  # or a placeholder
    r"""\d{1,5}(?![^\s/?#"'`,;.:)\]}>\\])
    |(?:\{[\w.]*\}|\$\{\w+\}|\$[A-Z_]{3,}|%s|%\(\w+\)s|<[\w\ ]+>)(?=[@:/\s'"]|\Z)""",
    re.VERBOSE,
)
# Up to the last "@" of the word, else to an "@" of the line, else the part that is not a host.
_PASSWORDS = [
    re.compile(r"""[^\s"'<>`]*(?=@(?!sha\d))"""),
    re.compile(r"\S*(?=@(?!sha\d))"),
    re.compile(r"[^@\n]{1,256}(?=@(?!sha\d))"),
    re.compile(r"""[^\s/?#'"@]+(?![^\s/?#'"])"""),
]


def redact(text: str) -> str:
    """Replace the credentials in a text by ``***``.

    This covers user information in URLs, values of keys such as ``password`` or ``client_secret``,
    ``Authorization`` and cookies, private keys, JSON Web Tokens, and the statement and parameters
    in an error of SQLAlchemy.

    Args:
        text: Any text, such as that of an exception or a traceback.

    Returns:
        The text without credentials. What is not recognized stays.
    """
    parts = _URL.split(text)
    for index in range(2, len(parts), 2):
        parts[index] = _redact_user_info(parts[index - 2], parts[index - 1], parts[index])
    text = _SQL.sub("", "".join(parts))
    for pattern in _patterns():
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def format_error(error: BaseException) -> str:
    """Return the text of an exception, shortened and without credentials.

    Args:
        error: Any exception, even one whose ``__str__`` raises.

    Returns:
        Its text, or the name of its class if it has no text.
    """
    return redact(truncate(safe_str(error))) or type(error).__name__


def truncate(text: str) -> str:
    """Shorten a text to 4,000 characters.

    A part of a credential may not look like one. So the text ends before a URL that begins in the
    last 1,000 characters, or else before the word at the cut.
    """
    if len(text) <= MAX_LENGTH:
        return text
    note = f"... ({len(text)} characters)"
    last = MAX_LENGTH - len(note)
    url = text.rfind("//", last - 1000, last)
    return (_LAST_WORD.sub("", text[:last]) if url < 0 else text[:url]) + note


def safe_str(value: object) -> str:
    """Return ``str(value)``, or a placeholder that names the type if that raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the object is the user's
        return f"<{type(value).__name__} that cannot be shown>"


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Compile the patterns when first needed, because it takes 30 ms."""
    return tuple(re.compile(f"({before}){credential}", _FLAGS) for before, credential in _FORMS)


def _redact_user_info(scheme: str, slashes: str, rest: str) -> str:
    """Redact what follows the ``://`` of a URL.

    A password may have any character, as SQLAlchemy accepts an unquoted ``/`` or ``@``: it ends at
    the last ``@`` of the word. Hiding a part of the host is better than showing a password.
    """
    found = _USER.match(rest)
    if found is None:
        return rest
    user, sign = found.groups()
    start = found.end()
    has_scheme = len(slashes) > 2  # else it is "//" or ":/", which may be a path
    if sign == "@":
        is_name = _PLAIN_USER.fullmatch(user) and not scheme.endswith(("http", "https"))
        return rest if is_name or not has_scheme else f"{MASK}@{rest[start:]}"
    if _PORT.match(rest, start):
        return rest
    for pattern in _PASSWORDS if has_scheme else _PASSWORDS[:1]:
        if password := pattern.match(rest, start):
            return f"{rest[:start]}{MASK}{rest[password.end() :]}"
    return rest
