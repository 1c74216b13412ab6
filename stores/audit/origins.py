"""Which run looked at each image of a version, and where that run found its images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.runs.record import read_run
from hmsa_label.stores.versions.label_store import LabelStore


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A place that images were labeled from, without credentials; `root` is None if nothing recorded it."""

    root: str | None
    dataset: str | None


def origins_of(store: LabelStore) -> tuple[list[Origin], NDArray[np.int64]]:
    """(the places, [N] the number of each image's place in them), in the order of the store's keys.

    After a change of threshold the place is that of the run that the evidence came from, which read the image.
    """
    table = store.table(["run", "evidence_segment"])
    own, evidence = (table[name].combine_chunks().dictionary_encode() for name in ("run", "evidence_segment"))
    # A segment is called <run>.<attempt>.
    runs = [*own.dictionary.to_pylist(), *(name.rpartition(".")[0] for name in evidence.dictionary.to_pylist())]
    origins = [_origin(store, run) for run in runs]
    places = list(dict.fromkeys(origins))
    of_run = np.array([places.index(origin) for origin in origins], np.int64)
    has_evidence = evidence.indices.is_valid().to_numpy(zero_copy_only=False)
    read_by = evidence.indices.fill_null(0).to_numpy(zero_copy_only=False) + len(own.dictionary)
    numbers = of_run[np.where(has_evidence, read_by, own.indices.to_numpy(zero_copy_only=False))]
    used, numbers = np.unique(numbers, return_inverse=True)  # a run of another threshold read no image itself
    return [places[number] for number in used], numbers


def _origin(store: LabelStore, run: str) -> Origin:
    try:
        data = read_run(store.root, run).record["data"]
    except LabelMissing:
        data = {}
    return Origin(root=data.get("root"), dataset=data.get("dataset"))
