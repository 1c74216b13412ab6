"""The figures of a comparison, from the confusion matrices of students: scores, differences with intervals, costs."""

import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hmsa_label.pipeline.compare.bootstrap import F64, Interval, draw, interval, mean_iou, resampled_iou
from hmsa_label.pipeline.compare.students import Cost, Setup, Student
from hmsa_label.pipeline.config import to_dict
from hmsa_label.pipeline.software import git_state, library_versions, package_version
from hmsa_label.stores.credentials import hide_in_arguments
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore

METHOD = (
    "IoU of a class is taken from the pixels of all scored images together. mIoU is its mean over the {classes} "
    "classes that the labels of the scored images hold; what is predicted as another class costs the labeled one its "
    "pixels. Means are over {seeds}. Intervals are percentiles of {resamples} bootstrap resamples. Each draws {images} "
    "of the {images} images and {count} of the {count} seeds with replacement, the same ones for every arm, and takes "
    "IoU from the pixels of the drawn images. They know nothing of seeds that were not run{few}, and take images as "
    "independent, which frames of one drive are not."
)


@dataclass(frozen=True, kw_only=True)
class ArmScore(Result):
    """mIoU of an arm, 0..1: its mean over the seeds with the interval that holds it, and by seed."""

    mean: float
    low: float
    high: float
    seeds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Difference(Result):
    """mIoU and IoU by class of one arm less those of another; None for a class that the labels do not hold."""

    arm: str
    against: str
    miou: Interval
    iou: dict[str, Interval | None]


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """The outcome of a comparison; the JSON object of `compare --json`, also written to `compare.json`.

    Attributes:
        page: the HTML file. arms, seeds: in the order of the tables. seeds_missing: those still to train, which
            `compare.json` has while the comparison is at work. steps: of every training. split, images: that were
            scored, and how many.
        trained_on: images with fine labels and, by arm, those with labels of its own; `auto_left_out` those with auto
            labels that have no labeled pixel.
        miou: by arm.
        iou: by arm and class, averaged over the seeds; None for a class that the labels do not hold.
        differences: for each pair of arms.
        cost: by arm, summed over its seeds: seconds, and crops seen, of them fine.
        labels: what the auto labels are. students: every training, its weights and scores.
    """

    page: str
    arms: list[str]
    seeds: list[int]
    seeds_missing: list[int]
    steps: int
    split: str
    images: int
    trained_on: dict[str, int]
    confidence: float
    miou: dict[str, ArmScore]
    iou: dict[str, dict[str, float | None]]
    differences: list[Difference]
    cost: dict[str, dict[str, float]]
    labels: dict[str, Any]
    students: list[dict[str, Any]]
    method: str
    about: dict[str, Any]


def summarize(setup: Setup, seeds: list[int], students: list[Student]) -> Comparison:
    """The comparison as far as it is done.

    Args:
        seeds: those whose students are all there, in the order of each arm's `students`.
    """
    arms, share = setup.config.arms, setup.config.confidence
    draws = draw(len(setup.refs), len(seeds), setup.config.resamples)
    stacked = {arm: np.stack([student.confusions for student in students if student.arm == arm]) for arm in arms}
    iou = {arm: resampled_iou(counts, draws) for arm, counts in stacked.items()}
    names, counted = setup.classes.names, int((~np.isnan(iou[arms[0]][0])).sum())
    labels = _labels(setup)
    pairs = [(arm, other) for place, arm in reversed(list(enumerate(arms))) for other in arms[:place]]
    return Comparison(
        page=str(setup.folder / setup.file_of_split("compare.html")),
        arms=list(arms),
        seeds=seeds,
        seeds_missing=[seed for seed in setup.config.seeds if seed not in seeds],
        steps=setup.steps,
        split=setup.split,
        images=len(setup.refs),
        trained_on=setup.trained_on,
        confidence=share,
        miou={arm: _miou(iou[arm], counts, seeds, share) for arm, counts in stacked.items()},
        iou={arm: {name: _value(figure) for name, figure in zip(names, iou[arm][0], strict=True)} for arm in arms},
        differences=[_difference(arm, other, iou, setup) for arm, other in pairs],
        cost={arm: _cost(setup, arm, len(seeds), students) for arm in arms},
        labels=labels,
        students=[_student_facts(student) for student in students],
        method=_method(setup, len(seeds), counted),
        about=_about(setup),
    )


