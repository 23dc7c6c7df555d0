"""The settings: their sources, values, warnings and errors."""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path

import pytest
from wsgi import hello

from dockerflow_wsgi import ConfigurationError, DockerflowMiddleware
from dockerflow_wsgi.checks import ERROR
from dockerflow_wsgi.settings import NAMES, SettingKeywords, Settings, SettingsReader

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


class TestSources:
    """Settings come from keywords, the environment and defaults, in this order."""

    def test_the_defaults_are_the_documented_ones(self):
        """Without any configuration, each setting has its documented default."""
        assert dataclasses.asdict(settings()) == DEFAULTS

    def test_keyword_types_are_declared_for_every_setting(self):
        """Type checkers know each setting as a keyword argument."""
        assert set(SettingKeywords.__annotations__) == {*NAMES}
        assert [field.name for field in dataclasses.fields(Settings)] == [*NAMES]

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
    def test_each_setting_has_an_environment_variable(
        self, monkeypatch, variable, text, name, value
    ):
        """Each setting is read from ``DOCKERFLOW_X``; one also from python-dockerflow's name."""
        monkeypatch.setenv(f"DOCKERFLOW_{variable}", text)
        assert getattr(settings(), name) == value

    def test_a_keyword_wins_over_the_environment(self, monkeypatch):
        """A keyword wins, and a wrong value that is not used is not an error."""
        monkeypatch.setenv("DOCKERFLOW_HEARTBEAT_TTL", "nonsense")
        assert settings(heartbeat_ttl=2).heartbeat_ttl == 2.0

    def test_the_settings_own_variable_wins_over_its_alias(self, monkeypatch):
        """``DOCKERFLOW_REQUEST_ID_HEADER`` takes precedence over python-dockerflow's name."""
        monkeypatch.setenv("DOCKERFLOW_REQUEST_ID_HEADER_NAME", "X-Old")
        monkeypatch.setenv("DOCKERFLOW_REQUEST_ID_HEADER", "X-New")
        assert settings().request_id_header == ("X-New",)

    @pytest.mark.parametrize("blank", ["", "  "])
    def test_a_blank_variable_counts_as_unset(self, monkeypatch, blank):
        """Deployment templates leave blank variables, which count as not set."""
        monkeypatch.setenv("DOCKERFLOW_CHECK_TIMEOUT", blank)
        assert settings().check_timeout == 4.0

    def test_none_counts_as_not_given(self, monkeypatch):
        """A keyword of ``None`` counts as not given, except for ``check_timeout``."""
        monkeypatch.setenv("DOCKERFLOW_SILENCED_CHECKS", "a")
        monkeypatch.setenv("DOCKERFLOW_CHECK_TIMEOUT", "9")
        read = settings(silenced_checks=None, version_path=None, check_timeout=None)
        assert read.silenced_checks == ("a",)
        assert read.version_path == ("/app", ".")
        assert read.check_timeout is None

    def test_construction_does_no_io(self):
        """A middleware opens no file and no socket, and starts no thread, when it is built."""
        watched = []
        thread_id = threading.get_ident()  # threads of other tests may still open files

        def audit(event, _arguments):
            if (
                watching
                and threading.get_ident() == thread_id
                and event.startswith(("open", "socket.", "subprocess.", "os.listdir"))
            ):
                watched.append(event)

        watching = True
        sys.addaudithook(audit)
        before = set(threading.enumerate())
        DockerflowMiddleware(hello, db=object(), redis=object(), migrate=object())
        watching = False
        assert watched == []
        assert set(threading.enumerate()) <= before

    def test_the_alias_of_the_request_id_header_is_a_keyword(self):
        """python-dockerflow's name of the setting is accepted everywhere."""
        middleware = DockerflowMiddleware(hello, request_id_header_name="X-Trace")
        assert middleware.settings.request_id_header == ("X-Trace",)


