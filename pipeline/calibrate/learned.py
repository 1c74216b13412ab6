"""What a teacher was trained on, as far as its checkpoint or the record of a run tells, and which images are of it."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hmsa_label.labelers.weights.checkpoint_info import recorded_info
from hmsa_label.pipeline.calibrate.units import sequence_of
from hmsa_label.pipeline.config import DataConfig
from hmsa_label.pipeline.teacher.weight_files import read_weights
from hmsa_label.pipeline.training.lineage import below_split, file_digests
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import ImageRef, ImageSource
from hmsa_label.stores.location import Location
from hmsa_label.stores.versions.label_store import LabelStore

SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Images that a teacher knows.

    Attributes:
        keys: by name. drawn: records of labels drawn by hand, with `data`, `split` and `keys`.
        auto: records of stores that it learned from, with `store` and `version`.
    """

    keys: frozenset[str] = frozenset()
    drawn: tuple[dict[str, Any], ...] = ()
    auto: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of_info(cls, info: dict[str, Any]) -> "Learned":
        """From the info of a checkpoint, or what a run recorded of it."""
        drawn = tuple(part for name in ("trained_on", "coarse_labels") if (part := info.get(name)))
        auto = tuple(part for part in (info.get("auto_labels"),) if part)
        return cls(keys=frozenset(key for part in drawn for key in part.get("keys", ())), drawn=drawn, auto=auto)

    @classmethod
    def of_weights(cls, place: Location | None) -> "Learned":
        """From a weights file; nothing of one that is not ours, or of a teacher without any."""
        if place is None:
            return cls()
        try:
            return cls.of_info(recorded_info(read_weights(place)))
        except ValueError:  # of somebody's own teacher, which says itself what it was trained on
            return cls()

    def __or__(self, other: "Learned") -> "Learned":
        return Learned(keys=self.keys | other.keys, drawn=self.drawn + other.drawn, auto=self.auto + other.auto)


@dataclass(frozen=True, kw_only=True)
class Known:
    """Which of some images a teacher was trained on.

    Attributes:
        keys: of these. familiar: images of a sequence that it knows other frames of. warnings: what could not be told.
    """

    keys: frozenset[str]
    familiar: frozenset[str]
    warnings: tuple[str, ...] = field(default=())


def known_images(learned: Learned, refs: list[ImageRef], source: ImageSource, data: DataConfig) -> Known:
    """Which images of `source` a teacher was trained on, by their names or the bytes of their files.

    Of images with labels drawn by hand those files are compared that have the same name below another split, and lie
    where the training found them. Of a store all digests are compared.
    """
    named = {ref.key for ref in refs if ref.key in learned.keys}
    rest, warnings = [ref for ref in refs if ref.key not in named], []
    for record in learned.drawn:
        named |= _same_files(record, rest, source, data)
    for record in learned.auto:
        try:
            named |= _in_store(record, rest, source)
        except Exception as error:  # storages that were only recorded raise errors of their own kinds
            place = public_uri(str(record.get("store")))
            warnings.append(
                f"the teacher was trained on labels in {place}, which cannot be read ({error}); whether the counted "
                "images are among them is not known"
            )
    sequences = {sequence_of(key) for key in learned.keys}
    familiar = frozenset(ref.key for ref in refs if sequence_of(ref.key) in sequences and ref.key not in named)
    return Known(keys=frozenset(named), familiar=familiar, warnings=tuple(warnings))


def refuse_known(keys: Iterable[str]) -> None:
    """Raises ValueError if there are any; the message names some, and the ways out."""
    if found := sorted(keys):
        names = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        raise ValueError(
            f"{len(found)} of the images are among those that the teacher was trained on ({names}), so it is more "
            "precise there than anywhere else; take images that it has not seen (--split), give teachers or stores of "
            "other folds (--fold-weights, --store), or count them all the same with --allow-trained-on, which is "
            "recorded"
        )


def _same_files(record: dict[str, Any], refs: list[ImageRef], source: ImageSource, data: DataConfig) -> set[str]:
    names = {below_split(key) for key in record.get("keys", ())}
    suspects = [ref for ref in refs if below_split(ref.key) in names]
    if not suspects:
        return set()
    names = {below_split(ref.key) for ref in suspects}
    with suppress(Exception):  # the place may be gone, or of another layout
        place = str(record["data"])
        trees = source if place == source.root else open_images(data.dataset, place, data.storage_options)
        keys = {key for key in record["keys"] if below_split(key) in names}
        trained = [ref for ref in trees.list(str(record["split"])) if ref.key in keys]
        digests = set(file_digests(trees, trained).values())
        return {key for key, digest in file_digests(source, suspects).items() if digest in digests}
    return set()


def _in_store(record: dict[str, Any], refs: list[ImageRef], source: ImageSource) -> set[str]:
    store = LabelStore.open(str(record["store"]), int(record["version"]))
    digests = set(store.table(["source_sha256"])["source_sha256"].to_pylist())
    return {key for key, digest in file_digests(source, refs).items() if digest in digests}
