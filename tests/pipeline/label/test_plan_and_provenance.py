"""Where workers go, and what the record of a run says and hides."""

import pytest

from hmsa_label.pipeline.config import EngineConfig, TeacherConfig
from hmsa_label.pipeline.label.plan import cluster_address, images_in_flight, memory_share, place
from hmsa_label.pipeline.label.provenance import list_digest
from hmsa_label.pipeline.software import git_state
from hmsa_label.stores.images.source import ImageRef


def placed(*, gpus: float = 0, cpus: float = 4, device: str = "auto", **engine: object) -> tuple[object, ...]:
    config = EngineConfig(**engine)  # type: ignore[arg-type]
    where = place(config, TeacherConfig(weights="teacher.safetensors", device=device), gpus, cpus)
    return where.devices, where.gpus_per_worker, where.cpus_per_worker


def test_one_worker_per_gpu_which_each_process_sees_as_its_first():
    assert placed(gpus=3) == (("cuda:0",) * 3, 1.0, 0)


def test_threads_share_all_gpus_of_the_process():
    assert placed(gpus=2, executor="local") == (("cuda:0", "cuda:1"), 1.0, 0)
    assert placed(gpus=2, executor="local", workers=3)[0] == ("cuda:0", "cuda:1", "cuda:0")
    assert placed(gpus=2, executor="local", device="cuda:1", workers=1)[0] == ("cuda:1",)


def test_parts_of_a_gpu_hold_a_worker_each():
    assert placed(gpus=1, gpus_per_worker=0.5) == (("cuda:0", "cuda:0"), 0.5, 0)
    assert len(placed(gpus=1, gpus_per_worker=0.1)[0]) == 10


def test_workers_share_the_memory_of_their_device():
    def share(gpus: float, **engine: object) -> float | None:
        config = EngineConfig(**engine)  # type: ignore[arg-type]
        return memory_share(config, place(config, TeacherConfig(weights="teacher.safetensors"), gpus, 4))

    assert share(1) == 1.0
    assert share(1, gpus_per_worker=0.5) == 0.5
    assert share(2, gpus_per_worker=2.0) == 1.0
    assert share(1, executor="local", workers=2) == 0.5
    assert share(2, executor="local", workers=3) == 0.5
    assert share(2, executor="local", workers=2) == 1.0
    assert share(0, executor="local", workers=3) == pytest.approx(1 / 3)
    assert share(0) == 0.25
    assert share(0, ray_address="head:6379") is None


def test_without_gpus_workers_share_the_cores():
    assert placed(cpus=5, cpus_per_worker=2) == (("cpu", "cpu"), 0, 2)
    assert placed(cpus=2, workers=3) == (("cpu",) * 3, 0, 1)
    assert placed(gpus=2, cpus=2, device="cpu") == (("cpu", "cpu"), 0, 1)


def test_gpu_that_is_not_there_is_refused_and_not_replaced_by_the_cpu():
    with pytest.raises(ValueError, match="device cuda was asked for, but there is no GPU here"):
        placed(device="cuda")
    with pytest.raises(ValueError, match="Ray chooses the GPU itself; use --device cuda instead of cuda:1"):
        placed(gpus=2, device="cuda:1")


def test_cluster_that_grows_must_be_told_how_many_workers_to_grow_to():
    assert placed(cpus=0, device="cuda", workers=4, ray_address="head:6379")[0] == ("cuda:0",) * 4
    with pytest.raises(ValueError, match="say with --workers"):
        placed(cpus=0, device="cuda", ray_address="head:6379")
    with pytest.raises(ValueError, match="0 CPUs and no GPU are too few"):
        placed(cpus=0, ray_address="head:6379")


def test_cluster_is_named_by_option_or_environment_and_only_for_ray(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address(EngineConfig()) is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert cluster_address(EngineConfig()) == "head:6379"
    assert cluster_address(EngineConfig(ray_address="other:6379")) == "other:6379"
    assert cluster_address(EngineConfig(ray_address="local")) is None
    assert cluster_address(EngineConfig(executor="local")) is None


def test_a_batch_can_fill_while_another_one_is_on_the_device():
    assert images_in_flight(EngineConfig(threads=4)) == 4
    assert images_in_flight(EngineConfig(threads=4, batch_size=8)) == 16


def test_list_digest_follows_names_and_not_the_order():
    first, second = ImageRef(key="a", image="a.png"), ImageRef(key="b", image="b.png")
    assert list_digest([first, second]) == list_digest([second, first])
    assert list_digest([first]) != list_digest([second])


def test_git_state_names_the_commit_of_this_source_tree():
    state = git_state()
    if state is None:
        pytest.skip("not run from a git checkout")
    assert len(state["commit"]) == 40
