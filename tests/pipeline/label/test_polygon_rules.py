"""Each rule about polygons on 4 x 4 pixels, by hand: as a run, as a change without the teacher, in a training."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hmsa_label import DataConfig, RuleConfig, label_images, rethreshold
from hmsa_label.pipeline.data.datasets import AutoLabelDataset
from hmsa_label.pipeline.data.growth import grow
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.format.bounds import GROWN, GROWN_PX, ORIGIN
from hmsa_label.stores.versions.label_store import LabelStore
from tests.pipeline.conftest import Bench
from tests.pipeline.polygon_maps import CASES, CODE, POLYGON, RAW, TOP1, R, S, _, origin_of

COUNTS = ["class_px", "teacher_px", "origin_px", "polygon_px", "polygon_kept_px", "polygon_agree_px"]


def color_of(train_id: int, code: int) -> tuple[int, int, int]:
    """A color that the fake teacher takes for a class, with a confidence of that code."""
    for red, green, blue in product(range(0, 256, 5), range(0, 256, 7), range(256)):
        sure = (5 * red + 3 * green + blue) % 256 / 255
        same = (red // 13 + green // 7 + blue // 3) % 19 == train_id
        if same and (sure >= 0.95 if code == 2 else 0.55 < sure < 0.65 if code else sure < 0.2):
            return red, green, blue
    raise AssertionError


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of which the fake teacher says TOP1 and CODE, with the polygons POLYGON."""
    root = tmp_path_factory.mktemp("polygons")
    colors = {pair: color_of(*pair) for pair in {*zip(TOP1.ravel().tolist(), CODE.ravel().tolist(), strict=True)}}
    image = np.array([[colors[top, code] for top, code in zip(*rows, strict=True)]
                      for rows in zip(TOP1.tolist(), CODE.tolist(), strict=True)], np.uint8)  # fmt: skip
    ids = np.vectorize(RAW.get)(POLYGON).astype(np.uint8)
    for path, pixels in (("leftImg8bit/train_extra/a_leftImg8bit.png", image),
                         ("gtCoarse/train_extra/a_gtCoarse_labelIds.png", ids)):  # fmt: skip
        (root / path).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(root / path)
    return root


def asked_of(rule) -> RuleConfig:
    by_class = dict(rule.class_polygons) or None
    return RuleConfig(
        threshold=rule.threshold, polygons=rule.polygons, class_polygons=by_class, grow_px=rule.grow_px or None
    )


def label(bench, street: Path, rule, store: str):
    config = replace(bench.config(store=store, evidence=("growth",), workers=1), rule=asked_of(rule),
                     data=DataConfig(root=str(street)))  # fmt: skip
    label_images(config)
    bench.store = store
    return bench.open()


def with_real_growth(name: str, street: Path) -> tuple[np.ndarray, np.ndarray]:
    """Label and origin of a case; where it grows, as the polygons of this very image do."""
    rule, label, origin = CASES[name]
    if not rule.grow_px:
        return label, origin_of(label, origin)
    _, label, origin = CASES["trust"]
    image = np.asarray(Image.open(street / "leftImg8bit/train_extra/a_leftImg8bit.png"))
    grown, grown_px = grow(image, POLYGON)
    fills = (label == 255) & (grown != 255) & (grown_px <= rule.grow_px)
    assert fills.any()
    return np.where(fills, grown, label), np.where(fills, 3, origin)


@pytest.fixture(scope="module")
def changed(street: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose rule the cases change, one after the other; it begins with another one than the first of them."""
    folder = tmp_path_factory.mktemp("changed")
    return label(Bench(street, str(folder)), street, CASES["veto"][0], str(folder / "labels")).uri


@pytest.mark.parametrize("case", CASES)
def test_run_rethreshold_and_training_make_the_labels_worked_by_hand(bench, street, tmp_path, changed, case):
    rule = CASES[case][0]
    expected, origin = with_real_growth(case, street)
    store = label(bench, street, rule, str(tmp_path / "run"))
    (key,) = store
    assert store.read(key).tolist() == expected.tolist()
    assert store.origin(key).tolist() == origin.tolist()
    assert (ORIGIN in store.arrays_of(key)) == rule.takes_polygons(store.classes["names"])
    assert store.rule(key) == rule
    assert verify(store.uri) == []
    rethreshold(changed, replace(asked_of(rule), preset="paper-0.9"))
    made = LabelStore.open(changed)
    assert made.digest == store.digest
    assert made.table(COUNTS).to_pylist() == store.table(COUNTS).to_pylist()
    training = AutoLabelDataset(made)
    assert training.label(0).tolist() == expected.tolist()
    assert training.origin(0).tolist() == origin.tolist()


def test_agreement_is_counted_by_class_of_the_polygon_before_it_acts(bench, street, tmp_path):
    (row,) = label(bench, street, CASES["trust"][0], str(tmp_path / "labels")).table().to_pylist()
    names = bench.open().classes["names"]
    told = {name: tuple(row[column][place] for column in ("polygon_px", "polygon_kept_px", "polygon_agree_px"))
            for place, name in enumerate(names) if row["polygon_px"][place]}  # fmt: skip
    # Of three pixels of road polygons the teacher keeps (0, 0), which agrees, and (2, 0), a person.
    assert told == {"road": (3, 2, 1), "sky": (3, 1, 0), "person": (1, 0, 0), "car": (3, 1, 1)}
    assert row["coarse_agreement"] == 0.5
    assert row["origin_px"] == [2, 4, 10, 0, 0]


def test_nothing_grows_into_what_was_drawn_without_a_class(bench, street, tmp_path):
    root = tmp_path / "street"
    for path in ("leftImg8bit/train_extra/a_leftImg8bit.png", "gtCoarse/train_extra/a_gtCoarse_labelIds.png"):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes((street / path).read_bytes())
    ids = np.vectorize(RAW.get)(np.where(POLYGON == S, R, _)).astype(np.uint8)
    ids[2, 2:] = ids[3, 3] = 1  # the ego vehicle
    Image.fromarray(ids).save(root / path)
    store = label(bench, root, CASES["grow 2 px"][0], str(tmp_path / "labels"))
    (key,) = store
    grown, grown_px = store.read_array(key, GROWN), store.read_array(key, GROWN_PX)
    assert (grown[ids == 1] == 255).all()
    assert not grown_px[ids == 1].any()
    assert (grown[(ids == 0)] != 255).any()
