"""The IDs of the messages that the built-in checks and the runner report.

Those under ``dockerflow.health`` that python-dockerflow has too are the same, so that
silenced IDs and alerts carry over.
"""

from __future__ import annotations

ERROR_CHECK_RAISED = "dockerflow.checks.E001"
ERROR_CHECK_TIMED_OUT = "dockerflow.checks.E002"
ERROR_CHECK_RETURNED_NO_MESSAGE = "dockerflow.checks.E003"

INFO_CANT_CHECK_MIGRATIONS = "dockerflow.health.I001"
WARNING_UNAPPLIED_MIGRATION = "dockerflow.health.W001"
WARNING_UNKNOWN_REVISION = "dockerflow.health.W002"
ERROR_CANNOT_CONNECT_REDIS = "dockerflow.health.E004"
ERROR_REDIS_PING_FAILED = "dockerflow.health.E007"
ERROR_DB_API_EXCEPTION = "dockerflow.health.E008"
ERROR_SQLALCHEMY_EXCEPTION = "dockerflow.health.E009"
ERROR_REDIS_EXCEPTION = "dockerflow.health.E010"
ERROR_UNUSABLE_MIGRATIONS = "dockerflow.health.E011"
