"""What auto labels buy: the same student on fine labels alone, on fine and coarse ones, and on fine and auto ones.

Every training of a seed starts from the same weights and takes the same number of steps of the same number of crops;
arms differ in nothing but where the crops that are not fine come from. The last weights are scored, not those that were
best on the scored split.
"""

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import hmsa_label
from hmsa_label.pipeline.bootstrap import Interval, draw, interval, mean_iou, resampled_iou
from hmsa_label.pipeline.compare_page import render_comparison
from hmsa_label.pipeline.compare_runs import Cost, Student, finish_student, score_student, settings_of, write
from hmsa_label.pipeline.config import to_dict
from hmsa_label.pipeline.evaluate import classes_of, labelled_images
from hmsa_label.pipeline.provenance import git_state, library_versions
from hmsa_label.pipeline.train_config import ARMS, CompareConfig
from hmsa_label.pipeline.train_log import TrainEvent
from hmsa_label.stores.credentials import hide_in_arguments
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.images import ImageRef, ImageSource, open_images
from hmsa_label.stores.label_store import LabelStore

OnStep = Callable[[str, int, TrainEvent], None]

METHOD = (
    "IoU of a class is taken from the pixels of all scored images together. mIoU is its mean over the {classes} "
    "classes that the labels of the scored images hold; what is predicted as another class costs the labelled one its "
    "pixels. Means are over {seeds}. Intervals are percentiles of {resamples} bootstrap resamples. Each draws {images} "
    "of the {images} images and {count} of the {count} seeds with replacement, the same ones for every arm, and takes "
    "IoU from the pixels of the drawn images. They know nothing of seeds that were not run{few}, and take images as "
    "independent, which frames of one drive are not."
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The outcome of a comparison; the JSON object of `compare --json`, also written to `compare.json`.

    Attributes:
        page: the HTML file. arms, seeds: in the order of the tables. seeds_missing: those still to train, which
            `compare.json` has while the comparison is at work. steps: of every training. images: that were scored.
        miou: by arm: `mean` over the seeds with `low` and `high`, and `seeds` one by one, 0..1.
        iou: by arm and class, averaged over the seeds; None for a class that the labels do not hold.
        differences: for each pair of arms: `arm`, `against`, `miou` and by class `iou`, each an interval or None.
        cost: by arm, summed over its seeds: seconds, and crops seen, of them fine.
        labels: what the auto labels are. students: every training, its weights and scores.
    """

    page: str
    arms: list[str]
    seeds: list[int]
    seeds_missing: list[int]
    steps: int
    images: int
    confidence: float
    miou: dict[str, dict[str, Any]]
    iou: dict[str, dict[str, float | None]]
    differences: list[dict[str, Any]]
    cost: dict[str, dict[str, float]]
    labels: dict[str, Any]
    students: list[dict[str, Any]]
    method: str
    about: dict[str, Any]


def compare(config: CompareConfig, on_step: OnStep | None = None) -> Comparison:
    """Trains what is missing, scores it, and writes `compare.json` and `compare.html` after every seed.

    Raises:
        ValueError: no images to train on or to score; one of several processes; the folder holds a comparison with
            other settings.
        NotAStore, LabelMissing: there are no such auto labels.
        KeyboardInterrupt: interrupted; the same call goes on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("compare trains in one process; call it without torchrun")
    data = config.train.data
    source = open_images(data.dataset, data.root, data.storage_options)
    refs = labelled_images(source, config.train.val_split, config.train.labels)
    arms = _arms(config, source)
    config, plan = _pinned(config, source)
    students: list[Student] = []
    done: list[int] = []
    comparison: Comparison | None = None
    for seed in config.seeds:
        students += [_student(config, arm, seed, plan["steps"], source, refs, on_step) for arm in arms]
        done.append(seed)
        missing = list(config.seeds[len(done) :])
        comparison = _summary(replace(config, seeds=tuple(done), arms=arms), missing, plan, students, source, refs)
        _write(comparison, Path(comparison.page))
    assert comparison is not None  # the config has a seed
    return comparison


def _arms(config: CompareConfig, source: ImageSource) -> tuple[str, ...]:
    """The arms in their order; coarse is left out where there are no coarse labels and nobody asked for them."""
    asked = config.arms or ARMS
    if "coarse" in asked:
        try:
            labelled_images(source, str(config.coarse.split), config.coarse.labels)
        except (ValueError, FileNotFoundError):
            if config.arms:
                raise
            asked = tuple(arm for arm in asked if arm != "coarse")
    return tuple(arm for arm in ARMS if arm in asked)


def _pinned(config: CompareConfig, source: ImageSource) -> tuple[CompareConfig, dict[str, Any]]:
    """The config with a label version that stays the same when the comparison is called again, and the plan.

    Raises:
        ValueError: the comparison was begun with other labels or another number of steps.
    """
    path = Path(config.train.output).expanduser().resolve() / "plan.json"
    begun = json.loads(path.read_text()) if path.exists() else None
    version = begun["version"] if begun and config.auto.version is None else config.auto.version
    store = LabelStore.open(config.auto.store, version, storage_options=config.auto.storage_options)
    plan = {
        "store_uuid": store.identity.uuid,
        "version": store.version,
        "digest": store.digest,
        "steps": _steps(config, source),
    }
    if begun is None:
        write(path, (json.dumps(plan, indent=2) + "\n").encode())
    elif begun != plan:
        changed = ", ".join(f"{name} {begun[name]} -> {plan[name]}" for name in plan if begun[name] != plan[name])
        raise ValueError(f"{path.parent} holds a comparison with another {changed}; compare into another --output")
    return replace(config, auto=replace(config.auto, version=str(store.version))), plan


def _steps(config: CompareConfig, source: ImageSource) -> int:
    """The same number for every arm: that of the fine labels alone, where epochs are given."""
    train = config.train
    if train.max_steps is not None:
        return train.max_steps
    fine = labelled_images(source, train.data.split, train.labels, train.data.limit)
    return train.epochs * math.ceil(len(fine) / train.batch_size)


def _student(
    config: CompareConfig,
    arm: str,
    seed: int,
    steps: int,
    source: ImageSource,
    refs: list[ImageRef],
    on_step: OnStep | None,
) -> Student:
    settings = settings_of(config, arm, seed, steps)
    tell = on_step or (lambda arm, seed, event: None)
    checkpoint, sha256, cost = finish_student(settings, lambda event: tell(arm, seed, event))
    confusions = score_student(settings, checkpoint, sha256, source, refs)
    return Student(arm=arm, seed=seed, checkpoint=checkpoint, sha256=sha256, cost=cost, confusions=confusions)


def _summary(
    config: CompareConfig,
    missing: list[int],
    plan: dict[str, Any],
    students: list[Student],
    source: ImageSource,
    refs: list[ImageRef],
) -> Comparison:
    names, seeds = classes_of(source).names, list(config.seeds)
    draws = draw(len(refs), len(seeds), config.resamples)
    stacked = {arm: np.stack([student.confusions for student in students if student.arm == arm]) for arm in config.arms}
    iou = {arm: resampled_iou(counts, draws) for arm, counts in stacked.items()}
    share = config.confidence
    pairs = [(arm, other) for place, arm in reversed(list(enumerate(config.arms))) for other in config.arms[:place]]
    few = f", and {len(seeds)} are few" if len(seeds) < 10 else ""
    spoken = f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    classes = int((~np.isnan(iou[config.arms[0]][0])).sum())
    return Comparison(
        page=str(Path(config.train.output).expanduser().resolve() / "compare.html"),
        arms=list(config.arms),
        seeds=seeds,
        seeds_missing=missing,
        steps=plan["steps"],
        images=len(refs),
        confidence=share,
        miou={arm: _miou(iou[arm], counts, seeds, share) for arm, counts in stacked.items()},
        iou={arm: {name: _value(figure) for name, figure in zip(names, iou[arm][0], strict=True)} for arm in iou},
        differences=[
            {
                "arm": arm,
                "against": other,
                "miou": _plain(interval(mean_iou(iou[arm]) - mean_iou(iou[other]), share)),
                "iou": {
                    name: _plain(interval(iou[arm][:, k] - iou[other][:, k], share)) for k, name in enumerate(names)
                },
            }
            for arm, other in pairs
        ],
        cost={arm: _cost(config, arm, plan["steps"], students) for arm in config.arms},
        labels=_labels(config, plan),
        students=[_student_facts(student) for student in students],
        method=METHOD.format(
            classes=classes, seeds=spoken, resamples=config.resamples, images=len(refs), count=len(seeds), few=few
        ),
        about={
            "colours": [list(colour) for colour in classes_of(source).colours],
            "config": to_dict(config.train),
            "hmsa_label": hmsa_label.__version__,
            "code": git_state(),
            "libraries": library_versions(),
            "command": hide_in_arguments(sys.argv),
        },
    )


def _miou(iou: Any, counts: Any, seeds: list[int], share: float) -> dict[str, Any]:
    found = interval(mean_iou(iou), share)
    single = draw(counts.shape[1], 1, 0)
    by_seed = [float(mean_iou(resampled_iou(counts[place : place + 1], single))[0]) for place in range(len(seeds))]
    assert found is not None  # labelled images hold a labelled class
    return {
        "mean": found.value,
        "low": found.low,
        "high": found.high,
        "seeds": {str(seed): value for seed, value in zip(seeds, by_seed, strict=True)},
    }


def _cost(config: CompareConfig, arm: str, steps: int, students: list[Student]) -> dict[str, float]:
    total = sum((student.cost for student in students if student.arm == arm), Cost())
    crops = len(config.seeds) * steps * config.train.batch_size
    mixed = config.train.mix * (1 - config.train.fine_tail) if arm != "fine" else 0.0
    return {**asdict(total), "crops": crops, "fine_crops": round(crops * (1 - mixed))}


def _labels(config: CompareConfig, plan: dict[str, Any]) -> dict[str, Any]:
    auto = config.auto
    store = LabelStore.open(auto.store, plan["version"], storage_options=auto.storage_options)
    table = store.table(["kept_share", "seconds"])
    seconds = [value for value in table["seconds"].to_pylist() if value is not None]
    return {
        "store": public_uri(auto.store),
        "version": store.version,
        "digest": store.digest,
        "images": len(store),
        "threshold": store.commit.threshold if auto.threshold is None else auto.threshold,
        "class_thresholds": auto.class_thresholds,
        "mix": config.train.mix,
        "fine_tail": config.train.fine_tail,
        "teacher_sha256": store.commit.teacher_sha256,
        "teacher_seconds": sum(seconds) if seconds else None,
        "coarse": to_dict(config.coarse) if "coarse" in config.arms else None,
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


def _write(comparison: Comparison, page: Path) -> None:
    document = asdict(comparison)
    write(page.with_suffix(".json"), (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    write(page, render_comparison(document).encode())


def _plain(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)


def _value(figure: float) -> float | None:
    return None if np.isnan(figure) else float(figure)
