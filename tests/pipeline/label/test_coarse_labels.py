"""Which polygons a run takes: the label type that is named, recorded, and never mixed with another one."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hmsa_label import DataConfig, label_images, plan_labels
from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.runs.record import read_run

NAME = "bochum/bochum_000000_00000"


@pytest.fixture
def street(tmp_path: Path, draw) -> Path:
    """Two images; gtCoarse says road on the upper half of both, gtRough on the left half of the first."""
    for number in (1, 2):
        draw(tmp_path / "leftImg8bit" / "train_extra" / f"{NAME}{number}_leftImg8bit.png", number)
    upper, left = np.zeros((24, 40), np.uint8), np.zeros((24, 40), np.uint8)
    upper[:12], left[:, :20] = 7, 7
    for kind, number, ids in (("gtCoarse", 1, upper), ("gtCoarse", 2, upper), ("gtRough", 1, left)):
        path = tmp_path / kind / "train_extra" / f"{NAME}{number}_{kind}_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(path)
    return tmp_path


def config_of(bench, street, **options):
    return replace(bench.config(threshold=0.5, **options), data=DataConfig(root=str(street)))


def test_polygons_of_the_named_label_type_are_taken(bench, street):
    label_images(config_of(bench, street, coarse_labels="gtRough"))
    store = bench.open()
    first, second = store.table().sort_by("key").to_pylist()
    left = store.read(first["key"])[:, :20]
    assert first["coarse_agreement"] == pytest.approx((left == 0).sum() / (left != 255).sum())
    assert second["coarse_agreement"] is None
    record = read_run(store.root, store.commit.run).record
    assert record["config"]["coarse_labels"] == record["settings"]["coarse_labels"] == "gtRough"


def test_a_store_does_not_mix_polygons_of_two_types(bench, street):
    label_images(config_of(bench, street))
    assert label_images(config_of(bench, street)).images_labelled == 0
    with pytest.raises(StoreConflict, match=r"coarse_labels: None there, gtRough here.*--relabel"):
        label_images(config_of(bench, street, coarse_labels="gtRough"))
    assert label_images(config_of(bench, street, coarse_labels="gtRough", relabel=True)).images_labelled == 2
    assert label_images(config_of(bench, street, coarse_labels="gtRough")).images_labelled == 0
    with pytest.raises(StoreConflict, match="coarse_labels: gtRough there, None here"):
        label_images(config_of(bench, street))


@pytest.mark.parametrize("dataset", ["cityscapes", "folder"])
def test_a_label_type_that_is_nowhere_is_refused_in_one_line(bench, street, dataset):
    config = config_of(bench, street, coarse_labels="gtRuogh")
    config = replace(config, data=DataConfig(root=str(street), dataset=dataset))
    said = f"{re.escape(str(street))}, read as {dataset}, has no gtRuogh labels for any split; correct --coarse-labels"
    for command in (label_images, plan_labels):
        with pytest.raises(ValueError, match=said) as caught:
            command(config)
        assert "\n" not in str(caught.value)
    assert not Path(bench.store).exists()
