"""The public names, and which packages their import loads."""

from __future__ import annotations

import re

import pytest
from programs import run_python

import dockerflow_wsgi
from dockerflow_wsgi import checks
from dockerflow_wsgi.__main__ import main
from dockerflow_wsgi.errors import require_extra

# SQLAlchemy 1.4 warns on Python 3.12 and newer.
STRICT = ["-W", "error", "-W", "ignore::DeprecationWarning:sqlalchemy.sql.sqltypes"]
OPTIONAL = ["alembic", "blinker", "django", "flask", "flask_sqlalchemy", "redis", "sqlalchemy"]


def test_the_package_has_the_documented_names():
    """``__all__`` has the documented names, in order."""
    assert dockerflow_wsgi.__all__ == [
        "CheckRegistry",
        "ConfigurationError",
        "DockerflowMiddleware",
        "checks",
        "get_request_id",
        "request_id_context",
        "serve_in_background",
    ]
    for module in (dockerflow_wsgi, checks):
        assert sorted(module.__all__) == sorted(set(module.__all__) & set(dir(module)))


def test_the_ids_are_the_published_ones():
    """The message IDs do not change, because users silence them."""
    shown = {
        name: getattr(checks, name) for name in checks.__all__ if "_" in name and name.isupper()
    }
    assert shown == {
        "ERROR_CANNOT_CONNECT_REDIS": "dockerflow.health.E004",
        "ERROR_CHECK_RAISED": "dockerflow.checks.E001",
        "ERROR_CHECK_RETURNED_NO_MESSAGE": "dockerflow.checks.E003",
        "ERROR_CHECK_TIMED_OUT": "dockerflow.checks.E002",
        "ERROR_DB_API_EXCEPTION": "dockerflow.health.E008",
        "ERROR_REDIS_EXCEPTION": "dockerflow.health.E010",
        "ERROR_REDIS_PING_FAILED": "dockerflow.health.E007",
        "ERROR_SQLALCHEMY_EXCEPTION": "dockerflow.health.E009",
        "ERROR_UNUSABLE_MIGRATIONS": "dockerflow.health.E011",
        "INFO_CANT_CHECK_MIGRATIONS": "dockerflow.health.I001",
        "INFO_UNKNOWN_REVISION": "dockerflow.health.I002",
        "WARNING_UNAPPLIED_MIGRATION": "dockerflow.health.W001",
    }


def test_the_core_imports_no_optional_package():
    """The core, the logging module and a wrapped app work without optional packages."""
    code = """
import sys, dockerflow_wsgi, dockerflow_wsgi.logging, dockerflow_wsgi.version
dockerflow_wsgi.DockerflowMiddleware(lambda environ, start_response: [])
print(sorted(sys.modules.keys() & set(%r)))
"""
    assert run_python(code % OPTIONAL, *STRICT) == ["[]"]


def test_a_missing_package_is_an_error_with_the_extra_to_install():
    """The error has the command that installs the package."""
    code = """
import sys
from dockerflow_wsgi import checks
for call, missing in (
    ("checks.check_database_connected(object())", "sqlalchemy"),
    ("checks.check_migrations_applied(object())", "sqlalchemy"),
    ("__import__('dockerflow_wsgi.flask')", "flask"),
    ("__import__('dockerflow_wsgi.flask')", "blinker"),
    ("__import__('dockerflow_wsgi.django')", "django"),
):
    sys.modules[missing] = None
    try:
        print(eval(call))
    except ImportError as error:
        print(error)
    del sys.modules[missing]
"""
    extras = re.findall(
        r"pip install 'dockerflow-wsgi\[(.+)\]'", "\n".join(run_python(code, *STRICT))
    )
    assert extras == ["sqlalchemy", "alembic", "flask", "flask", "django"]


def test_a_package_that_is_too_old_is_an_error_with_the_extra_to_install():
    """A package that lacks a name is reported like a missing one."""
    match = r"too old: install it with .*\[redis\]"
    with pytest.raises(ImportError, match=match), require_extra("redis"):
        raise ImportError("too old")


def test_the_command_shows_its_use(capsys):
    """Without arguments, the command prints its usage and returns 2."""
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: dockerflow-wsgi")
