"""The trainings of a comparison: each into its own folder, resumed where one stopped, scored image by image.

<output>/plan.json                  the label version that all of it is pinned to, and the steps of every training
<output>/<arm>/seed<n>/             what a training leaves: last.safetensors, state.pt, metrics.jsonl
<output>/<arm>/seed<n>/cost.json    seconds of every attempt
<output>/<arm>/seed<n>/done.json    settings and sha256 of the finished weights
<output>/<arm>/seed<n>/scores.npz   their confusion matrix for every scored image; scores-<split>.npz if it is not the
                                    split that is validated on
"""

import hashlib
import io
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.config import TeacherConfig, to_dict
from hmsa_label.pipeline.data.scores import confusion_of
from hmsa_label.pipeline.teacher.devices import resolve_device
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.pipeline.training.config import AutoLabels, CoarseLabels, CompareConfig, TrainConfig
from hmsa_label.pipeline.training.log import TrainEvent
from hmsa_label.pipeline.training.loop import train_teacher
from hmsa_label.pipeline.training.model import labeler_of
from hmsa_label.pipeline.training.trainer import FREE_ON_RESUME
from hmsa_label.stores.files import open_filesystem, replace_bytes
from hmsa_label.stores.images.source import ImageRef, ImageSource

COST_SECONDS = 20.0  # between notes of what a training has cost so far


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training took: seconds of CPU time (loader workers included), of a GPU held, and of wall time."""

    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    seconds: float = 0.0
    attempts: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            gpu_seconds=self.gpu_seconds + other.gpu_seconds,
            seconds=self.seconds + other.seconds,
            attempts=self.attempts + other.attempts,
        )


@dataclass(frozen=True, kw_only=True)
class Student:
    """One finished training of a comparison, and its scores.

    Attributes:
        checkpoint: its last weights (averaged ones where the training averages); sha256: of that file.
        confusions: [N, K, K] int64 pixels by scored image, label and prediction.
    """

    arm: str
    seed: int
    checkpoint: str
    sha256: str
    cost: Cost
    confusions: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all trainings of a comparison share.

    Attributes:
        config: with the arms to train, and the label version pinned. steps: of every training.
        trained_on: images by kind of label, as in the report.
        source, split, refs, classes: the images that students are scored on.
    """

    config: CompareConfig
    steps: int
    trained_on: dict[str, int]
    source: ImageSource
    split: str
    refs: list[ImageRef]
    classes: ClassTable

    @property
    def folder(self) -> Path:
        return Path(self.config.train.output).expanduser().resolve()

    def file_of_split(self, name: str) -> str:
        """A file's name, such as scores.npz, with the split that is scored if it is not the one to validate on."""
        stem, dot, suffix = name.partition(".")
        return name if self.split == self.config.train.val_split else f"{stem}-{self.split}{dot}{suffix}"

    def training(self, arm: str, seed: int) -> TrainConfig:
        """Settings of one arm and seed: all that differs between arms is where the second labels come from.

        Validation waits for the last step, because nothing is chosen by it.
        """
        train, folder = self.config.train, self.folder / arm / f"seed{seed}"
        second: AutoLabels | CoarseLabels | None = None
        if arm == "auto":
            second = self.config.auto
        elif arm == "coarse":
            second = self.config.coarse
        return replace(
            train,
            output=str(folder),
            second=second,
            mix=train.mix if second else 0.0,
            fine_tail=train.fine_tail if second else 0.0,
            seed=seed,
            max_steps=self.steps,
            validate_every=self.steps,
            resume=(folder / "state.pt").exists(),
        )


