"""A rolling deployment behind HAProxy, while the database is migrated."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter

import alembic.command
import pytest
from core.checks.test_migrations import ENV, make_config, revise
from fronts import instance, reserved_port
from in_front.test_haproxy import UP, haproxy
from probing import heartbeat
from sqlalchemy import create_engine

OLD, NEW = "old", "new"
UNKNOWN_REVISION = "dockerflow.health.I002"


class Deployment:
    """Two servers of HAProxy, with instances of an app that share a database.

    Args:
        directory: The directory of the scripts, the database and the logs.
        ports: The ports of the servers, which an old and a new instance can share.
        stack: The `contextlib.ExitStack` that ends the instances.

    Attributes:
        ports: The ports by server.
        instances: The running `fronts.Instance` by server.
    """

    def __init__(self, directory, ports, stack):
        self.ports = dict(zip(("app1", "app2"), ports, strict=True))
        self.instances = {}
        self._directory = directory
        self._stack = stack
        self._url = f"sqlite:///{directory / 'db'}"
        for version, revisions in {OLD: ["aaaa"], NEW: ["aaaa", "bbbb"]}.items():
            (directory / version / "versions").mkdir(parents=True)
            (directory / version / "env.py").write_text(ENV)
            for below, revision in zip([None, *revisions], revisions):  # noqa: B905
                revise(directory / version, revision, below)

    def migrate(self, command, revision):
        """Migrate the database with the scripts of the new version."""
        engine = create_engine(self._url)
        command(make_config(self._directory / NEW, engine), revision)
        engine.dispose()

    def start(self, server, version):
        """Start an instance of a version."""
        options = {"DATABASE_URL": self._url, "SCRIPTS": str(self._directory / version)}
        return self._stack.enter_context(
            instance(server, self._directory, "--reuse-port", port=self.ports[server], **options)
        )

    def replace(self, server, version):
        """Start an instance of another version, then stop the earlier one of that server."""
        old, self.instances[server] = self.instances.get(server), self.start(server, version)
        if old is not None:
            old.server.stop()


@contextlib.contextmanager
def requests_to(proxy):
    """Send requests continuously; yield the number of responses by status."""
    statuses, is_over = Counter(), threading.Event()

    def send():
        while not is_over.is_set():
            statuses[proxy.ask()[0]] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def deployment(directory):
    """Deploy the old version to both servers."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(reserved_port()) for _ in range(2)]
        deployment = Deployment(directory, ports, stack)
        deployment.migrate(alembic.command.upgrade, "aaaa")
        for server in deployment.ports:
            deployment.replace(server, OLD)
        yield deployment


def check_heartbeats(deployment, *unknown):
    """Check that all heartbeats are 200, and that the given servers report a newer database."""
    for server, port in deployment.ports.items():
        for _ in range(3):
            status, shown = heartbeat(port)
            assert status == 200
            messages = [key for found in shown["details"].values() for key in found["messages"]]
            assert messages == ([UNKNOWN_REVISION] if server in unknown else [])


def test_heartbeats_stay_200_during_an_upgrade_and_a_downgrade(directory, deployment):
    """Old instances stay ready while the database is newer, and no request fails."""
    check_heartbeats(deployment)
    with haproxy(directory, *deployment.instances.values()) as proxy:
        proxy.wait_for(UP, "ready", "app1", "app2")
        with requests_to(proxy) as statuses:
            deployment.migrate(alembic.command.upgrade, "bbbb")
            check_heartbeats(deployment, "app1", "app2")
            deployment.replace("app1", NEW)
            check_heartbeats(deployment, "app2")
            deployment.replace("app2", NEW)
            check_heartbeats(deployment)

            deployment.replace("app1", OLD)
            check_heartbeats(deployment, "app1")
            deployment.replace("app2", OLD)
            check_heartbeats(deployment, "app1", "app2")
            deployment.migrate(alembic.command.downgrade, "aaaa")
            check_heartbeats(deployment)
        proxy.wait_for(UP, "ready", *deployment.ports)
    assert set(statuses) == {200}
