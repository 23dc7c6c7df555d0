"""The settings: names, defaults, and where their values come from.

A setting ``x`` is read from the first of: the keyword argument ``x``, the environment variable
``DOCKERFLOW_X``, and with Flask ``app.config["DOCKERFLOW_X"]`` and
``app.config["DOCKERFLOW"]["x"]``.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from .errors import ConfigurationError, call_safely
from .redaction import redact

if TYPE_CHECKING:
    from typing import TypeAlias

    from _typeshed.wsgi import WSGIEnvironment

    DetailsPolicy: TypeAlias = str | Callable[[WSGIEnvironment], bool]
    """``"always"``, ``"never"``, or a callable that decides by the environ."""

ENVIRONMENT_PREFIX = "DOCKERFLOW_"
DEFAULT_PORT = 8000  # Dockerflow's README
LEVELS = {"info": 20, "warning": 30, "error": 40, "critical": 50}

_ALIASES = {"request_id_header_name": "request_id_header"}  # its name in python-dockerflow
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # "token" of RFC 9110, 5.6.2


# Parsers take the value of a setting, text from the environment or any object from code, and return
# what the package works with. They raise ValueError with what is expected.


def _parse_boolean(value: object) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("1, true, yes or on; 0, false, no or off")


def _parse_seconds(value: object) -> float:
    return _parse_number(value, "a number of seconds, 0 or more", lambda number: number >= 0)


def _parse_timeout(value: object) -> float | None:
    """Parse a deadline above 0 seconds; ``None`` or "none" for no deadline."""
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    expected = "a number of seconds above 0, or none to run the checks in the request's thread"
    return _parse_number(value, expected, lambda number: 0 < number <= threading.TIMEOUT_MAX)


def _parse_failed_status_code(value: object) -> int:
    return _parse_integer(value, "an HTTP status from 500 to 599", 500, 599)


def read_port(port: int | str | None) -> int:
    """Return a port, by default ``$PORT`` or 8000; raises `ConfigurationError` if it is wrong."""
    source, value = "argument port", port
    if value is None:
        source, value = "environment variable PORT", os.environ.get("PORT", "").strip()
    try:
        port = DEFAULT_PORT if value == "" else value
        return _parse_integer(port, "a port number from 0 to 65535", 0, 65535)
    except ValueError as error:
        raise ConfigurationError([f"port = {value!r} ({source}): expected {error}"]) from None


def _parse_level(value: object) -> int:
    if isinstance(value, str) and value.strip().lower() in LEVELS:
        return LEVELS[value.strip().lower()]
    if isinstance(value, int) and not isinstance(value, bool) and value in LEVELS.values():
        return value
    raise ValueError("info, warning, error or critical")


def _parse_details(value: object) -> str | Callable[..., object]:
    if callable(value):
        return value
    if isinstance(value, str) and value.strip().lower() in {"always", "never"}:
        return value.strip().lower()
    raise ValueError("always, never, or a callable that takes the environ and returns a bool")


def _parse_header_names(value: object) -> tuple[str, ...]:
    expected = "an HTTP header name such as X-Request-ID, or several in order"
    names = _parse_names(value, expected)
    if not names or not all(_HEADER_NAME.fullmatch(name) for name in names):
        raise ValueError(expected)
    return names


def _parse_check_ids(value: object) -> tuple[str, ...]:
    return _parse_names(value, "message IDs such as dockerflow.health.W001")


def _parse_directories(value: object) -> tuple[str, ...]:
    paths: Iterable[Any] = value if isinstance(value, (list, tuple)) else [value]
    try:
        found = tuple(os.fspath(path) for path in paths)
    except TypeError:
        found = ()
    if not found or not all(isinstance(path, str) and path and "\0" not in path for path in found):
        raise ValueError("the path of a directory, as text or a pathlib.Path")
    return found


def _parse_names(value: object, expected: str) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple, set, frozenset)):
        raise ValueError(expected)  # noqa: TRY004 - every parser raises ValueError
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(expected)
    return tuple(part.strip() for part in parts if part.strip())


def _parse_integer(value: object, expected: str, lowest: int, highest: int) -> int:
    return int(
        _parse_number(
            value, expected, lambda number: lowest <= number <= highest and number.is_integer()
        )
    )


def _parse_number(value: object, expected: str, is_allowed: Callable[[float], bool]) -> float:
    try:
        number = float(value) if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or not is_allowed(number):
        raise ValueError(expected)
    return number


def _setting(default: object, parse: Callable[[object], object]) -> Any:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a middleware.

    Attributes:
        version_path: Directories that may have a ``version.json``; the first one that has it is
            used.
        silenced_checks: IDs of check messages that neither count nor are logged.
        check_timeout: Seconds after which a heartbeat is answered, even if a check hangs. The
            default is below the 5 s of AWS's and Google's load balancers. ``None`` runs the checks
            in the request's thread, without a deadline.
        heartbeat_ttl: Seconds for which the result of a heartbeat is served again.
        heartbeat_failed_level: The level from which on a heartbeat fails.
        heartbeat_failed_status_code: The HTTP status of a failed heartbeat, 500 to 599.
        heartbeat_details: Who gets the messages of the checks: ``"always"``, ``"never"``, or a
            callable that takes the environ and returns a bool.
        request_id_header: Names of the request headers that may have a request ID, in order.
        trust_request_id: Whether an incoming request ID is used.
        echo_request_id: Whether the response has the request ID.
        summary_log_querystring: Whether ``request.summary`` has the query string, which may have
            personal data.
        error_endpoint: Whether ``/__error__`` exists.
        disabled: Whether endpoints and summaries are off.
    """

    version_path: tuple[str, ...] = _setting(("/app", "."), _parse_directories)
    silenced_checks: tuple[str, ...] = _setting((), _parse_check_ids)
    check_timeout: float | None = _setting(4.0, _parse_timeout)
    heartbeat_ttl: float = _setting(0.0, _parse_seconds)
    heartbeat_failed_level: int = _setting(LEVELS["warning"], _parse_level)
    heartbeat_failed_status_code: int = _setting(500, _parse_failed_status_code)
    heartbeat_details: DetailsPolicy = _setting("always", _parse_details)
    request_id_header: tuple[str, ...] = _setting(("X-Request-ID",), _parse_header_names)
    trust_request_id: bool = _setting(True, _parse_boolean)
    echo_request_id: bool = _setting(True, _parse_boolean)
    summary_log_querystring: bool = _setting(False, _parse_boolean)
    error_endpoint: bool = _setting(False, _parse_boolean)
    disabled: bool = _setting(False, _parse_boolean)