class TestValues:
    """Values are converted, and all wrong ones are reported together."""

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
    def test_each_form_of_a_value_is_accepted(self, name, given, value):
        """Each setting takes text, as in the environment, and the natural Python object."""
        assert getattr(settings(**{name: given}), name) == value

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
    def test_a_wrong_value_is_refused(self, name, wrong):
        """The error has the setting, its value, its source and the accepted values."""
        with pytest.raises(ConfigurationError) as caught:
            settings(**{name: wrong})
        (problem,) = caught.value.problems
        assert problem.startswith(f"{name} = {wrong!r} (keyword argument {name}): expected ")
        assert isinstance(caught.value, ValueError)

    def test_all_wrong_values_are_reported_together(self, monkeypatch):
        """One error has a line per problem, so that one restart is enough."""
        monkeypatch.setenv("DOCKERFLOW_HEARTBEAT_TTL", "never")
        monkeypatch.setenv("DOCKERFLOW_DISABLED", "perhaps")
        with pytest.raises(ConfigurationError) as caught:
            settings(check_timeout="soon", heartbeat_failed_level="bad")
        assert str(caught.value).splitlines() == [
            "The configuration has 4 problems:",
            "  check_timeout = 'soon' (keyword argument check_timeout): "
            "expected a number of seconds above 0, "
            "or none to run the checks in the request's thread",
            "  heartbeat_failed_level = 'bad' (keyword argument heartbeat_failed_level): "
            "expected info, warning, error or critical",
            "  heartbeat_ttl = 'never' (environment variable DOCKERFLOW_HEARTBEAT_TTL): "
            "expected a number of seconds, 0 or more",
            "  disabled = 'perhaps' (environment variable DOCKERFLOW_DISABLED): "
            "expected 1, true, yes or on; 0, false, no or off",
        ]

    def test_one_wrong_value_is_one_problem(self):
        """The error's title counts one problem in the singular."""
        title = "The configuration has 1 problem:"
        with pytest.raises(ConfigurationError, match=rf"^{title}\n  check_timeout = "):
            settings(check_timeout="soon")

    def test_an_unknown_keyword_is_a_type_error(self):
        """An unknown keyword is an error that names the nearest setting."""
        with pytest.raises(TypeError, match=r"'check_timout' \(did you mean 'check_timeout'\?\)"):
            settings(check_timout=3)
        for other in ("zzz", "summary_xtra"):
            with pytest.raises(TypeError, match=rf"'{other}' \(the settings: check_timeout, "):
                settings(**{other: 3})

    def test_a_wrong_value_shows_no_password(self):
        """A credential in the wrong place is redacted in the error."""
        with pytest.raises(ConfigurationError) as raised:
            DockerflowMiddleware(hello, request_id_header="redis://:s3cr3t@host/0")
        assert "s3cr3t" not in str(raised.value)


