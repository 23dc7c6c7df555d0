"""Whether Redis answers."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Protocol

from ..masking import describe
from .ids import ERROR_CANNOT_CONNECT_REDIS, ERROR_REDIS_EXCEPTION, ERROR_REDIS_PING_FAILED
from .messages import CheckMessage, Error

if TYPE_CHECKING:
    from collections.abc import Collection

# redis-py's exceptions and those of its relatives (valkey) are told by their names, so that
# neither package needs to be installed for the other one's client.
_CLIENT_ERRORS = {"RedisError", "ValkeyError"}
_NO_CONNECTION = {"ConnectionError", "TimeoutError"}


class RedisClient(Protocol):
    """Any client that can be pinged."""

    def ping(self) -> object:
        """Send ``PING``; the answer is true when it is ``PONG``."""


def check_redis_connected(client: RedisClient) -> list[CheckMessage]:
    """Send ``PING`` to Redis.

    Args:
        client: A synchronous client with ``ping()``: redis-py's (4 or newer), a cluster's,
            one made by a sentinel, Flask-Redis's, valkey's.

    Returns:
        An error ``dockerflow.health.E004`` if there is no connection (refused, timed out,
        not authenticated), ``E010`` for any other Redis error, ``E007`` if the answer is
        false; nothing if all is well.

    Raises:
        Exception: What the client raised, if it is no error of a Redis client.
    """
    try:
        answer = client.ping()
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


def _error(error: Exception, names: Collection[str]) -> CheckMessage:
    if _NO_CONNECTION.isdisjoint(names):
        text = f"Redis error: {type(error).__name__}: {describe(error)}"
        return Error(text, id=ERROR_REDIS_EXCEPTION)
    return Error(f"Cannot connect to Redis: {describe(error)}", id=ERROR_CANNOT_CONNECT_REDIS)
