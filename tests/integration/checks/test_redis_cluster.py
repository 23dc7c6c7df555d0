"""The Redis check, against a real Redis Cluster and real sentinels."""

from __future__ import annotations

import contextlib
import json

import pytest
import redis
from programs import running
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel
from servers import free_port, free_ports, redis_executable, redis_server
from waiting import wait_until
from wsgi import hello, request

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.checks import check_redis_connected

CHECK_TIMEOUT_S = 4
SLOTS = 16_384
pytestmark = pytest.mark.usefixtures("nothing_is_left_to_the_next_test")


@contextlib.contextmanager
def redis_cluster():
    """Run a cluster of three masters; yield their `programs.Program` objects and ports."""
    *ports, first_bus, _, _ = free_ports(6)
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port")
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(redis_server(*options, str(port + 3), port=port)) for port in ports
        ]
        nodes = [stack.enter_context(redis.Redis(port=port)) for port in ports]
        for number, node in enumerate(nodes):
            first, end = SLOTS * number // 3, SLOTS * (number + 1) // 3
            node.execute_command("CLUSTER ADDSLOTS", *range(first, end))

        def is_complete():
            shown = [cluster_info(node) for node in nodes]
            for node, info in zip(nodes[1:], shown[1:], strict=True):
                if info["cluster_known_nodes"] == "1":  # a meeting that takes a second is forgotten
                    node.execute_command("CLUSTER MEET", "127.0.0.1", ports[0], first_bus)
            seen = {(info["cluster_state"], info["cluster_known_nodes"]) for info in shown}
            return seen == {("ok", "3")}

        wait_until(is_complete)
        yield servers, ports


def cluster_info(node):
    """Return what a node knows about its cluster, as texts."""
    shown = node.execute_command("CLUSTER INFO")  # text or a dictionary, by redis-py's version
    if isinstance(shown, dict):
        return shown
    return dict(line.split(":") for line in shown.decode().split())


def test_a_cluster_is_an_error_while_it_lacks_a_master():
    """PING is still answered by other nodes, but the app's commands fail."""
    with redis_cluster() as (servers, ports):
        cluster = RedisCluster(host="127.0.0.1", port=ports[0])
        # A node that gets no processor time for a second is missing for a moment.
        wait_until(lambda: check_redis_connected(cluster) == [])
        servers[2].kill()

        def report():
            (message,) = check_redis_connected(cluster) or [None]
            return message if message and message.id == "dockerflow.health.E010" else None

        assert wait_until(report).msg == "The Redis Cluster's state is 'fail'"
        cluster.close()


def test_a_cluster_without_any_node_is_e004_within_the_deadline():
    """The client's retries take longer than the heartbeat."""
    with redis_cluster() as (servers, ports):
        cluster = RedisCluster(host="127.0.0.1", port=ports[0])
        for server in servers:
            server.kill()
        assert ask(cluster).startswith("Cannot connect to Redis: ")
        cluster.close()


def ask(client):
    """Ask for the heartbeat; return the text of its E004."""
    app = DockerflowMiddleware(hello, redis=client, check_timeout=CHECK_TIMEOUT_S)
    details = json.loads(request(app, "/__heartbeat__").body)["details"]
    return details["check_redis_connected"]["messages"]["dockerflow.health.E004"]


@contextlib.contextmanager
def sentinels(directory, master_port):
    """Run three sentinels of a master; yield their addresses and `programs.Program` objects."""
    with contextlib.ExitStack() as stack:
        ports, servers = free_ports(3), []
        for port in ports:
            path = directory / f"sentinel-{port}.conf"
            path.write_text(f"sentinel monitor main 127.0.0.1 {master_port} 2\n")
            command = [redis_executable(), path, "--sentinel", "--port", port]
            servers.append(stack.enter_context(running([*command, "--bind", "127.0.0.1"])))
            servers[-1].wait_for("+monitor master main")
        yield [("127.0.0.1", port) for port in ports], servers


def test_a_sentinels_master_is_asked(tmp_path):
    """The master is found by the sentinels, and its refusal is E004 within the deadline."""
    port = free_port()
    with redis_server(port=port) as server, sentinels(tmp_path, port) as (addresses, _):
        client = Sentinel(addresses).master_for("main")
        assert check_redis_connected(client) == []
        server.kill()
        assert "refused" in ask(client)
        client.close()


def test_sentinels_that_refuse_are_e004_within_the_deadline(tmp_path):
    """The report has the client's own error, however often the client retries."""
    port = free_port()
    with redis_server(port=port), sentinels(tmp_path, port) as (addresses, servers):
        client = Sentinel(addresses).master_for("main")
        for server in servers:
            server.kill()
        text = ask(client)  # redis-py 4.1 does not name the sentinel
        assert f"connecting to 127.0.0.1:{addresses[0][1]}" in text or "No master found" in text
        client.close()


def test_an_unknown_master_is_e004(tmp_path):
    """The sentinels answer that they do not monitor it."""
    port = free_port()
    with redis_server(port=port), sentinels(tmp_path, port) as (addresses, _):
        client = Sentinel(addresses).master_for("other")
        assert "No master found" in ask(client)
        client.close()
