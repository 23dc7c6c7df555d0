"""Checks: their messages, their registry, and the built-in ones."""

from .database import check_database_connected
from .messages import *
from .migrations import check_migrations_applied
from .redis import check_redis_connected
from .registry import CheckRegistry
from .report import CheckResult, HeartbeatReport

__all__ = [
    "CRITICAL",
    "DEBUG",
    "ERROR",
    "ERROR_CANNOT_CONNECT_REDIS",
    "ERROR_CHECK_RAISED",
    "ERROR_CHECK_RETURNED_NO_MESSAGE",
    "ERROR_CHECK_TIMED_OUT",
    "ERROR_DB_API_EXCEPTION",
    "ERROR_REDIS_EXCEPTION",
    "ERROR_REDIS_PING_FAILED",
    "ERROR_SQLALCHEMY_EXCEPTION",
    "ERROR_UNUSABLE_MIGRATIONS",
    "INFO",
    "INFO_CANT_CHECK_MIGRATIONS",
    "INFO_UNKNOWN_REVISION",
    "STATUSES",
    "WARNING",
    "WARNING_UNAPPLIED_MIGRATION",
    "CheckMessage",
    "CheckRegistry",
    "CheckResult",
    "Critical",
    "Debug",
    "Error",
    "HeartbeatReport",
    "Info",
    "Warning",
    "check_database_connected",
    "check_migrations_applied",
    "check_redis_connected",
    "level_to_text",
]
