"""The Redis check, against a real Redis."""

from __future__ import annotations

import json
import sys
import threading
import warnings

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from servers import free_port, redis_server
from waiting import wait_until
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


class Client:
    """A client with a given answer."""

    def __init__(self, answer):
        self.answer = answer

    def ping(self):
        """Return the answer, or raise it."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def take(pool):
    """Take a connection from a pool, and keep it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the argument, which redis-py 4 needs
        return pool.get_connection("PING")


def ask(client, wanted="", **settings):
    """Return the text of a heartbeat's E004 with a wanted part, when the check is done.

    On a busy machine, a later heartbeat than the first has the part.
    """
    app = DockerflowMiddleware(hello, redis=client, **settings)

    def find_text():
        details = json.loads(request(app, "/__heartbeat__").body)["details"]
        text = details["check_redis_connected"]["messages"]["dockerflow.health.E004"]
        return text if wanted in text else None

    text = wait_until(find_text)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("dockerflow ")])
    return text


class TestAnswers:
    """The check sends ``PING`` with the app's own client."""

    def test_a_redis_that_answers_is_fine(self, connect, redis_url):
        """The check returns no message, gives its connection back and uses it again."""
        client = connect(redis_url, max_connections=1)
        for _ in range(3):
            assert check_redis_connected(client) == []

    def test_the_middleware_asks_its_redis(self, connect, redis_url):
        """A client that is passed as ``redis`` is checked under the check's published name."""
        response = request(DockerflowMiddleware(hello, redis=connect(redis_url)), "/__heartbeat__")
        assert json.loads(response.body)["checks"] == {"check_redis_connected": "ok"}

    @pytest.mark.parametrize("answer", [False, None, b"", 0])
    def test_a_false_answer_is_e007(self, answer):
        """E007 has the false answer, such as that of a client that swallows errors."""
        (message,) = check_redis_connected(Client(answer))
        assert message.id == "dockerflow.health.E007"
        assert repr(answer) in message.msg

    @pytest.mark.parametrize("answer", [True, b"PONG", "PONG"])
    def test_a_true_answer_is_fine(self, answer):
        """Clients may return ``True``, bytes or a string."""
        assert check_redis_connected(Client(answer)) == []

    def test_an_asyncio_client_is_e010(self, redis_url):
        """A client for asyncio is E010, which asks for a synchronous one."""
        asyncio = pytest.importorskip("redis.asyncio", reason="redis-py has it since 4.2")
        (message,) = check_redis_connected(asyncio.Redis.from_url(redis_url))
        assert message.id == "dockerflow.health.E010"
        assert "asyncio" in message.msg

    def test_the_check_opens_no_connection_of_its_own(self, redis_url):
        """All heartbeats use the one connection of the app's pool."""
        port = int(redis_url.rpartition(":")[2].partition("/")[0])
        with redis.Redis(port=port, client_name="app") as client:
            for _ in range(5):
                assert check_redis_connected(client) == []
            assert len([one for one in client.client_list() if one["name"] == "app"]) == 1


class TestErrors:
    """A missing connection is E004, any other error of Redis E010."""

    def test_a_port_that_nothing_listens_on_is_e004(self, connect):
        """E004 has the client's own reason with the port."""
        port = free_port()
        (message,) = check_redis_connected(connect(f"redis://127.0.0.1:{port}"))
        assert message.id == "dockerflow.health.E004"
        assert message.level == checks.ERROR
        assert message.msg.startswith("Cannot connect to Redis: ")
        assert str(port) in message.msg

    def test_a_wrong_password_is_e004(self, connect):
        """A wrong password is E004, and is not shown."""
        with redis_server("--requirepass", "right") as server:
            assert check_redis_connected(connect(server.url, password="right")) == []
            (message,) = check_redis_connected(connect(server.url, password="s3cr3t"))
            assert message.id == "dockerflow.health.E004"
            assert "s3cr3t" not in message.msg

    def test_a_silent_port_is_e004(self, connect):
        """A server that does not answer within the client's own timeout is E004."""
        import socket

        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            (message,) = check_redis_connected(connect(url, socket_timeout=0.05))
        assert message.id == "dockerflow.health.E004"
        assert "imeout" in message.msg

    def test_any_other_redis_error_is_e010(self, connect):
        """An error that Redis answers is E010, here that of an unknown command."""
        with redis_server("--rename-command", "PING", "GNIP") as server:
            (message,) = check_redis_connected(connect(server.url))
        assert message.id == "dockerflow.health.E010"
        assert message.msg.startswith("Redis error: ResponseError: unknown command")

    def test_another_exception_is_raised(self):
        """An exception that is not a Redis client's is raised."""
        with pytest.raises(ZeroDivisionError):
            check_redis_connected(Client(ZeroDivisionError()))

    def test_an_exhausted_pool_is_e004(self, connect, redis_url):
        """The check asks the app's own pool, and fails when the app's commands would."""
        client = connect(redis_url, max_connections=1)
        assert check_redis_connected(client) == []
        leaked = take(client.connection_pool)
        (message,) = check_redis_connected(client)
        assert message.id == "dockerflow.health.E004"
        assert "connections" in message.msg
        client.connection_pool.release(leaked)
        assert check_redis_connected(client) == []

    def test_a_rotated_password_is_used_by_the_check_too(self, connect):
        """The check recovers together with the app's client."""
        with redis_server() as server, redis.Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", "shop", "on", ">one", "~*", "+@all")
            client = connect(server.url, username="shop", password="one")
            assert check_redis_connected(client) == []
            admin.execute_command("ACL", "SETUSER", "shop", "resetpass", ">two")
            admin.execute_command("CLIENT", "KILL", "USER", "shop")
            (message,) = check_redis_connected(client)
            assert message.id == "dockerflow.health.E004"
            client.connection_pool.connection_kwargs["password"] = "two"
            client.connection_pool.reset()
            assert client.ping()
            assert check_redis_connected(client) == []


