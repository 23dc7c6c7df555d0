"""The settings: their names, their defaults, and where their values come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from . import values
from .errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from typing import TypeAlias

    from _typeshed.wsgi import WSGIEnvironment

    DetailsPolicy: TypeAlias = str | Callable[[WSGIEnvironment], bool]
    """``"always"``, ``"never"``, or who may see the details of a heartbeat."""

ENVIRONMENT_PREFIX = "DOCKERFLOW_"

_ALIASES = {"REQUEST_ID_HEADER_NAME": "request_id_header"}  # python-dockerflow's name


def _setting(default: object, read: Callable[[object], object]) -> Any:
    """Declare a field of `Settings` with the function that reads its raw values."""
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one middleware, read and checked.

    Attributes:
        version_path: Directories that may hold ``version.json``; the first that does is
            asked.
        silenced_checks: IDs of check messages that neither count nor are logged.
        check_timeout: Seconds after which a heartbeat is answered whatever hangs; below
            the 5 s at which AWS's and Google's load balancers give up. ``None`` runs the
            checks in line, one after the other.
        heartbeat_ttl: Seconds for which a heartbeat's result is served again; 0 for never.
        heartbeat_failed_level: The level from which on a heartbeat has failed.
        heartbeat_failed_status_code: HTTP status of a failing heartbeat, 500 to 599.
        heartbeat_details: ``"always"``, ``"never"``, or a callable that takes the environ
            and tells whether this prober may see the checks' messages.
        request_id_header: Names of the request headers that may bring a request ID, asked
            in order.
        trust_request_id: Whether an incoming request ID is used.
        echo_request_id: Whether the response carries the request ID.
        summary_log_querystring: Whether ``request.summary`` has the query string, which may
            hold personal data.
        error_endpoint: Whether ``/__error__`` is there.
        disabled: Whether every request goes straight to the wrapped app.
    """

    version_path: tuple[str, ...] = _setting(("/app", "."), values.directories)
    silenced_checks: tuple[str, ...] = _setting((), values.check_ids)
    check_timeout: float | None = _setting(4.0, values.timeout)
    heartbeat_ttl: float = _setting(0.0, values.seconds)
    heartbeat_failed_level: int = _setting(values.LEVELS["warning"], values.level)
    heartbeat_failed_status_code: int = _setting(500, values.failed_status_code)
    heartbeat_details: DetailsPolicy = _setting("always", values.details)
    request_id_header: tuple[str, ...] = _setting(("X-Request-ID",), values.header_names)
    trust_request_id: bool = _setting(True, values.boolean)
    echo_request_id: bool = _setting(True, values.boolean)
    summary_log_querystring: bool = _setting(False, values.boolean)
    error_endpoint: bool = _setting(False, values.boolean)
    disabled: bool = _setting(False, values.boolean)


NAMES = tuple(setting.name for setting in dataclasses.fields(Settings))


class BehaviourKeywords(TypedDict, total=False):
    """Most settings as keyword arguments; see `Settings` for what they mean."""

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


@dataclass(frozen=True, slots=True)
class Source:
    """One place that settings come from.

    Attributes:
        raw: The values found there, by setting name; what is unset is not in it.
        place: Says where a setting's value was found, for errors.
        problems: What is wrong with the place itself.
    """

    raw: Mapping[str, object]
    place: Callable[[str], str]
    problems: tuple[str, ...] = ()


def keyword_source(keywords: Mapping[str, object]) -> Source:
    """Take settings from keyword arguments.

    Args:
        keywords: The arguments by name. ``None`` counts as not given, except for
            ``check_timeout``, where it means "in line".

    Returns:
        The source.

    Raises:
        TypeError: A name is no setting.
    """
    unknown = [f"{name!r}{_nearest(name)}" for name in keywords if name not in NAMES]
    if unknown:
        raise TypeError(f"unexpected keyword argument {', '.join(unknown)}")
    given = {
        name: value
        for name, value in keywords.items()
        if value is not None or name == "check_timeout"
    }
    return Source(given, "keyword argument {}".format)


def environment_source(environment: Mapping[str, str]) -> Source:
    """Take settings from environment variables.

    Args:
        environment: Usually ``os.environ``. The setting ``x`` is ``DOCKERFLOW_X``; a blank
            value counts as unset.

    Returns:
        The source.
    """
    return prefixed_source(environment, "environment variable {}")


def prefixed_source(values_by_key: Mapping[str, object], place: str) -> Source:
    """Take settings from a mapping in which the setting ``x`` has the key ``DOCKERFLOW_X``.

    Args:
        values_by_key: The mapping. Blank text counts as unset, and so does ``None``, except for
            ``check_timeout``, where it means "in line".
        place: Says what a key is, with ``{}`` in its place.

    Returns:
        The source.
    """
    found = {}
    places = {}
    for suffix, name in (_ALIASES | {name.upper(): name for name in NAMES}).items():
        key = ENVIRONMENT_PREFIX + suffix
        if key in values_by_key and _is_set(name, values_by_key[key]):
            found[name] = values_by_key[key]
            places[name] = place.format(key)
    return Source(found, places.__getitem__)


def nested_source(values_by_name: object, place: str) -> Source:
    """Take settings from a mapping that has them by their own names.

    Args:
        values_by_name: The mapping; anything else is a problem, and so is a key that is no
            setting. What counts as unset is as for `prefixed_source`.
        place: What the mapping is called, for errors.

    Returns:
        The source.
    """
    if not isinstance(values_by_name, Mapping):
        kind = type(values_by_name).__name__
        return Source({}, str, (f"{place} is of type {kind}: expected a dict of settings",))
    problems = [
        f"{place}[{key!r}] is no setting{_nearest(str(key))}"
        for key in values_by_name
        if key not in NAMES
    ]
    found = {
        name: values_by_name[name]
        for name in NAMES
        if name in values_by_name and _is_set(name, values_by_name[name])
    }
    return Source(found, lambda name: f"{place}[{name!r}]", tuple(problems))


def read_settings(sources: Iterable[Source]) -> Settings:
    """Read every setting from the first source that has it.

    Args:
        sources: The places to look in, the strongest first.

    Returns:
        The settings, with defaults where no source has a value.

    Raises:
        ConfigurationError: Values are wrong; the text names them all.
    """
    sources = list(sources)
    found: dict[str, Any] = {}
    problems = [problem for source in sources for problem in source.problems]
    for setting in dataclasses.fields(Settings):
        name = setting.name
        source = next((source for source in sources if name in source.raw), None)
        if source is None:
            continue
        value = source.raw[name]
        try:
            found[name] = setting.metadata["read"](value)
        except ValueError as accepted:
            problems.append(f"{name} = {value!r} ({source.place(name)}): expected {accepted}")
    if problems:
        raise ConfigurationError(problems)
    return Settings(**found)


def _nearest(name: str) -> str:
    import difflib  # noqa: PLC0415 - most settings have no typing error; takes 2 ms

    close = difflib.get_close_matches(name, NAMES, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (the settings: {', '.join(NAMES)})"


def _is_set(name: str, value: object) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None or name == "check_timeout"
