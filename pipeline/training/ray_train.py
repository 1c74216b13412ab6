"""A training spread over the GPUs of a Ray cluster: Ray Train starts the processes, the loop in them is the same."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hmsa_label.pipeline.engine.ray_executor import RayCluster
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.training.config import RayTrainConfig, TrainConfig
from hmsa_label.pipeline.training.loop import TrainSummary, train_teacher
from hmsa_label.pipeline.training.progress import TrainLines


def train_on_ray(config: TrainConfig, cluster: RayTrainConfig) -> TrainSummary:
    """Trains with `cluster.workers` processes, each on a GPU of its own, or on a CPU where the cluster has no GPU.

    The first process writes `config.output`, which must be the same folder on every host, as the data must be.

    Raises:
        ValueError: Ray Train is not installed.
        EngineError: a process failed; the message is its own.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    try:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError
    except ImportError:
        raise ValueError(
            "--train-workers needs Ray Train; install it with pip install 'hmsa-label[ray-train]'"
        ) from None
    output = Path(config.output).expanduser().resolve()
    with RayCluster(cluster.ray_address, cluster.workers) as ray:
        gpus, _ = ray.resources()
        trainer = TorchTrainer(
            _train_here,
            train_loop_config={"config": config},
            scaling_config=ScalingConfig(num_workers=cluster.workers, use_gpu=gpus > 0 and config.device != "cpu"),
            run_config=RunConfig(name="ray", storage_path=str(output)),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise EngineError(_reason(error)) from error
    return TrainSummary(**json.loads((output / SUMMARY).read_text()))


SUMMARY = "ray/summary.json"


def _train_here(settings: dict[str, Any]) -> None:
    """What each process runs; the first one leaves the summary."""
    config: TrainConfig = settings["config"]
    summary = train_teacher(config, TrainLines(sys.stderr))
    if os.environ.get("RANK", "0") == "0":
        (Path(config.output).expanduser() / SUMMARY).write_text(json.dumps(asdict(summary)))


def _reason(error: Exception) -> str:
    """The first process's own message, without Ray's wrapping."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank, first = min(failures.items())
    cause = getattr(first, "_base_exc", None) or first.__cause__ or first
    return "; ".join([f"process {rank} of the training failed: {cause}", *getattr(cause, "__notes__", [])])
