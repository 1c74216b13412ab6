"""Where the images of a version were read: by the runs whose evidence its labels come from."""

from pathlib import Path
from typing import Any

from hmsa_label.stores.audit.origins import origins_of
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold


def test_a_run_that_read_no_image_is_no_origin_even_if_the_record_of_another_is_lost(uri: str, labels: Any) -> None:
    first = labels.fill(uri)
    rethreshold(uri, 0.5)
    (origin,), numbers = origins_of(LabelStore.open(uri))
    assert (origin.root, numbers.tolist()) == ("/images", [0, 0, 0])
    (Path(uri) / f"runs/{first.writer.run_id}.json").unlink()
    (origin,), numbers = origins_of(LabelStore.open(uri))
    assert (origin.root, numbers.tolist()) == (None, [0, 0, 0])
