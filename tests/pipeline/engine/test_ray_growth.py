"""Several GPUs per host, parts of a GPU, hosts of different kinds, clusters that grow and shrink."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from hmsa_label.pipeline.engine.events import Event, ImageLabeled, Tick, WorkerLost, WorkerStarted
from hmsa_label.pipeline.engine.executor import Task
from hmsa_label.pipeline.engine.ray_executor import ActorOptions, RayExecutor, slots
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.records import Failure
from tests.fake_teacher import fake


def options(num_gpus: float = 0, num_cpus: float = 0) -> ActorOptions:
    return ActorOptions(num_gpus=num_gpus, num_cpus=num_cpus, threads=2)


def test_every_gpu_of_every_host_gets_a_worker():
    assert slots([{"CPU": 8.0}, {"GPU": 1.0, "CPU": 4.0}, {"GPU": 3.0}], options(num_gpus=1)) == 4


def test_parts_of_a_gpu_never_lie_on_two_of_them():
    # 2 GPUs hold 5 shares of 0.4 by number alone, but only two on each.
    assert slots([{"GPU": 1.0}, {"GPU": 1.0}], options(num_gpus=0.4)) == 4
    assert slots([{"GPU": 2.0}], options(num_gpus=0.5)) == 4
    assert slots([{"GPU": 1.0}], options(num_gpus=0.1)) == 10
    assert slots([{"GPU": 2.0}], options(num_gpus=0.7)) == 2


def test_no_worker_spans_two_hosts():
    assert slots([{"CPU": 3.0}, {"CPU": 3.0}], options(num_cpus=2)) == 2
    assert slots([{"GPU": 1.0}, {"GPU": 3.0}], options(num_gpus=2)) == 1
    assert slots([{"CPU": 1.0}], options(num_cpus=2)) == 0


class Mirror:
    """A worker that tells what its process sees, and labels nothing."""

    def __init__(self, number: int) -> None:
        self.info: dict[str, Any] = {
            "pid": os.getpid(),
            "host": node_id(),
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }

    def label(self, task: Task) -> Failure:
        return Failure(key=task.key, reason="it is only a mirror")

    def close(self) -> None:
        """Nothing to let go."""


def node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without room for workers; hosts are added by the tests."""
    # A host that falls silent is noticed in seconds; Ray's own default is a minute.
    for name, value in {"period_ms": "500", "timeout_ms": "1000", "failure_threshold": "2"}.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", value)
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def started(executor: RayExecutor, count: int) -> list[dict[str, Any]]:
    """What the first `count` workers tell."""
    infos: list[dict[str, Any]] = []
    deadline = time.monotonic() + 60
    while len(infos) < count:
        assert time.monotonic() < deadline, f"{len(infos)} of {count} workers started"
        infos += [report.info for report in executor.poll(0.5) if isinstance(report, WorkerStarted)]
    return infos


@pytest.mark.ray
@pytest.mark.slow
def test_shares_of_gpus_on_unequal_hosts_are_all_used_and_hosts_that_join_too(cluster):
    import ray
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test's module
    cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.add_node(num_cpus=1, num_gpus=2)
    cluster.add_node(num_cpus=1, num_gpus=0)
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    executor = RayExecutor(Mirror, None, options(num_gpus=0.5))
    try:
        infos = started(executor, 6)
        assert executor.workers == 6
        seen = Counter((info["host"], info["gpus"]) for info in infos)
        assert sorted(seen.values()) == [2, 2, 2]
        assert sorted(gpu for _, gpu in seen) == ["0", "0", "1"]
        cluster.add_node(num_cpus=1, num_gpus=1)
        late = started(executor, 2)
        assert executor.workers == 8
        assert not {info["host"] for info in late} & {info["host"] for info in infos}
    finally:
        executor.close()
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.ray
@pytest.mark.slow
def test_host_without_room_is_named_and_nothing_waits_for_ever(cluster, drawn):
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    with pytest.raises(EngineError, match="no host of the cluster has room for a worker of 0 GPUs and 2 CPUs"):
        drawn.label(executor="ray", workers=None, cpus_per_worker=2, ray_address=cluster.address)


@pytest.mark.ray
@pytest.mark.slow
def test_run_uses_a_host_that_joins_and_goes_on_without_one_that_leaves(drawn, cluster, tmp_path):
    here = drawn.label(store=str(tmp_path / "here"))
    first = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    drawn.events.clear()
    labeled = 0

    def change_hosts(event: Event) -> None:
        nonlocal labeled
        labeled += isinstance(event, ImageLabeled)
        if isinstance(event, ImageLabeled) and labeled == 2:
            cluster.add_node(num_cpus=1)
        workers = sum(isinstance(seen, WorkerStarted) for seen in drawn.events)
        if isinstance(event, WorkerStarted) and workers == 2:
            cluster.remove_node(first, allow_graceful=False)

    there = drawn.label(
        fake(ms=1000), executor="ray", workers=None, ray_address=cluster.address, threads=2, on_event=change_hosts
    )
    assert there.digest == here.digest
    assert (there.images_labelled, there.images_failed) == (20, 0)
    assert sum(isinstance(event, WorkerLost) for event in drawn.events) == 1
    last = [event for event in drawn.events if isinstance(event, Tick)][-1]
    assert (last.workers_ready, last.workers) == (1, 2)  # the lost one waits for a host, and nobody waits for it
