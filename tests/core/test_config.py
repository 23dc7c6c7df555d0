"""The settings: their sources, their values, their errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from wsgi import hello

from dockerflow_wsgi import ConfigurationError, DockerflowMiddleware
from dockerflow_wsgi.checks import ERROR
from dockerflow_wsgi.config import SettingKeywords, Settings

DEFAULTS = {
    "version_path": ("/app", "."),
    "silenced_checks": (),
    "check_timeout": 4.0,
    "heartbeat_ttl": 0.0,
    "heartbeat_failed_level": 30,
    "heartbeat_failed_status_code": 500,
    "heartbeat_details": "always",
    "request_id_header": ("X-Request-ID",),
    "trust_request_id": True,
    "echo_request_id": True,
    "summary_log_querystring": False,
    "error_endpoint": False,
    "disabled": False,
}


def settings(**keywords):
    """Build a middleware and return its settings."""
    return DockerflowMiddleware(hello, **keywords).settings


def test_the_defaults_are_the_documented_ones():
    """Nothing set, nothing surprising."""
    assert dataclasses.asdict(settings()) == DEFAULTS


def test_keyword_types_are_declared_for_every_setting():
    """Type checkers know each setting as a keyword argument."""
    names = {field.name for field in dataclasses.fields(Settings)}
    assert set(SettingKeywords.__annotations__) == names


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("version_path", "/srv", ("/srv",)),
        ("version_path", Path("/srv/app"), ("/srv/app",)),
        ("version_path", ["/srv", Path("/opt")], ("/srv", "/opt")),
        ("silenced_checks", ["a.W1", "b"], ("a.W1", "b")),
        ("silenced_checks", "a.W1, b,", ("a.W1", "b")),
        ("check_timeout", 1, 1.0),
        ("check_timeout", "2.5", 2.5),
        ("check_timeout", None, None),
        ("check_timeout", "None", None),
        ("heartbeat_ttl", "10", 10.0),
        ("heartbeat_failed_level", "ERROR", 40),
        ("heartbeat_failed_level", ERROR, 40),
        ("heartbeat_failed_status_code", "503", 503),
        ("heartbeat_details", "Never", "never"),
        ("request_id_header", "X-Trace", ("X-Trace",)),
        ("request_id_header", ("X-Trace", "traceparent"), ("X-Trace", "traceparent")),
        ("disabled", 1, True),
        ("disabled", "ON", True),
        ("trust_request_id", "0", False),
        ("trust_request_id", 0, False),
        ("echo_request_id", " No ", False),
    ],
)
def test_each_form_of_a_value_is_accepted(name, given, value):
    """Text, as in the environment, and the natural Python object."""
    assert getattr(settings(**{name: given}), name) == value


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("VERSION_PATH", "/srv", "version_path", ("/srv",)),
        ("SILENCED_CHECKS", "a,b", "silenced_checks", ("a", "b")),
        ("CHECK_TIMEOUT", "none", "check_timeout", None),
        ("CHECK_TIMEOUT", "1.5", "check_timeout", 1.5),
        ("HEARTBEAT_TTL", "3", "heartbeat_ttl", 3.0),
        ("HEARTBEAT_FAILED_LEVEL", "critical", "heartbeat_failed_level", 50),
        ("HEARTBEAT_FAILED_STATUS_CODE", "503", "heartbeat_failed_status_code", 503),
        ("HEARTBEAT_DETAILS", "never", "heartbeat_details", "never"),
        ("REQUEST_ID_HEADER", "X-A, X-B", "request_id_header", ("X-A", "X-B")),
        ("REQUEST_ID_HEADER_NAME", "X-A", "request_id_header", ("X-A",)),
        ("TRUST_REQUEST_ID", "no", "trust_request_id", False),
        ("ECHO_REQUEST_ID", "off", "echo_request_id", False),
        ("SUMMARY_LOG_QUERYSTRING", "1", "summary_log_querystring", True),
        ("ERROR_ENDPOINT", "yes", "error_endpoint", True),
        ("DISABLED", "true", "disabled", True),
    ],
)
def test_each_setting_has_an_environment_variable(monkeypatch, variable, text, name, value):
    """``DOCKERFLOW_X``, and python-dockerflow's older name of one."""
    monkeypatch.setenv(f"DOCKERFLOW_{variable}", text)
    assert getattr(settings(), name) == value


def test_a_keyword_wins_over_the_environment(monkeypatch):
    """First match wins; a value that does not count is not judged either."""
    monkeypatch.setenv("DOCKERFLOW_HEARTBEAT_TTL", "nonsense")
    assert settings(heartbeat_ttl=2).heartbeat_ttl == 2.0