class TestMisspeltNames:
    """A name that starts with ``DOCKERFLOW_`` and is not a setting is logged as a warning."""

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("DOCKERFLOW_CHECK_TIMOUT", "DOCKERFLOW_CHECK_TIMEOUT"),
            ("DOCKERFLOW_CHECKS_TIMEOUT", "DOCKERFLOW_CHECK_TIMEOUT"),
            ("DOCKERFLOW_HEARTBEAT_TLL", "DOCKERFLOW_HEARTBEAT_TTL"),
            ("DOCKERFLOW_VERSIONPATH", "DOCKERFLOW_VERSION_PATH"),
            ("DOCKERFLOW_SILENCED_CHECK", "DOCKERFLOW_SILENCED_CHECKS"),
            ("DOCKERFLOW_DISABLE", "DOCKERFLOW_DISABLED"),
            ("DOCKERFLOW_disabled", "DOCKERFLOW_DISABLED"),
            ("DOCKERFLOW_TIMEOUT", "DOCKERFLOW_CHECK_TIMEOUT"),
            ("DOCKERFLOW_REQUEST_ID_HEADER_NAMES", "DOCKERFLOW_REQUEST_ID_HEADER_NAME"),
        ],
    )
    def test_one_warning_names_the_nearest_setting(self, monkeypatch, listen, name, nearest):
        """The warning has both names and never the value; the setting keeps its default."""
        log = listen("dockerflow_wsgi")
        monkeypatch.setenv(name, "s3cret-value")
        read = settings()
        (warning,) = log
        assert warning.levelname == "WARNING"
        assert f"environment variable {name} is not a setting" in warning.getMessage()
        assert f"{nearest!r}" in warning.getMessage()
        assert not any("s3cret-value" in str(value) for value in vars(warning).values())
        assert dataclasses.asdict(read) == DEFAULTS

    @pytest.mark.parametrize("name", ["DOCKERFLOW_Q", "DOCKERFLOW_PORT_8000_TCP", "DOCKERFLOW_"])
    def test_a_name_unlike_any_setting_lists_them(self, monkeypatch, listen, name):
        """If no setting has a similar name, the warning lists all settings."""
        log = listen("dockerflow_wsgi")
        monkeypatch.setenv(name, "1")
        settings()
        (warning,) = log
        for setting in NAMES:
            assert f"DOCKERFLOW_{setting.upper()}" in warning.getMessage()

    def test_each_name_is_one_warning(self, monkeypatch, listen):
        """Two misspelt names are two warnings, and the other settings count."""
        log = listen("dockerflow_wsgi")
        monkeypatch.setenv("DOCKERFLOW_CHECK_TIMOUT", "3")
        monkeypatch.setenv("DOCKERFLOW_HEARTBEAT_TLL", "3")
        monkeypatch.setenv("DOCKERFLOW_ECHO_REQUEST_ID", "no")
        assert settings().echo_request_id is False
        assert len(log) == 2

    @pytest.mark.parametrize("name", ["DOCKERFLOW", "MY_DOCKERFLOW_X", "dockerflow_x"])
    def test_names_with_another_prefix_are_ignored(self, monkeypatch, listen, name):
        """A name with another prefix is ignored."""
        log = listen("dockerflow_wsgi")
        monkeypatch.setenv(name, "1")
        settings()
        assert len(log) == 0

    def test_known_names_log_no_warning(self, monkeypatch, listen):
        """A correct configuration logs nothing, also with the alias and blank values."""
        log = listen("dockerflow_wsgi")
        for name in NAMES:
            monkeypatch.setenv(f"DOCKERFLOW_{name.upper()}", "")
        monkeypatch.setenv("DOCKERFLOW_REQUEST_ID_HEADER_NAME", "X-Trace")
        settings()
        assert len(log) == 0


class TestNestedSettings:
    """A dict such as ``app.config["DOCKERFLOW"]`` has settings by their own names."""

    def read(self, *mappings):
        """Return the settings from dicts that are called ``first`` and ``second`` in errors."""
        reader = SettingsReader()
        for mapping, name in zip(mappings, ["first", "second"], strict=False):
            reader.read_nested(mapping, name)
        return reader.settings()

    def test_its_values_are_read(self):
        """Values are parsed like those of any source; blank ones count as not set."""
        read = self.read({"heartbeat_ttl": "5", "version_path": None, "disabled": ""})
        assert read == dataclasses.replace(Settings(), heartbeat_ttl=5.0)

    def test_an_unknown_key_is_an_error(self):
        """A key that is not a setting fails the start, and the nearest setting is named."""
        with pytest.raises(ConfigurationError) as caught:
            self.read({"check_timout": 3, 5: 1})
        one, other = caught.value.problems
        assert one == "first['check_timout'] is not a setting (did you mean 'check_timeout'?)"
        assert other.startswith("first[5] is not a setting (the settings: check_timeout, ")

    def test_something_else_is_an_error(self):
        """A value that is not a dict is reported with its type."""
        with pytest.raises(ConfigurationError, match="first is of type list: expected a dict"):
            self.read([])

    def test_the_first_source_wins(self):
        """A setting is read from the first source that has it, even if its value is wrong."""
        read = self.read({"heartbeat_ttl": 1}, {"heartbeat_ttl": 2, "check_timeout": 2})
        assert (read.heartbeat_ttl, read.check_timeout) == (1, 2)
        with pytest.raises(ConfigurationError, match="check_timeout = -1"):
            self.read({"check_timeout": -1}, {"check_timeout": 2})
