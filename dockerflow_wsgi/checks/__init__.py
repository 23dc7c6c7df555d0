"""Checks: their messages, their registry, and the built-in ones."""

from .database import check_database_connected
from .ids import (
    ERROR_CANNOT_CONNECT_REDIS,
    ERROR_CHECK_RAISED,
    ERROR_CHECK_RETURNED_NO_MESSAGE,
    ERROR_CHECK_TIMED_OUT,
    ERROR_DB_API_EXCEPTION,
    ERROR_REDIS_EXCEPTION,
    ERROR_REDIS_PING_FAILED,
    ERROR_SQLALCHEMY_EXCEPTION,
    ERROR_UNUSABLE_MIGRATIONS,
    INFO_CANT_CHECK_MIGRATIONS,
    WARNING_UNAPPLIED_MIGRATION,
    WARNING_UNKNOWN_REVISION,
)
from .messages import (
    CRITICAL,
    DEBUG,
    ERROR,
    INFO,
    STATUSES,
    WARNING,
    CheckMessage,
    Critical,
    Debug,
    Error,
    Info,
    Warning,
    level_to_text,
)
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
    "STATUSES",
    "WARNING",
    "WARNING_UNAPPLIED_MIGRATION",
    "WARNING_UNKNOWN_REVISION",
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