NAMES = tuple(setting.name for setting in dataclasses.fields(Settings))
_PARSERS = {setting.name: setting.metadata["parse"] for setting in dataclasses.fields(Settings)}
_NAMES = {**_ALIASES, **{name: name for name in NAMES}}
_NAMES_BY_KEY = {ENVIRONMENT_PREFIX + alias.upper(): name for alias, name in _NAMES.items()}


class BehaviourKeywords(TypedDict, total=False):
    """Most settings as keyword arguments; `Settings` describes them."""

    check_timeout: float | None
    heartbeat_ttl: float
    heartbeat_failed_level: str | int
    heartbeat_failed_status_code: int
    heartbeat_details: DetailsPolicy
    request_id_header: str | Iterable[str]
    trust_request_id: bool
    echo_request_id: bool
    summary_log_querystring: bool
    error_endpoint: bool
    disabled: bool


class SettingKeywords(BehaviourKeywords, total=False):
    """All settings as keyword arguments."""

    version_path: str | os.PathLike[str] | None
    silenced_checks: Iterable[str] | None


class SettingsReader:
    """Reads settings from several places; each one from the first place that has it.

    Attributes:
        values: The parsed values, by the name of the setting.
        problems: A text for each wrong value: the setting, the value, its place, and what is valid.
        warnings: Names that look like settings, but are not.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._found: set[str] = set()

    def read_keywords(self, keywords: Mapping[str, object]) -> None:
        """Read keyword arguments; ``None`` counts as not set, except for a timeout."""
        self._read(keywords, _NAMES, "keyword argument {}", blank_is_set=True)

    def read_environment(self, environment: Mapping[str, str]) -> None:
        """Read environment variables; blank ones count as not set."""
        self.read_prefixed(environment, "environment variable {}")

    def read_prefixed(self, mapping: Mapping[str, object], description: str) -> None:
        """Read a mapping in which the setting ``x`` has the key ``DOCKERFLOW_X``.

        Blank text and ``None`` count as not set. The description of a key has ``{}`` for its name.
        """
        for key in mapping:
            is_meant = isinstance(key, str) and key.startswith(ENVIRONMENT_PREFIX)
            if is_meant and key not in _NAMES_BY_KEY:
                text = f"{description.format(key)} is not a setting{_suggest(key, _NAMES_BY_KEY)}"
                self.warnings.append(f"{text}; it is ignored")
        self._read(mapping, _NAMES_BY_KEY, description)

    def read_nested(self, mapping: object, description: str) -> None:
        """Read a mapping that has the settings by their own names; other keys are problems."""
        if not isinstance(mapping, Mapping):
            kind = type(mapping).__name__
            self.problems.append(f"{description} is of type {kind}: expected a dict of settings")
            return
        for key in mapping:
            if key not in _NAMES:
                hint = _suggest(str(key), NAMES)
                self.problems.append(f"{description}[{key!r}] is not a setting{hint}")
        self._read(mapping, _NAMES, f"{description}[{{!r}}]")

    def settings(self) -> Settings:
        """Return the settings, with defaults for the others; log the warnings.

        Raises:
            ConfigurationError: There are problems; the text lists all of them.
        """
        if self.problems:
            raise ConfigurationError(self.problems)
        log_warnings(self.warnings)
        return Settings(**self.values)

    def _read(
        self,
        mapping: Mapping[str, object],
        names: Mapping[str, str],
        description: str,
        *,
        blank_is_set: bool = False,
    ) -> None:
        values = {}  # the alias of a setting comes before its own name, which wins
        for key, name in names.items():
            value = mapping.get(key)
            is_blank = isinstance(value, str) and not value.strip() and not blank_is_set
            is_none = value is None and not (name == "check_timeout" and key in mapping)
            if not (is_blank or is_none or name in self._found):
                values[name] = value, description.format(key)
        for name, (value, origin) in values.items():
            self._found.add(name)
            try:
                self.values[name] = _PARSERS[name](value)
            except ValueError as expected:
                self.problems.append(f"{name} = {value!r} ({origin}): expected {expected}")


def check_keywords(keywords: Iterable[str]) -> None:
    """Raise a ``TypeError`` if a keyword argument is not a setting."""
    unknown = [f"{name!r}{_suggest(name, NAMES)}" for name in keywords if name not in _NAMES]
    if unknown:
        raise TypeError(f"unexpected keyword argument {', '.join(unknown)}")


def log_warnings(warnings: Iterable[str]) -> None:
    """Log warnings; never raises."""
    logger = logging.getLogger("dockerflow_wsgi")
    for warning in warnings:
        call_safely("Logging", logger.warning, "%s", redact(warning), default=None)


def _suggest(name: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - rarely needed, and takes 2 ms

    known = sorted(known)
    by_setting = {_without_prefix(key): key for key in known}
    close = difflib.get_close_matches(_without_prefix(name), by_setting, n=1, cutoff=0.7)
    if not close:
        return f" (the settings: {', '.join(known)})"
    return f" (did you mean {by_setting[close[0]]!r}?)"


def _without_prefix(name: str) -> str:
    return name.removeprefix(ENVIRONMENT_PREFIX).lower()