def test_the_settings_own_variable_wins_over_its_alias(monkeypatch):
    """The alias is there for those who come from python-dockerflow."""
    monkeypatch.setenv("DOCKERFLOW_REQUEST_ID_HEADER_NAME", "X-Old")
    monkeypatch.setenv("DOCKERFLOW_REQUEST_ID_HEADER", "X-New")
    assert settings().request_id_header == ("X-New",)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_variable_counts_as_unset(monkeypatch, blank):
    """Deployment templates leave blanks behind."""
    monkeypatch.setenv("DOCKERFLOW_CHECK_TIMEOUT", blank)
    assert settings().check_timeout == 4.0


def test_none_counts_as_not_given(monkeypatch):
    """Except for the deadline, where it means none."""
    monkeypatch.setenv("DOCKERFLOW_SILENCED_CHECKS", "a")
    monkeypatch.setenv("DOCKERFLOW_CHECK_TIMEOUT", "9")
    read = settings(silenced_checks=None, version_path=None, check_timeout=None)
    assert read.silenced_checks == ("a",)
    assert read.version_path == ("/app", ".")
    assert read.check_timeout is None


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("version_path", ""),
        ("version_path", 5),
        ("version_path", b"/app"),
        ("version_path", "/a\0b"),
        ("version_path", []),
        ("silenced_checks", 5),
        ("silenced_checks", [5]),
        ("check_timeout", 0),
        ("check_timeout", -1),
        ("check_timeout", "soon"),
        ("check_timeout", True),
        ("check_timeout", float("inf")),
        ("check_timeout", "nan"),
        ("check_timeout", 10**400),
        ("check_timeout", 1e12),
        ("check_timeout", [4]),
        ("heartbeat_ttl", -0.1),
        ("heartbeat_ttl", "none"),
        ("heartbeat_failed_level", "bad"),
        ("heartbeat_failed_level", 35),
        ("heartbeat_failed_level", "debug"),
        ("heartbeat_failed_status_code", 499),
        ("heartbeat_failed_status_code", 600),
        ("heartbeat_failed_status_code", 500.5),
        ("heartbeat_failed_status_code", "teapot"),
        ("heartbeat_details", "sometimes"),
        ("heartbeat_details", True),
        ("request_id_header", "X Request"),
        ("request_id_header", "X-Id:"),
        ("request_id_header", ()),
        ("request_id_header", ["X-A", 5]),
        ("trust_request_id", "maybe"),
        ("trust_request_id", 2),
        ("echo_request_id", []),
        ("disabled", "disabled"),
    ],
)
def test_a_wrong_value_is_refused(name, wrong):
    """The error names setting, value and source, and what would be accepted."""
    with pytest.raises(ConfigurationError) as caught:
        settings(**{name: wrong})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name} = {wrong!r} (keyword argument {name}): expected ")
    assert isinstance(caught.value, ValueError)


def test_all_wrong_values_are_reported_together(monkeypatch):
    """One error, one line for each, so that one restart is enough."""
    monkeypatch.setenv("DOCKERFLOW_HEARTBEAT_TTL", "never")
    monkeypatch.setenv("DOCKERFLOW_DISABLED", "perhaps")
    with pytest.raises(ConfigurationError) as caught:
        settings(check_timeout="soon", heartbeat_failed_level="bad")
    assert str(caught.value).splitlines() == [
        "4 settings are wrong:",
        "  check_timeout = 'soon' (keyword argument check_timeout): "
        "expected a number of seconds above 0, or none to run the checks in line",
        "  heartbeat_ttl = 'never' (environment variable DOCKERFLOW_HEARTBEAT_TTL): "
        "expected a number of seconds, 0 or more",
        "  heartbeat_failed_level = 'bad' (keyword argument heartbeat_failed_level): "
        "expected info, warning, error or critical",
        "  disabled = 'perhaps' (environment variable DOCKERFLOW_DISABLED): "
        "expected 1, true, yes or on; 0, false, no or off",
    ]


def test_one_wrong_value_is_one():
    """The title counts in words that fit."""
    with pytest.raises(ConfigurationError, match=r"^1 setting is wrong:\n  check_timeout = "):
        settings(check_timeout="soon")


def test_building_touches_nothing():
    """No file, no socket, no thread: an app whose database is down is imported all the same."""
    import sys
    import threading

    watched = []

    def audit(event, _arguments):
        if watching and event.startswith(("open", "socket.", "subprocess.", "os.listdir")):
            watched.append(event)

    watching = True
    sys.addaudithook(audit)
    before = set(threading.enumerate())
    DockerflowMiddleware(hello, db=object(), redis=object(), migrate=object())
    watching = False
    assert watched == []
    assert set(threading.enumerate()) <= before
