"""Drawn streets form a Cityscapes tree that the reader takes, with labels that fit the pictures."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.decode import decode_image, decode_labels
from hmsa_label.pipeline.demo.scenes.canvas import LABEL_IDS, Camera, Canvas
from hmsa_label.pipeline.demo.scenes.street import draw_street
from hmsa_label.pipeline.demo.scenes.tree import coarse_regions, draw_tree, fine_regions, paint_regions
from hmsa_label.pipeline.demo.scenes.vehicles import Pose, draw_car
from hmsa_label.stores.images.open import open_images

SIZE = (64, 128)
COUNTS = {"train": 2, "train_extra": 1, "val": 1}


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    assert draw_tree(root, COUNTS, SIZE, seed=3) == 4
    return root


def test_tree_is_read_as_cityscapes(tree: Path) -> None:
    source = open_images("cityscapes", str(tree))
    fine = source.list("train", labels="gtFine", coarse="gtCoarse")
    extra = source.list("train_extra", labels="gtCoarse", coarse="gtCoarse")
    assert [len(fine), len(extra), len(source.list("val"))] == [2, 1, 1]
    assert all(ref.labels and ref.coarse for ref in [*fine, *extra])
    for ref in fine:
        assert decode_image(source.read(ref.image)).shape == (*SIZE, 3)
        assert decode_labels(source.read(str(ref.labels))).shape == SIZE


def test_extra_images_have_no_fine_labels(tree: Path) -> None:
    assert not (tree / "gtFine" / "train_extra").exists()


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tree: Path, tmp_path: Path) -> None:
    draw_tree(tmp_path / "same", COUNTS, SIZE, seed=3)
    draw_tree(tmp_path / "other", {"val": 1}, SIZE, seed=4)
    assert digests(tmp_path / "same") == digests(tree)
    assert len(set(digests(tmp_path / "other").values()) & set(digests(tree).values())) == 0


def test_pictures_do_not_depend_on_how_many_are_drawn(tree: Path, tmp_path: Path) -> None:
    draw_tree(tmp_path, {"val": 1}, SIZE, seed=3)
    assert {path: digest for path, digest in digests(tree).items() if "/val/" in path}.items() <= digests(
        tmp_path
    ).items()


def test_a_tree_that_is_there_is_kept_and_other_settings_are_refused(tree: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*.png")}
    assert draw_tree(tree, COUNTS, SIZE, seed=3) == 4
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*.png")} == before
    with pytest.raises(ValueError, match=r"holds scenes drawn with .*choose another folder or remove it"):
        draw_tree(tree, {"train": 3}, SIZE, seed=3)


def test_settings_without_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="counts must be numbers of images for some of train"):
        draw_tree(tmp_path, {"training": 3})
    with pytest.raises(ValueError, match="at least 64 pixels on each side; got 32x64"):
        draw_tree(tmp_path, {"train": 1}, (32, 64))


def test_streets_show_most_classes_with_large_roads_and_thin_poles() -> None:
    pixels = np.zeros(256, np.int64)
    for seed in range(8):
        _, ids = draw_street(SIZE, np.random.default_rng(seed))
        pixels += np.bincount(np.where(ids >= 1000, ids // 1000, ids).ravel(), minlength=256)
    shares = {name: pixels[raw] / pixels.sum() for name, raw in LABEL_IDS.items()}
    needed = ("road", "sidewalk", "building", "pole", "traffic light", "traffic sign", "vegetation", "sky",
              "person", "rider", "car", "truck", "bus", "bicycle")  # fmt: skip
    assert all(shares[name] > 0 for name in needed)
    assert shares["road"] > 0.2
    assert 0.002 < shares["pole"] < 0.05
    evaluated = CITYSCAPES.train_id_of[list(LABEL_IDS.values())] != 255
    assert evaluated.sum() == len(LABEL_IDS) - 3


def test_label_names_have_the_ids_of_the_class_table() -> None:
    table = dict(zip(CITYSCAPES.names, CITYSCAPES.raw_ids, strict=True))
    assert {name: LABEL_IDS[name] for name in LABEL_IDS if name in table}.items() <= table.items()


def test_instance_ids_and_label_ids_agree(tree: Path) -> None:
    for path in tree.glob("gtFine/train/*/*_instanceIds.png"):
        instances = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        labels = cv2.imread(str(path).replace("instanceIds", "labelIds"), cv2.IMREAD_UNCHANGED)
        assert instances.dtype == np.uint16
        np.testing.assert_array_equal(np.where(instances >= 1000, instances // 1000, instances), labels)


def test_a_near_object_takes_the_pixels_of_a_far_one_and_a_hidden_one_has_none() -> None:
    camera = Camera(focal_px=400.0, center_px=(96.0, 192.0), height_m=1.4, bend_per_m=0.0, haze=(200.0, 200.0, 200.0),
                    visibility_m=200.0)  # fmt: skip
    far, near, behind = Pose(x=1.0, z=14.0), Pose(x=0.0, z=8.0), Pose(x=0.0, z=30.0)

    def drawn(*poses: Pose, hide: int = 0) -> NDArray[np.int32]:
        canvas = Canvas((96, 192), camera)
        for number, pose in enumerate(poses):
            draw_car(canvas, np.random.default_rng(int(pose.z)), pose)
            if number < hide:
                canvas.ids[:] = 0  # its number is taken, its pixels are not there
        return canvas.shrunk()[1]

    alone = drawn(behind), drawn(behind, far, hide=1), drawn(behind, far, near, hide=2)
    assert [np.unique(ids).tolist() for ids in alone] == [[0, 26000], [0, 26001], [0, 26002]]
    expected = np.where(alone[2] > 0, alone[2], np.where(alone[1] > 0, alone[1], alone[0]))
    np.testing.assert_array_equal(drawn(behind, far, near), expected)
    assert np.unique(expected).tolist() == [0, 26001, 26002]


def test_every_thing_that_is_seen_has_an_instance_id_of_its_own(tree: Path) -> None:
    for path in tree.glob("gtFine/*/*/*_instanceIds.png"):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        things = np.unique(ids[ids >= 24])
        assert (things >= 24000).all()  # no thing pixel lacks its instance
        assert len(things) > 3


def test_fine_polygons_give_the_labels_back_but_for_their_outlines() -> None:
    _, ids = draw_street(SIZE, np.random.default_rng(5))
    labels = np.where(ids >= 1000, ids // 1000, ids)
    assert (paint_regions(fine_regions(ids), SIZE) == labels).mean() > 0.99


def test_coarse_labels_are_right_where_given_and_leave_gaps() -> None:
    for seed in range(3):
        _, ids = draw_street(SIZE, np.random.default_rng(seed))
        labels = np.where(ids >= 1000, ids // 1000, ids)
        coarse = paint_regions(coarse_regions(ids, np.random.default_rng(seed)), SIZE)
        given = coarse > 0
        assert 0.5 < given.mean() < 0.95
        assert (coarse == labels)[given].mean() > 0.97


def test_coarse_label_files_are_painted_from_their_polygons(tree: Path) -> None:
    paths = sorted(tree.glob("gtCoarse/*/*/*_polygons.json"))
    assert len(paths) == 4
    for path in paths:
        data = json.loads(path.read_text())
        painted = np.zeros((data["imgHeight"], data["imgWidth"]), np.uint8)
        for item in data["objects"]:
            cv2.fillPoly(painted, [np.array(item["polygon"], np.int32)], (LABEL_IDS[item["label"]],))
        stored = decode_labels(Path(str(path).replace("polygons.json", "labelIds.png")).read_bytes())
        np.testing.assert_array_equal(painted, stored)
