"""The Kubernetes example is valid and consistent, and an app answers its probes."""

from __future__ import annotations

import kubernetes_validate
import pytest
import yaml
from commands import documented, served
from servers import EXAMPLES, ROOT

MANIFEST = EXAMPLES / "kubernetes" / "app.yaml"
DEPLOYMENT, SERVICE = yaml.safe_load_all(MANIFEST.read_text())
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRONMENT = {variable["name"]: variable["value"] for variable in CONTAINER["env"]}


def probed(probe, app):
    """Send a probe's request, and return the status."""
    return app.get(CONTAINER[probe]["httpGet"]["path"]).status


def test_the_documented_command_applies_the_manifest():
    """The documented command names the manifest."""
    assert documented("kubernetes/app.yaml") == [
        f"kubectl apply --filename {MANIFEST.relative_to(ROOT)}"
    ]


@pytest.mark.parametrize("resource", [DEPLOYMENT, SERVICE], ids=["Deployment", "Service"])
def test_it_is_valid(resource):
    """The manifest is valid in Kubernetes' schema, without unknown keys."""
    latest = kubernetes_validate.latest_version()
    kubernetes_validate.validate(resource, latest, strict=True)


def test_it_runs_as_dockerflows_user():
    """The container runs as user and group 10001, and never as root."""
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (10001, 10001)
    assert context["runAsNonRoot"] is True


def test_the_service_and_the_probes_use_the_port_of_the_app():
    """The service and the probes name the port that the app listens on."""
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    (served_port,) = SERVICE["spec"]["ports"]
    names = {served_port["targetPort"]}
    names |= {CONTAINER[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")}
    assert {ports[name] for name in names} == {int(ENVIRONMENT["PORT"])}
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert SERVICE["spec"]["selector"] == labels
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels


def test_a_heartbeat_is_answered_before_its_probe_gives_up():
    """The probe's timeout is longer than the heartbeat's deadline."""
    assert (
        float(ENVIRONMENT["DOCKERFLOW_CHECK_TIMEOUT"])
        < CONTAINER["readinessProbe"]["timeoutSeconds"]
    )


def test_a_healthy_container_is_alive_and_ready():
    """The example's app, with the manifest's variables, passes both probes."""
    environment = ENVIRONMENT | {"PORT": "0", "GUNICORN_CMD_ARGS": ""}
    image = EXAMPLES / "container"
    with served(["gunicorn", "app:wrapped_app"], cwd=image, **environment) as app:
        assert [probed(probe, app) for probe in ("livenessProbe", "readinessProbe")] == [200, 200]


def test_a_container_with_a_hanging_service_is_alive_but_not_ready():
    """A hanging service fails the readiness probe only, because a restart does not help."""
    command = ["gunicorn", "--threads", "2", "apps:hanging"]
    with served(command, cwd=ROOT / "tests") as app:
        assert probed("readinessProbe", app) == 500
        assert probed("livenessProbe", app) == 200
