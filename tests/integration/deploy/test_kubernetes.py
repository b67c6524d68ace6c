"""k8s/: what every pod keeps to, and that the overlays render."""

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from station.config import load
from tests.integration.deploy.artefacts import (
    BASE,
    ROOT,
    STATION_VARIABLES,
    base_objects,
    documents,
    pods,
)

KUBECTL = shutil.which("kubectl")
PODS = pods()


@pytest.mark.parametrize("component", PODS)
def test_a_pod_keeps_to_the_restricted_standard(component: str) -> None:
    pod = PODS[component]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("component", PODS)
def test_a_pod_gets_no_variables_of_services(component: str) -> None:
    # A variable STN_… that Station does not know is refused at boot.
    assert PODS[component]["enableServiceLinks"] is False


@pytest.mark.parametrize("component", PODS)
def test_a_pod_has_longer_to_stop_than_station_takes(component: str) -> None:
    assert PODS[component]["terminationGracePeriodSeconds"] > 30


def test_the_environment_names_variables_of_station_and_files_that_are_mounted() -> None:
    (kustomization,) = documents(BASE / "kustomization.yaml")
    literals = dict(
        literal.split("=", 1)
        for generator in kustomization["configMapGenerator"]
        for literal in generator.get("literals", [])
    )
    mounted = {
        f"/run/secrets/station/{item['path']}"
        for volume in PODS["web"]["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    }

    assert set(literals) <= STATION_VARIABLES
    assert {value for name, value in literals.items() if name.endswith("_FILE")} == mounted


def test_the_configuration_file_loads() -> None:
    config = load(
        str(BASE / "config.yaml"),
        {
            "STN_DATABASE_URL": "postgresql://station@db/station",
            "STN_REDIS_URL": "redis://valkey:6379/0",
            "STN_ENCRYPTION_KEY": "00" * 32,
        },
    )

    key = f"{config.ssh.host_key_path}"
    items = [
        f"/run/secrets/station/{item['path']}"
        for volume in PODS["ssh"]["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    ]
    assert key in items


def test_the_probes_of_web_are_the_guides() -> None:
    (container,) = PODS["web"]["containers"]

    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 8080}


def test_a_service_reaches_the_pods_of_its_role() -> None:
    for service in (found for found in base_objects() if found["kind"] == "Service"):
        component = service["spec"]["selector"]["component"]
        named = {port["name"] for port in PODS[component]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on this machine")
@pytest.mark.parametrize("folder", ["base", "overlays/dev", "overlays/staging", "overlays/prod"])
def test_kubectl_renders_it_with_a_deployment_for_each_role(folder: str) -> None:
    finished = subprocess.run(
        [str(KUBECTL), "kustomize", str(ROOT / "k8s" / folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    rendered: list[dict[str, Any]] = list(yaml.safe_load_all(finished.stdout))
    names = {found["metadata"]["name"] for found in rendered if found["kind"] == "Deployment"}
    assert names == {f"station-{role}" for role in ("web", "worker", "keeper", "ssh", "mcp")}
