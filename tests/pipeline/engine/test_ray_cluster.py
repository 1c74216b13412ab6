"""A cluster of several nodes on this machine: our code travels with the run, and a node may die."""

from collections.abc import Iterator
from typing import Any

import pytest

from hmsa_label.pipeline.engine.events import Event, ImageLabeled, WorkerLost, WorkerStarted
from tests.fake_teacher import fake

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without room for workers, and two nodes with room for one each."""
    # A node that falls silent is noticed in seconds; Ray's own default is a minute.
    for name, value in {"period_ms": "500", "timeout_ms": "1000", "failure_threshold": "2"}.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", value)
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes.kept = [nodes.add_node(num_cpus=1) for _ in range(2)]
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


def test_a_node_dies_and_another_one_takes_its_place(drawn, cluster, tmp_path):
    here = drawn.label(store=str(tmp_path / "here"))
    drawn.events.clear()

    def change_nodes(event: Event) -> None:
        if isinstance(event, ImageLabeled) and sum(isinstance(seen, ImageLabeled) for seen in drawn.events) == 3:
            cluster.remove_node(cluster.kept[0], allow_graceful=False)
            cluster.add_node(num_cpus=1)

    there = drawn.label(
        fake(ms=200), executor="ray", workers=2, ray_address=cluster.address, threads=2, on_event=change_nodes
    )
    assert there.digest == here.digest
    assert (there.images_labelled, there.images_failed) == (20, 0)
    assert any(isinstance(event, WorkerLost) for event in drawn.events)
    assert len({event.info["pid"] for event in drawn.events if isinstance(event, WorkerStarted)}) >= 2
