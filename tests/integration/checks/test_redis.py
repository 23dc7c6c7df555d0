"""The Redis check, against a real Redis."""

from __future__ import annotations

import json
import sys

import pytest
import redis
from servers import free_port, redis_server
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware, checks
from dockerflow_wsgi.checks import check_redis_connected


@pytest.fixture
def connect():
    """Return a function that makes clients, and close them afterwards."""
    clients = []

    def make(url, **options):
        clients.append(redis.Redis.from_url(url, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_a_redis_that_answers_is_fine(connect, redis_url):
    """No message; the connection is given back and used again."""
    client = connect(redis_url, max_connections=1)
    for _ in range(3):
        assert check_redis_connected(client) == []


def test_the_middleware_asks_its_redis(connect, redis_url):
    """Given as ``redis``, under the check's published name."""
    response = request(DockerflowMiddleware(hello, redis=connect(redis_url)), "/__heartbeat__")
    assert json.loads(response.body)["checks"] == {"check_redis_connected": "ok"}


def test_a_port_that_nothing_listens_on_is_e004(connect):
    """The client's own text says where."""
    port = free_port()
    (message,) = check_redis_connected(connect(f"redis://127.0.0.1:{port}"))
    assert message.id == "dockerflow.health.E004"
    assert message.level == checks.ERROR
    assert message.msg.startswith("Cannot connect to Redis: ")
    assert str(port) in message.msg


def test_a_wrong_password_is_e004(connect):
    """There is no connection without it; and it is not shown."""
    with redis_server("--requirepass", "right") as server:
        assert check_redis_connected(connect(server.url, password="right")) == []
        (message,) = check_redis_connected(connect(server.url, password="s3cr3t"))
        assert message.id == "dockerflow.health.E004"
        assert "s3cr3t" not in message.msg


def test_a_silent_port_is_e004(connect):
    """Connected, but no answer within the client's own timeout: no connection to work with."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        (message,) = check_redis_connected(connect(url, socket_timeout=0.05))
    assert message.id == "dockerflow.health.E004"
    assert "imeout" in message.msg


def test_any_other_redis_error_is_e010(connect):
    """A Redis that answers with an error: here, one that may not be pinged."""
    with redis_server("--rename-command", "PING", "GNIP") as server:
        (message,) = check_redis_connected(connect(server.url))
    assert message.id == "dockerflow.health.E010"
    assert message.msg.startswith("Redis error: ResponseError: unknown command")


class Client:
    """A client that answers as it is told."""

    def __init__(self, answer):
        self.answer = answer

    def ping(self):
        """Answer, or raise."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("answer", [False, None, b"", 0])
def test_a_false_answer_is_e007(answer):
    """Something else than Redis listens there, or a client that swallows errors asked."""
    (message,) = check_redis_connected(Client(answer))
    assert message.id == "dockerflow.health.E007"
    assert repr(answer) in message.msg


@pytest.mark.parametrize("answer", [True, b"PONG", "PONG"])
def test_a_true_answer_is_fine(answer):
    """Clients differ in how they show it."""
    assert check_redis_connected(Client(answer)) == []


def test_an_asyncio_client_is_told(redis_url):
    """A coroutine is true, but it is no answer."""
    asyncio = pytest.importorskip("redis.asyncio", reason="redis-py has it since 4.2")
    (message,) = check_redis_connected(asyncio.Redis.from_url(redis_url))
    assert message.id == "dockerflow.health.E010"
    assert "asyncio" in message.msg


def test_a_relatives_errors_are_told_without_redis_py(monkeypatch):
    """valkey's client has exceptions of its own, of the same names."""

    class ValkeyError(Exception):
        pass

    class ConnectionError(ValkeyError):  # noqa: A001
        pass

    monkeypatch.setitem(sys.modules, "redis", None)
    (message,) = check_redis_connected(Client(ConnectionError("refused")))
    assert message.id == "dockerflow.health.E004"

    class ValkeyClusterException(Exception):  # noqa: N818
        pass

    (message,) = check_redis_connected(Client(ValkeyClusterException("no node")))
    assert message.id == "dockerflow.health.E004"
    (message,) = check_redis_connected(Client(ValkeyError("loading")))
    assert message.id == "dockerflow.health.E010"


def test_an_error_that_is_none_of_redis_is_the_checks():
    """It is not hidden behind a Redis error."""
    with pytest.raises(ZeroDivisionError):
        check_redis_connected(Client(ZeroDivisionError()))


@pytest.mark.skipif(redis.__version__ < "6", reason="redis-py retries by itself since 6")
def test_a_client_that_retries_is_asked_without_its_retries(redis_url):
    """By a twin with one connection of its own, made once; the client stays as it is."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with redis.Redis(port=port, client_name="app") as client:
        retries = client.get_retry()._retries
        assert retries > 0
        for _ in range(5):
            assert check_redis_connected(client) == []
        assert client.get_retry()._retries == retries
        connections = [one for one in client.client_list() if one["name"] == "app"]
        assert len(connections) == 2


class RedisOfTenant(redis.Redis):
    """A client of the app's own, which cannot be built as redis-py's are."""

    def __init__(self, tenant, **options):
        super().__init__(**options)
        self.tenant = tenant


def test_a_client_that_cannot_be_built_again_is_asked_itself(redis_url):
    """With the retries that it has: no twin of it can be made."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with RedisOfTenant("acme", port=port) as client:
        for _ in range(2):
            assert check_redis_connected(client) == []
