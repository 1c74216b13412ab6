"""The cluster file as Ray's own launcher sees it."""

from pathlib import Path

import yaml

CLUSTER = Path(__file__).parents[1] / "ray_cluster.yaml"


def test_cluster_file_passes_the_launchers_schema():
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(CLUSTER.read_text())))


def test_every_node_has_an_instance_profile_and_the_file_no_credentials():
    config = yaml.safe_load(CLUSTER.read_text())
    for node in config["available_node_types"].values():
        assert "IamInstanceProfile" in node["node_config"]
    text = CLUSTER.read_text().lower()
    assert not [word for word in ("aws_secret", "aws_access_key", "password") if word in text]


def test_head_does_no_work_and_workers_bring_gpus():
    nodes = yaml.safe_load(CLUSTER.read_text())["available_node_types"]
    assert nodes["head"]["resources"]["CPU"] == 0
    assert nodes["gpu_worker"]["resources"]["GPU"] >= 1