def _difference(arm: str, against: str, iou: dict[str, F64], setup: Setup) -> Difference:
    share, by_class = setup.config.confidence, (iou[arm] - iou[against]).T
    miou = interval(mean_iou(iou[arm]) - mean_iou(iou[against]), share)
    assert miou is not None  # labeled images hold a labeled class
    names = zip(setup.classes.names, by_class, strict=True)
    return Difference(
        arm=arm, against=against, miou=miou, iou={name: interval(figures, share) for name, figures in names}
    )


def _method(setup: Setup, num_seeds: int, num_classes: int) -> str:
    return METHOD.format(
        classes=num_classes,
        seeds=f"{num_seeds} seeds" if num_seeds > 1 else "one seed",
        resamples=setup.config.resamples,
        images=len(setup.refs),
        count=num_seeds,
        few=f", and {num_seeds} are few" if 1 < num_seeds < 10 else "",
    )


def _about(setup: Setup) -> dict[str, Any]:
    return {
        "colours": [list(color) for color in setup.classes.colors],
        "config": to_dict(setup.config.train),
        "hmsa_label": package_version(),
        "code": git_state(),
        "libraries": library_versions(),
        "command": hide_in_arguments(sys.argv),
    }


def _miou(iou: Any, counts: Any, seeds: list[int], share: float) -> ArmScore:
    found = interval(mean_iou(iou), share)
    single = draw(counts.shape[1], 1, 0)
    by_seed = [float(mean_iou(resampled_iou(counts[place : place + 1], single))[0]) for place in range(len(seeds))]
    assert found is not None  # labeled images hold a labeled class
    by_name = {str(seed): value for seed, value in zip(seeds, by_seed, strict=True)}
    return ArmScore(mean=found.value, low=found.low, high=found.high, seeds=by_name)


def _cost(setup: Setup, arm: str, num_seeds: int, students: list[Student]) -> dict[str, float]:
    train, total = setup.config.train, sum((student.cost for student in students if student.arm == arm), Cost())
    crops = num_seeds * setup.steps * train.batch_size
    mixed = train.mix * (1 - train.fine_tail) if arm != "fine" else 0.0
    return {**asdict(total), "crops": crops, "fine_crops": round(crops * (1 - mixed))}


def _labels(setup: Setup) -> dict[str, Any]:
    auto, train = setup.config.auto, setup.config.train
    store = LabelStore.open(auto.store, auto.version, storage_options=auto.storage_options)
    seconds = [value for value in store.table(["seconds"])["seconds"].to_pylist() if value is not None]
    return {
        "store": public_uri(auto.store),
        "version": store.version,
        "digest": store.digest,
        "images": len(store),
        "threshold": store.commit.threshold if auto.threshold is None else auto.threshold,
        "rule": store.commit.rule,
        "class_thresholds": auto.read_class_thresholds or {},
        "mix": train.mix,
        "fine_tail": train.fine_tail,
        "teacher_sha256": store.commit.teacher_sha256,
        "teacher_seconds": sum(seconds) if seconds else None,
        "coarse": to_dict(setup.config.coarse) if "coarse" in setup.config.arms else None,
    }


def _student_facts(student: Student) -> dict[str, Any]:
    counts = student.confusions.sum(0)
    single = resampled_iou(student.confusions[None], draw(len(student.confusions), 1, 0))
    return {
        "arm": student.arm,
        "seed": student.seed,
        "checkpoint": student.checkpoint,
        "sha256": student.sha256,
        "miou": float(mean_iou(single)[0]),
        "pixel_accuracy": float(np.trace(counts) / max(counts.sum(), 1)),
        **asdict(student.cost),
    }


def _value(figure: float) -> float | None:
    return None if np.isnan(figure) else float(figure)