def finish_student(config: TrainConfig, on_event: Callable[[TrainEvent], None]) -> tuple[str, str, Cost]:
    """(checkpoint, its sha256, cost) of a training that is finished then, if it was not already.

    Raises:
        ValueError: the folder holds a training with other settings; or see `train_teacher`.
        KeyboardInterrupt: it was interrupted, and its state saved.
    """
    folder = Path(config.output)
    checkpoint, done = folder / "last.safetensors", _read_json(folder / "done.json")
    fixed = _fixed(config)
    if done is not None:
        now, then = _flat(fixed), _flat(done["settings"])
        changed = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
        if changed:
            raise ValueError(
                f"{folder} was trained with another {', '.join(changed)}; compare into another --output, or with the "
                "settings as they were"
            )
        if checkpoint.exists() and hashlib.sha256(checkpoint.read_bytes()).hexdigest() == done["sha256"]:
            return str(checkpoint), done["sha256"], _cost_so_far(folder)
    with _measured(folder, config.device) as note:

        def watch(event: TrainEvent) -> None:
            note()
            on_event(event)

        if train_teacher(config, watch).interrupted:
            raise KeyboardInterrupt
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    write(folder / "done.json", _to_json({"settings": fixed, "sha256": sha256, "steps": config.max_steps}))
    return str(checkpoint), sha256, _cost_so_far(folder)


def score_student(config: TrainConfig, checkpoint: str, sha256: str, setup: Setup) -> NDArray[np.int64]:
    """[N, K, K] int64 confusion matrix of each image, predicted as in the validation of its training.

    Kept beside the weights, and taken from there if weights and images are still the same.
    """
    kept, keys = Path(checkpoint).with_name(setup.file_of_split("scores.npz")), [ref.key for ref in setup.refs]
    if kept.exists():
        with np.load(kept) as scores:
            if str(scores["sha256"]) == sha256 and scores["keys"].tolist() == keys:
                return np.asarray(scores["confusions"], np.int64)
    student = Teacher(teacher_of(config, checkpoint, setup.classes))
    confusions = np.stack([_confusion(student, setup.source, ref) for ref in setup.refs])
    content = io.BytesIO()
    np.savez_compressed(content, sha256=sha256, keys=keys, confusions=confusions)
    write(kept, content.getvalue())
    return confusions


def write(path: Path, data: bytes) -> None:
    """Writes a file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    filesystem, place = open_filesystem(str(path))
    replace_bytes(filesystem, place, data)


def _confusion(student: Teacher, source: ImageSource, ref: ImageRef) -> NDArray[np.int64]:
    return confusion_of(source, [ref], student.classes, student.top1).counts


def teacher_of(config: TrainConfig, checkpoint: str, classes: ClassTable) -> TeacherConfig:
    """A teacher that predicts as the student was validated in its training."""
    teacher, options = labeler_of(config, classes.num_classes)
    return TeacherConfig(
        weights=checkpoint,
        teacher=teacher,
        options=options,
        precision=config.precision,
        device=config.device,
        cpu_threads=config.cpu_threads or torch.get_num_threads(),
    )


@contextmanager
def _measured(folder: Path, device: str) -> Iterator[Callable[[], None]]:
    """Adds what happens inside to `cost.json` as one attempt, at its end and now and then, so that a kill loses little.

    Gives the function that notes it now and then.
    """
    earlier, started = _cost_so_far(folder), (_cpu_seconds(), time.monotonic())
    on_gpu, due = resolve_device(device).type == "cuda", time.monotonic() + COST_SECONDS

    def note() -> None:
        nonlocal due
        due = time.monotonic() + COST_SECONDS
        seconds = time.monotonic() - started[1]
        now = Cost(
            cpu_seconds=_cpu_seconds() - started[0],
            gpu_seconds=seconds if on_gpu else 0.0,
            seconds=seconds,
            attempts=1,
        )
        write(folder / "cost.json", _to_json(vars(earlier + now)))

    def now_and_then() -> None:
        if time.monotonic() >= due:
            note()

    try:
        yield now_and_then
    finally:
        note()


def _cpu_seconds() -> float:
    """User and system time of this process and of children that have ended, such as loader workers."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _cost_so_far(folder: Path) -> Cost:
    return Cost(**(_read_json(folder / "cost.json") or {}))


def _fixed(config: TrainConfig) -> dict[str, Any]:
    settings = {name: value for name, value in to_dict(config).items() if name not in FREE_ON_RESUME}
    return dict(json.loads(json.dumps(settings)))


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their full names, such as `second.threshold`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return flat


def _read_json(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if os.path.exists(path) else None


def _to_json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
