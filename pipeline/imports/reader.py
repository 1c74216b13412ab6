"""What stands in for a teacher in an import: files -> classes and codes of confidence, as a prediction would be."""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from hmsa_label.pipeline.engine.retry import with_retries
from hmsa_label.pipeline.import_config import MASKS, ImportConfig
from hmsa_label.pipeline.imports.classes import classes_for, to_train_ids, train_ids_of
from hmsa_label.pipeline.imports.identity import info_of
from hmsa_label.pipeline.imports.masks import Categories, masks_of_folder, masks_of_results, paint
from hmsa_label.pipeline.imports.results import read_results
from hmsa_label.pipeline.imports.values import Confidence, check_size, naming, read_confidence, read_ids
from hmsa_label.pipeline.records import U8, LabeledImage
from hmsa_label.stores.images.source import BadImage, ImageRef, ImageSource, TreeSource

Value = TypeVar("Value")


class LabelReader:
    """Reads the labels of one image at a time; several threads may call it.

    Attributes:
        classes: the class table that labels refer to.
        info: JSON-able provenance, as a teacher's.
    """

    def __init__(self, config: ImportConfig, source: ImageSource, thresholds: tuple[float, ...]) -> None:
        """Reads what all images share.

        Args:
            config: with the digest of all files.
            source: of the images.
            thresholds: stored ones, ascending; none if the labels have no confidence.

        Raises:
            ValueError: as `classes_for` and `read_results`.
        """
        self.classes, self.info = classes_for(config, source), info_of(config)
        self._config, self._thresholds, self._ids = config, thresholds, str(config.ids)
        self._table = train_ids_of(self.classes, self._ids)
        self._results = read_results(config) if config.is_results else None
        self._files = TreeSource(str(config.labels), config.storage_options)

    def label(self, ref: ImageRef, size: tuple[int, int]) -> tuple[LabeledImage, float]:
        """Classes and codes of an image of [H, W] px, and the seconds that reading them took.

        Pixels of no class have code 0. Without confidences all have, and there is no threshold that they could reach.

        Raises:
            BadImage: its files cannot be used; the message names one.
            OSError: the storage fails.
        """
        started = time.perf_counter()
        top1, confidence = self._masks(ref, size) if self._config.format == MASKS else self._maps(ref, size)
        has_class = top1 != self.classes.ignore_index
        code, mean = np.zeros(size, np.uint8), None
        if confidence is not None:
            code, mean = confidence.codes(self._thresholds) * has_class, confidence.mean(has_class)
        labeled = LabeledImage(arrays={"top1": top1, "code": code}, mean_confidence=mean)
        return labeled, time.perf_counter() - started

    def close(self) -> None:
        """Nothing is held open."""

    def _maps(self, ref: ImageRef, size: tuple[int, int]) -> tuple[U8, Confidence | None]:
        config, path = self._config, ref.made[0]
        if config.has_confidence and len(ref.made) < 2:
            raise BadImage(f"it has labels, {path}, but there is no file of confidences {config.confidence_files}")
        with naming(path):
            raw = self._read(path, read_ids)
            check_size(raw.shape, size)
            top1 = to_train_ids(raw, self._table, self._ids)
        if not config.has_confidence:
            return top1, None
        with naming(ref.made[1]):
            confidence = self._read(ref.made[1], read_confidence)
            check_size(confidence.values.shape, size)
        return top1, confidence

    def _masks(self, ref: ImageRef, size: tuple[int, int]) -> tuple[U8, Confidence]:
        names = {} if self._results is None else self._results.categories
        categories, place = Categories(classes=self.classes, names=names, ids=self._ids), ref.made[0]
        if self._results is not None:
            return paint(masks_of_results(self._results.entries[place], size), categories, size)
        return paint(masks_of_folder(self._files, place, size), categories, size)

    def _read(self, path: str, decode: Callable[[bytes], Value]) -> Value:
        return decode(with_retries(f"reading {path}", lambda: self._files.read(path)))
