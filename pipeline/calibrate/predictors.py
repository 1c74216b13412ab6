"""Where the predictions that are counted come from: a teacher, or the evidence in a label store."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.base import LabelerFault
from hmsa_label.labelers.taxonomy import ClassTable, class_difference
from hmsa_label.pipeline.calibrate.counts import (
    Counts,
    ImageCounts,
    count_image,
    fine_edges,
    levels_of,
    levels_of_code,
    stack,
)
from hmsa_label.pipeline.calibrate.learned import Learned
from hmsa_label.pipeline.config import CalibrateConfig, TeacherConfig
from hmsa_label.pipeline.data.label_files import read_raw_ids
from hmsa_label.pipeline.data.scores import read_pair
from hmsa_label.pipeline.records import U8, Failure
from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.format.evidence import DEFAULT_GRID
from hmsa_label.stores.images.source import ImageRef, ImageSource
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.runs.record import read_run
from hmsa_label.stores.versions.label_store import LabelStore

READERS = 4  # threads that read stored labels
Edges = NDArray[np.float32]


class Predictor(Protocol):
    """Says of images which class each pixel has, and at which level of confidence.

    Attributes:
        learned: what its teacher was trained on. facts: of the teacher, JSON-able, with `sha256`.
        grid: thresholds that can be proposed, ascending. has_confidence: it knows more than levels.
    """

    learned: Learned
    facts: dict[str, Any]
    grid: tuple[float, ...]
    has_confidence: bool

    def holds(self, key: str) -> bool:
        """Whether it can predict this image."""

    def count(self, source: ImageSource, ref: ImageRef, classes: ClassTable, edges: Edges) -> ImageCounts:
        """The counts of one image with fine labels."""


class TeacherPredictor:
    """A teacher at work."""

    has_confidence = True
    grid = DEFAULT_GRID

    def __init__(self, config: TeacherConfig, classes: ClassTable) -> None:
        """Loads it.

        Raises:
            FileNotFoundError, ValueError: unusable weights, or other classes than the data's.
        """
        from hmsa_label.pipeline.teacher.teacher import Teacher

        self._teacher = Teacher(config)
        if difference := class_difference(self._teacher.classes, classes):
            raise ValueError(f"{difference}, so it cannot be calibrated there; correct --weights, --data or --dataset")
        places = (config.weights, config.semantic_from)
        self.learned = Learned(keys=self._teacher.trained_on)
        for place in places:
            self.learned |= Learned.of_weights(place)
        info = self._teacher.info
        self.facts: dict[str, Any] = {
            "sha256": info["weights_sha256"],
            **{name: info[name] for name in ("weights", "model") if name in info},
            "settings": info["settings"],
            "trained_on": _without_keys(info["trained_on"]),
        }

    def holds(self, key: str) -> bool:
        return True

    def count(self, source: ImageSource, ref: ImageRef, classes: ClassTable, edges: Edges) -> ImageCounts:
        image, labels = read_pair(source, ref, classes)
        try:
            found = self._teacher.predict(image)
        except ValueError as error:
            raise ValueError(f"cannot label {ref.key}: {error}") from error
        level = levels_of(found.confidence, edges)
        return count_image(labels, found.top1, level, classes.num_classes, len(edges) + 1, found.confidence)


class StorePredictor:
    """The evidence in a store, at its last finished version."""

    has_confidence = False

    def __init__(self, place: str, config: CalibrateConfig, classes: ClassTable) -> None:
        """Opens it.

        Raises:
            NotAStore: there is none.
            ValueError: its classes are not those of the data, or labels in it have no evidence.
        """
        self._store = store = LabelStore.open(place, storage_options=config.storage_options)
        if tuple(store.classes["names"]) != classes.names:
            raise ValueError(
                f"the labels of {store.uri} have {len(store.classes['names'])} classes of "
                f"{store.classes.get('name')!r}, the data has {classes.num_classes} of {classes.name!r}; calibrate on "
                "data of the same classes"
            )
        self.grid = store.thresholds
        if not self.grid:
            what = "labels that came without evidence or confidence" if len(store) else "no labels yet"
            raise ValueError(
                f"version {store.version} of {store.uri} holds {what}, so it has no thresholds to choose from; label "
                "the images with evidence, or give the teacher with --weights"
            )
        runs = {name.rpartition(".")[0] for name in _column(store, "evidence_segment")}
        records = [read_run(store.root, run).record for run in sorted(runs)]
        self.learned = Learned()
        for record in records:
            self.learned |= _learned_in(record)
        teacher = records[-1].get("teacher") or {}
        self.facts = {
            "sha256": records[-1]["settings"].get("teacher_sha256"),
            **{name: teacher[name] for name in ("weights", "model") if name in teacher},
            "settings": records[-1]["settings"],
            "trained_on": _without_keys(teacher.get("trained_on")),
        }

    @property
    def place(self) -> dict[str, Any]:
        """The version that is counted, as calibrations record it."""
        return {"store": self._store.uri, "version": self._store.version, "digest": self._store.digest}

    def holds(self, key: str) -> bool:
        return key in self._store

    def count(self, source: ImageSource, ref: ImageRef, classes: ClassTable, edges: Edges) -> ImageCounts:
        labels = read_labels(source, ref, classes)
        top1, code, stored = self._store.read_evidence(ref.key)
        try:
            level = levels_of_code(code, stored, edges)
            return count_image(labels, top1, level, classes.num_classes, len(edges) + 1)
        except ValueError as error:
            raise ValueError(f"{ref.key}: {error}; is {self._store.uri} of these images?") from error


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """An image, and who predicts it."""

    ref: ImageRef
    by: Predictor


def open_predictors(config: CalibrateConfig, classes: ClassTable) -> list[Predictor]:
    """All teachers, or all stores, that the settings name.

    Raises:
        FileNotFoundError, ValueError: as the two kinds of predictor.
    """
    if config.teacher is None:
        return [StorePredictor(str(place), config, classes) for place in config.store]
    teachers = [config.teacher, *(replace(config.teacher, weights=place) for place in config.fold_weights)]
    return [TeacherPredictor(teacher, classes) for teacher in teachers]


def count_all(
    assigned: list[Assigned], source: ImageSource, classes: ClassTable, on_image: Callable[[int, int], None]
) -> tuple[Counts, list[Failure]]:
    """The counts of all images that can be counted, and the others; `on_image` is told how many are done, of how many.

    Raises:
        ValueError: not one image can be counted; the message is that of the first one.
        LabelerFault: a teacher does not keep to the protocol.
    """
    predictors = list({id(one.by): one.by for one in assigned}.values())
    grid = _common([one.grid for one in predictors])
    sure = all(one.has_confidence for one in predictors)
    edges = fine_edges(grid) if sure else np.asarray(grid, np.float32)

    def count(one: Assigned) -> ImageCounts | ValueError | LabelMissing:
        try:
            return one.by.count(source, one.ref, classes, edges)
        except LabelerFault:
            raise
        except (ValueError, LabelMissing) as error:
            return error

    images: list[ImageCounts] = []
    keys: list[str] = []
    failed: list[Failure] = []
    for one, found in zip(assigned, map_threads(count, assigned, 1 if sure else READERS), strict=True):
        if isinstance(found, ImageCounts):
            images.append(found)
            keys.append(one.ref.key)
        elif len(failed) + 1 == len(assigned):
            raise found
        else:
            failed.append(Failure(key=one.ref.key, reason=str(found)))
        on_image(len(images) + len(failed), len(assigned))
    return stack(keys, classes.names, edges, grid, images), failed


def read_labels(source: ImageSource, ref: ImageRef, classes: ClassTable) -> U8:
    """[H, W] uint8 trainIds of an image's fine labels, without the image.

    Raises:
        ValueError: they cannot be read; the message names the image.
    """
    try:
        return classes.train_id_of[read_raw_ids(source, str(ref.labels))]
    except ValueError as error:
        raise ValueError(f"cannot read {ref.key}: {error}") from error


def _common(grids: list[tuple[float, ...]]) -> tuple[float, ...]:
    held = set.intersection(*({np.float32(value) for value in grid} for grid in grids))
    if not held:
        raise ValueError("the stores have no threshold in common; label them with the same ones")
    return tuple(value for value in grids[0] if np.float32(value) in held)


def _learned_in(record: dict[str, Any]) -> Learned:
    """What the teacher of a run was trained on: its file tells more than the record, if it is still the same one."""
    teacher = record.get("teacher") or {}
    learned = Learned.of_info({"trained_on": teacher.get("trained_on")})
    learned |= Learned.of_info({"trained_on": (teacher.get("semantics") or {}).get("trained_on")})
    with suppress(Exception):  # gone, or out of reach
        learned |= Learned.of_weights(teacher.get("weights"))
    return learned


def _column(store: LabelStore, name: str) -> list[str]:
    return [str(value) for value in store.table([name])[name].unique().to_pylist()]


def _without_keys(trained_on: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if trained_on is None else {name: value for name, value in trained_on.items() if name != "keys"}


def places_of(predictors: list[Predictor]) -> list[dict[str, Any]]:
    """The stores among predictors."""
    return [one.place for one in predictors if isinstance(one, StorePredictor)]
