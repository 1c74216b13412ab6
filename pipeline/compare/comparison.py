"""What auto labels buy: the same student on fine labels alone, on fine and coarse ones, and on fine and auto ones.

Every training of a seed starts from the same weights and takes the same number of steps of the same number of crops;
arms differ in nothing but where the crops that are not fine come from. The last weights are scored, not those that were
best on the scored split.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hmsa_label.pipeline.compare.page import render_comparison
from hmsa_label.pipeline.compare.students import Setup, Student, finish_student, score_student, write
from hmsa_label.pipeline.compare.table import Comparison, summarize
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.scores import labeled_images
from hmsa_label.pipeline.training.config import ARMS, CompareConfig
from hmsa_label.pipeline.training.lineage import leaked_images, open_auto_labels, refuse_leak
from hmsa_label.pipeline.training.log import TrainEvent
from hmsa_label.pipeline.training.model import model_of
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import ImageRef, ImageSource
from hmsa_label.stores.versions.label_store import LabelStore

OnStep = Callable[[str, int, TrainEvent], None]


def compare(config: CompareConfig, on_step: OnStep | None = None) -> Comparison:
    """Trains what is missing, scores it, and writes `compare.json` and `compare.html` after every seed.

    With `score_split` these are `compare-<split>.json` and `.html`, beside those of the split that is validated on.

    Raises:
        ValueError: no images to train on or to score, or the same ones; one of several processes; the folder holds a
            comparison with other settings.
        NotAStore, LabelMissing: there are no such auto labels.
        KeyboardInterrupt: interrupted; the same call goes on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("compare trains in one process; call it without torchrun")
    config = replace(config, train=model_of(config.train)[1])
    setup, tell = _setup(config), on_step or (lambda arm, seed, event: None)
    students: list[Student] = []
    comparison: Comparison | None = None
    for number, seed in enumerate(config.seeds, 1):
        students += [_student(setup, arm, seed, tell) for arm in setup.config.arms]
        comparison = summarize(setup, list(config.seeds[:number]), students)
        _write(comparison, Path(comparison.page))
    assert comparison is not None  # the config has a seed
    return comparison


def _setup(config: CompareConfig) -> Setup:
    data = config.train.data
    source = open_images(data.dataset, data.root, data.storage_options)
    classes, split = classes_of(source), config.score_split or config.train.val_split
    refs = labeled_images(source, split, config.train.labels)
    chosen = replace(config, arms=_arms(config, source))
    drawn = _drawn_images(chosen, source)
    pinned, steps = _pinned(chosen, len(drawn["fine"]))
    auto = open_auto_labels(pinned.train, pinned.auto, classes) if "auto" in pinned.arms else None
    if split != config.train.val_split and not config.auto.allow_leak:  # trainings check the split they validate on
        refuse_leak(leaked_images(source, refs, [ref for images in drawn.values() for ref in images], auto))
    trained_on = {kind: len(images) for kind, images in drawn.items()}
    if auto is not None:
        trained_on |= {"auto": len(auto), **({"auto_left_out": len(auto.left_out)} if auto.left_out else {})}
    return Setup(
        config=pinned, steps=steps, trained_on=trained_on, source=source, split=split, refs=refs, classes=classes
    )


def _student(setup: Setup, arm: str, seed: int, tell: OnStep) -> Student:
    settings = setup.training(arm, seed)
    checkpoint, sha256, cost = finish_student(settings, lambda event: tell(arm, seed, event))
    confusions = score_student(settings, checkpoint, sha256, setup)
    return Student(arm=arm, seed=seed, checkpoint=checkpoint, sha256=sha256, cost=cost, confusions=confusions)


def _write(comparison: Comparison, page: Path) -> None:
    document = asdict(comparison)
    write(page.with_suffix(".json"), (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    write(page, render_comparison(document).encode())


def _arms(config: CompareConfig, source: ImageSource) -> tuple[str, ...]:
    """The arms in their order; coarse is left out where there are no coarse labels and nobody asked for them."""
    asked = config.arms or ARMS
    if "coarse" in asked:
        try:
            labeled_images(source, str(config.coarse.split), config.coarse.labels)
        except (ValueError, FileNotFoundError):
            if config.arms:
                raise
            asked = tuple(arm for arm in asked if arm != "coarse")
    return tuple(arm for arm in ARMS if arm in asked)


def _drawn_images(config: CompareConfig, source: ImageSource) -> dict[str, list[ImageRef]]:
    """The images with fine labels, and those with coarse ones where they are an arm."""
    train, coarse = config.train, config.coarse
    found = {"fine": labeled_images(source, train.data.split, train.labels, train.data.limit)}
    if "coarse" in config.arms:
        found["coarse"] = labeled_images(source, str(coarse.split), coarse.labels, coarse.limit)
    return found


def _pinned(config: CompareConfig, fine_images: int) -> tuple[CompareConfig, int]:
    """The config with a label version that stays the same when the comparison is called again, and the steps.

    Raises:
        ValueError: the comparison was begun with other labels or another number of steps.
    """
    path = Path(config.train.output).expanduser().resolve() / "plan.json"
    begun = json.loads(path.read_text()) if path.exists() else None
    version = begun["version"] if begun and config.auto.version is None else config.auto.version
    store = LabelStore.open(config.auto.store, version, storage_options=config.auto.storage_options)
    plan: dict[str, Any] = {
        "store_uuid": store.identity.uuid,
        "version": store.version,
        "digest": store.digest,
        "steps": _steps(config, fine_images),
    }
    if begun is None:
        write(path, (json.dumps(plan, indent=2) + "\n").encode())
    elif begun != plan:
        changed = ", ".join(f"{name} {begun[name]} -> {plan[name]}" for name in plan if begun[name] != plan[name])
        raise ValueError(f"{path.parent} holds a comparison with another {changed}; compare into another --output")
    return replace(config, auto=replace(config.auto, version=str(store.version))), plan["steps"]


def _steps(config: CompareConfig, fine_images: int) -> int:
    """The same number for every arm: that of the fine labels alone, where epochs are given."""
    train = config.train
    return train.epochs * math.ceil(fine_images / train.batch_size) if train.max_steps is None else train.max_steps
