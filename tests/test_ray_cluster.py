"""The cluster files as Ray's own launcher sees them, and the Kubernetes manifest field by field."""

import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hmsa_label.cli.main import main

ROOT = Path(__file__).parents[1]
AWS, ONPREM, RAYJOB = ROOT / "ray_cluster.yaml", ROOT / "deploy/ray_cluster_onprem.yaml", ROOT / "deploy/rayjob.yaml"
HEALTH = ("RAY_health_check_period_ms", "RAY_health_check_timeout_ms", "RAY_health_check_failure_threshold")


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", [AWS, ONPREM], ids=lambda path: path.stem)
def test_cluster_file_passes_the_launchers_schema(path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(load(path)))


@pytest.mark.parametrize("path", [AWS, ONPREM], ids=lambda path: path.stem)
def test_cluster_asks_for_a_token_and_notices_a_silent_host(path):
    config = load(path)
    (head,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    (worker,) = [line for line in config["worker_start_ray_commands"] if "ray start" in line]
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert "--dashboard-host=127.0.0.1" in head
    assert [name for name in (*HEALTH, "RAY_JOB_STOP_WAIT_TIME_S") if f"{name}=" not in head] == []


@pytest.mark.parametrize("path", [ROOT / "docs/guides/cluster.md", AWS, ONPREM, RAYJOB], ids=lambda path: path.stem)
def test_head_that_is_said_to_be_on_the_loopback_is_there_with_all_its_ports(path):
    text = path.read_text()
    assert text.count("--node-ip-address 127.0.0.1") <= text.count("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0")


@pytest.mark.parametrize("path", [AWS, ONPREM], ids=lambda path: path.stem)
def test_every_machine_installs_the_wheel_that_is_sent_along(path):
    config = load(path)
    (target,) = [target for target, source in config["file_mounts"].items() if source == "dist"]
    assert any(f"install --upgrade {target}/*.whl" in line for line in config["setup_commands"])


@pytest.mark.parametrize("path", [AWS, ONPREM, RAYJOB], ids=lambda path: path.stem)
def test_no_file_holds_credentials(path):
    text = path.read_text().lower()
    words = ("aws_secret", "aws_access_key", "aws_session", "password", "secretkeyref", "begin openssh", "akia")
    assert [word for word in words if word in text] == []


def test_every_aws_node_has_a_role_and_no_port_open_to_the_world():
    for node in load(AWS)["available_node_types"].values():
        assert "IamInstanceProfile" in node["node_config"]
        # Without a group, Ray makes one that admits SSH from everywhere.
        assert node["node_config"]["SecurityGroupIds"]
    assert "0.0.0.0" not in AWS.read_text()


def test_aws_head_does_no_work_and_gpu_workers_come_from_the_spot_market():
    config = load(AWS)
    nodes = config["available_node_types"]
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert nodes["gpu_worker"]["resources"]["GPU"] >= 1
    assert nodes["gpu_worker"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert nodes["gpu_worker"]["min_workers"] == 0 < nodes["gpu_worker"]["max_workers"] == config["max_workers"]


def test_own_machines_are_all_started():
    config = load(ONPREM)
    assert config["min_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])


def test_rayjob_is_one_run_that_goes_on_in_a_new_cluster_and_leaves_none_behind():
    job = load(RAYJOB)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    fields = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
    assert set(spec) == fields
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] >= 1
    assert parse_run(spec["entrypoint"])["workers"] == spec["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"]


def parse_run(line: str) -> dict[str, Any]:
    """Options of a `hmsa-label run` line, as the command itself reads them."""
    words = shlex.split(line)
    assert words[:2] == ["hmsa-label", "run"]
    command = main.get_command(click.Context(main), "run")
    assert command is not None
    return command.make_context("run", words[2:]).params


def test_rayjobs_head_does_no_work_and_its_workers_get_gpus():
    cluster = load(RAYJOB)["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    (container,) = head["template"]["spec"]["containers"]
    assert {variable["name"] for variable in container["env"]} == {*HEALTH, "RAY_JOB_STOP_WAIT_TIME_S"}
    assert all(isinstance(variable["value"], str) for variable in container["env"])
    (worker,) = workers["template"]["spec"]["containers"]
    assert worker["image"] == container["image"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == worker["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert workers["minReplicas"] == workers["replicas"] == 0 < workers["maxReplicas"]
    for pod in (head, workers):
        assert pod["template"]["spec"]["serviceAccountName"]
        assert all(isinstance(value, str) for value in pod["rayStartParams"].values())
