"""The built-in check for Redis and its relatives."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

from ..redaction import format_error
from .messages import (
    ERROR_CANNOT_CONNECT_REDIS,
    ERROR_REDIS_EXCEPTION,
    ERROR_REDIS_PING_FAILED,
    CheckMessage,
    Error,
)
from .runner import report_when_overdue

# Exceptions are recognised by name, so that no client's package needs to be installed for the
# check of another one: redis-py, valkey-py, valkey-glide-sync.
_CLUSTER_ERRORS = {"RedisClusterException", "ValkeyClusterException"}  # no node can be reached
_CLIENT_ERRORS = {"RedisError", "ValkeyError", "GlideError", *_CLUSTER_ERRORS}
_CONNECTION_ERRORS = {"ConnectionError", "TimeoutError", "ClosingError", *_CLUSTER_ERRORS}

_EXPLAIN_TIMEOUT_S = 1.0
_EXPLAIN_WAIT_S = 0.1


def check_redis_connected(client: Any) -> list[CheckMessage]:
    """Send ``PING`` with the app's own client, and ask a cluster for its state.

    Args:
        client: A synchronous client with ``ping()``: of redis-py (4.1 or newer), for one server,
            a cluster, or from a sentinel; of valkey-py or valkey-glide-sync; Flask-Redis's.

    Returns:
        An error ``dockerflow.health.E004`` if there is no connection (refused, timed out, not
        authenticated, exhausted pool) or no answer by the deadline; ``E007`` if the answer is
        false; ``E010`` for other Redis errors, and for a cluster that is not ok. An empty list
        if Redis answers.

    Raises:
        Exception: The client raised an error that is not a Redis client's.
    """
    try:
        with report_when_overdue(_report_of_waiting(client)):
            return _ask(client)
    except Exception as error:
        if not _has_name(error, _CLIENT_ERRORS):
            raise
        return [_make_error(error)]


def _ask(client: Any) -> list[CheckMessage]:
    answer = client.ping()
    if inspect.iscoroutine(answer):
        answer.close()
        text = "The Redis client is for asyncio: pass a synchronous client"
        return [Error(text, id=ERROR_REDIS_EXCEPTION)]
    if not answer:
        return [Error(f"Redis answered PING with {answer!r}", id=ERROR_REDIS_PING_FAILED)]
    if hasattr(client, "cluster_info"):  # PING asks one node, which does not know of slots
        state = client.cluster_info().get("cluster_state")
        if state != "ok":
            return [Error(f"The Redis Cluster's state is {state!r}", id=ERROR_REDIS_EXCEPTION)]
    return []


def _has_name(error: Exception, names: set[str]) -> bool:
    return any(base.__name__ in names for base in type(error).__mro__)


def _make_error(error: Exception) -> CheckMessage:
    # redis-py before 4.6 has no exception of its own for a wrong password.
    if _has_name(error, _CONNECTION_ERRORS) or str(error).startswith("WRONGPASS"):
        return _cannot_connect(format_error(error))
    text = f"Redis error: {type(error).__name__}: {format_error(error)}"
    return Error(text, id=ERROR_REDIS_EXCEPTION)


def _cannot_connect(reason: str) -> CheckMessage:
    return Error(f"Cannot connect to Redis: {reason}", id=ERROR_CANNOT_CONNECT_REDIS)


def _report_of_waiting(client: Any) -> Callable[[], list[CheckMessage]]:
    """Return a function that reports why a client has no answer, often because it retries.

    A connection without retries shows the reason. A thread opens it, because that may take long.
    """
    reasons = ["No answer in time"]

    def explain() -> None:
        with contextlib.suppress(Exception):  # a client that is built in another way
            if error := _find_error(client):
                reasons.append(format_error(error))

    thread = threading.Thread(target=explain, name="dockerflow redis", daemon=True)

    def make_messages() -> list[CheckMessage]:
        with contextlib.suppress(RuntimeError):  # started already, or no thread can be started
            thread.start()
            thread.join(_EXPLAIN_WAIT_S)
        return [_cannot_connect(reasons[-1])]

    return make_messages


def _find_error(client: Any) -> Exception | None:
    """Connect to a client's server without retries; return the error, if there is one."""
    pool = client.connection_pool
    sentinels = getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
    errors = [_find_error(sentinel) for sentinel in sentinels]
    if errors and all(errors):
        return errors[0]
    keywords = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if not name.startswith(("retry", "maint_"))  # which need the client
    }
    connection = pool.connection_class(**keywords | {"socket_timeout": _EXPLAIN_TIMEOUT_S})
    try:
        connection.connect()
    except Exception as error:  # noqa: BLE001 - it is the explanation
        return error
    finally:
        connection.disconnect()
    return None
