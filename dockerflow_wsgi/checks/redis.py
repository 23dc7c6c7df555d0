"""Whether Redis answers."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from ..redaction import format_error
from .messages import (
    ERROR_CANNOT_CONNECT_REDIS,
    ERROR_REDIS_EXCEPTION,
    ERROR_REDIS_PING_FAILED,
    CheckMessage,
    Error,
)

if TYPE_CHECKING:
    from collections.abc import Collection

# redis-py's exceptions and those of its relatives (valkey) are told by their names, so that
# neither package needs to be installed for the other one's client.
_CLUSTER_ERRORS = {"RedisClusterException", "ValkeyClusterException"}  # no RedisError, and no node
_CLIENT_ERRORS = {"RedisError", "ValkeyError", *_CLUSTER_ERRORS}
_NO_CONNECTION = {"ConnectionError", "TimeoutError", *_CLUSTER_ERRORS}

_twins: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class RedisClient(Protocol):
    """Any client that can be pinged."""

    def ping(self) -> object:
        """Send ``PING``; the answer is true when it is ``PONG``."""


def check_redis_connected(client: RedisClient) -> list[CheckMessage]:
    """Send ``PING`` to Redis.

    Args:
        client: A synchronous client with ``ping()``: redis-py's (4.1 or newer), a cluster's,
            one made by a sentinel, Flask-Redis's, valkey's.

    Returns:
        An error ``dockerflow.health.E004`` if there is no connection (refused, timed out,
        not authenticated), ``E010`` for any other Redis error, ``E007`` if the answer is
        false; nothing if all is well.

    Raises:
        Exception: What the client raised, if it is no error of a Redis client.
    """
    try:
        answer = _without_retries(client).ping()
    except Exception as error:
        names = {base.__name__ for base in type(error).__mro__}
        if not names & _CLIENT_ERRORS:
            raise
        return [_error(error, names)]
    if inspect.iscoroutine(answer):
        answer.close()
        text = "The Redis client is an asyncio client: pass a synchronous one"
        return [Error(text, id=ERROR_REDIS_EXCEPTION)]
    if not answer:
        return [Error(f"Redis answered PING with {answer!r}", id=ERROR_REDIS_PING_FAILED)]
    return []


def _without_retries(client: Any) -> Any:
    """Return a redis-py client's twin that tells an error at once.

    The client of redis-py 6 and newer retries up to ten times, seconds apart: the heartbeat
    would be over by then, and could only tell that the check was not done.
    """
    client = getattr(client.ping, "__self__", client)  # of a proxy, such as Flask-Redis
    pool = getattr(client, "connection_pool", None)
    retry = getattr(pool, "connection_kwargs", {}).get("retry")
    if not getattr(retry, "_retries", 0) or type(pool).__name__ != "ConnectionPool":
        return client  # it tells errors at once, or its pool is of a kind not to be rebuilt
    if pool not in _twins:
        _twins[pool] = _twin(client, pool)
    twin = _twins[pool]
    return client if twin is None else twin


def _twin(client: Any, pool: Any) -> Any:
    keywords = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if not name.startswith("maint_notifications")  # a twin has no need of them
    }
    try:
        keywords["retry"] = copy.copy(keywords["retry"])
        keywords["retry"].update_retries(0)
        own_pool = type(pool)(connection_class=pool.connection_class, **keywords)
        return type(client)(connection_pool=own_pool)
    except Exception:  # noqa: BLE001 - a version that builds its clients otherwise
        return None  # not the client: it holds the pool, which would then never be let go


def _error(error: Exception, names: Collection[str]) -> CheckMessage:
    # redis-py before 4.6 has no exception of its own for a wrong password.
    is_refused = str(error).startswith("WRONGPASS")
    if _NO_CONNECTION.isdisjoint(names) and not is_refused:
        text = f"Redis error: {type(error).__name__}: {format_error(error)}"
        return Error(text, id=ERROR_REDIS_EXCEPTION)
    return Error(f"Cannot connect to Redis: {format_error(error)}", id=ERROR_CANNOT_CONNECT_REDIS)