class TestDeadline:
    """A client that waits is E004 by the deadline of the heartbeat."""

    def test_a_pool_that_blocks_is_e004_by_the_deadline(self, redis_url):
        """A pool that waits for a free connection is E004 instead of a timeout."""
        pool = redis.BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=2)
        client = redis.Redis(connection_pool=pool)
        leaked = take(pool)
        assert ask(client, check_timeout=0.5) == "Cannot connect to Redis: No answer in time"
        pool.release(leaked)
        client.close()
        pool.disconnect()

    @pytest.mark.parametrize("scheme", ["redis", "unix"])
    def test_a_client_that_retries_for_minutes_is_e004_by_the_deadline(
        self, connect, tmp_path, scheme
    ):
        """The report has the reason, and the client's own retries go on."""
        address = f"//127.0.0.1:{free_port()}" if scheme == "redis" else f"//{tmp_path / 'none'}"
        retry = Retry(ConstantBackoff(0.5), 4)
        errors = [redis.ConnectionError, redis.TimeoutError]
        client = connect(f"{scheme}:{address}", retry=retry, retry_on_error=errors)
        text = ask(client, "Error ", check_timeout=0.3)
        assert text.startswith(f"Cannot connect to Redis: Error {111 if scheme == 'redis' else 2} ")

    def test_a_wrong_password_is_the_reason_of_a_client_that_retries(self, connect):
        """The reason comes from a connection without retries, and shows no password."""
        with redis_server("--requirepass", "right") as server:
            errors = [redis.ConnectionError, redis.ResponseError]
            options = {"retry": Retry(ConstantBackoff(0.5), 4), "retry_on_error": errors}
            client = connect(server.url, password="s3cr3t", **options)
            text = ask(client, "password", check_timeout=0.3)
        assert "password" in text
        assert "s3cr3t" not in text


class TestOtherClients:
    """Clients of other packages are supported."""

    @pytest.mark.parametrize(
        ("names", "identifier"),
        [
            (["ConnectionError", "ValkeyError"], "dockerflow.health.E004"),
            (["ValkeyClusterException"], "dockerflow.health.E004"),
            (["ResponseError", "ValkeyError"], "dockerflow.health.E010"),
            (["ClosingError", "GlideError"], "dockerflow.health.E004"),
            (["TimeoutError", "RequestError", "GlideError"], "dockerflow.health.E004"),
            (["RequestError", "GlideError"], "dockerflow.health.E010"),
        ],
    )
    def test_errors_of_other_clients_are_recognised_without_redis_py(
        self, monkeypatch, names, identifier
    ):
        """Exceptions are recognised by their names, without redis-py."""
        kind = Exception
        for name in reversed(names):
            kind = type(name, (kind,), {})
        monkeypatch.setitem(sys.modules, "redis", None)
        (message,) = check_redis_connected(Client(kind("refused")))
        assert message.id == identifier

    def test_valkey_py_is_supported(self, redis_url):
        """With valkey-py, an answer is fine, and a refused connection is E004."""
        valkey = pytest.importorskip("valkey")
        with valkey.Valkey.from_url(redis_url) as client:
            assert check_redis_connected(client) == []
        with valkey.Valkey(port=free_port()) as client:
            (message,) = check_redis_connected(client)
        assert message.id == "dockerflow.health.E004"

    def test_valkey_glide_is_supported(self):
        """With valkey-glide-sync, an answer is fine, and a server that ends is E004."""
        glide = pytest.importorskip("glide_sync")
        port = free_port()
        with redis_server(port=port) as server:
            addresses = [glide.NodeAddress("127.0.0.1", port)]
            client = glide.GlideClient.create(glide.GlideClientConfiguration(addresses))
            assert check_redis_connected(client) == []
            server.kill()
            (message,) = check_redis_connected(client)
            client.close()
        assert message.id == "dockerflow.health.E004"
