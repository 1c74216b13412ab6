"""Which images have labels in a folder or a file of labels, and what is said where nothing fits."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.imports.find import find_labels
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.source import ImageRef

IMAGES = [
    ImageRef(key=f"val/bonn/bonn_0_{n}", image=f"leftImg8bit/val/bonn/bonn_0_{n}_leftImg8bit.png") for n in range(3)
]


def put(path, value=26):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 3), value, np.uint8)).save(path)


@pytest.fixture
def labels(tmp_path):
    return tmp_path / "labels"


def found(labels, **options):
    return find_labels(ImportConfig(labels=str(labels), **options), IMAGES, CITYSCAPES)


@pytest.mark.parametrize("top", ["", "refinement_final/val/bonn/"])
def test_both_layouts_of_nvidia_are_found(labels, top):
    for n in range(3):
        put(labels / f"{top}bonn_0_{n}_leftImg8bit.png")
        put(labels / f"{top}bonn_0_{n}_leftImg8bit_prob.png", 230)
    put(labels / "tmp/bonn_0_1_leftImg8bit.png")
    result = found(labels, format="nvidia")
    stems = [f"{top}bonn_0_{n}_leftImg8bit" for n in range(3)]
    assert [image.made for image in result.images] == [(f"{stem}.png", f"{stem}_prob.png") for stem in stems]
    assert (result.without_labels, result.without_image, result.about_unmatched("here")) == ([], [], [])


def test_what_does_not_match_is_named_and_counted(labels):
    put(labels / "bonn_0_1.png")
    put(labels / "hamm_0_1.png")
    result = found(labels)
    assert [image.key for image in result.images] == ["val/bonn/bonn_0_1"]
    assert result.without_labels == ["val/bonn/bonn_0_0", "val/bonn/bonn_0_2"]
    assert result.without_image == ["hamm_0_1.png"]
    without, strange = result.about_unmatched("here")
    assert without == "2 of 3 images without labels in here, left out: val/bonn/bonn_0_0, val/bonn/bonn_0_2"
    assert strange == "1 label in here belongs to no image: hamm_0_1.png"


def test_the_digest_is_that_of_sha256sum_and_covers_confidences(labels):
    put(labels / "bonn_0_0.png")
    put(labels / "bonn_0_0_conf.png", 9)
    lines = [
        f"{hashlib.sha256((labels / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("bonn_0_0.png", "bonn_0_0_conf.png")
    ]
    with_confidence = found(labels, confidence_files="{name}_conf.png")
    assert with_confidence.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    put(labels / "bonn_0_0_conf.png", 10)
    assert found(labels, confidence_files="{name}_conf.png").sha256 != with_confidence.sha256


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"label_files": "{name}_pred.png"},
            "no image of the data has labels in .*: for val/bonn/bonn_0_0 bonn_0_0_leftImg8bit_pred.png or "
            "bonn_0_0_pred.png was looked for, and there is a.txt, hamm.png; correct LABELS, --split or --label-files",
        ),
        ({"format": "masks"}, "no image of the data has masks in .*: for val/bonn/bonn_0_0 a folder"),
    ],
)
def test_no_label_at_all_says_what_was_looked_for(labels, options, reason):
    put(labels / "hamm.png")
    (labels / "a.txt").write_text("")
    with pytest.raises(ValueError, match=reason):
        found(labels, **options)


def test_labels_without_any_confidence_are_refused_where_confidences_are_asked_for(labels):
    put(labels / "bonn_0_0.png")
    with pytest.raises(ValueError, match="import them with --format maps, without confidences"):
        found(labels, format="nvidia")


def test_a_missing_folder_and_an_empty_one_are_told_apart(labels):
    with pytest.raises(NotAStore, match=r"the folder of labels .* does not exist; correct LABELS"):
        found(labels)
    labels.mkdir()
    with pytest.raises(ValueError, match="was looked for, and there is nothing"):
        found(labels)


def test_labels_of_the_other_kind_of_ids_are_refused_before_any_is_imported(labels):
    put(labels / "bonn_0_0.png", 26)
    with pytest.raises(ValueError, match="hold no trainIds"):
        found(labels, format="paddleseg")


def results(labels, entries, **document):
    labels.mkdir(exist_ok=True)
    path = labels / "results.json"
    path.write_text(json.dumps({"annotations": entries, **document} if document else entries))
    return path


def entry(image_id, category=26):
    return {
        "image_id": image_id,
        "category_id": category,
        "score": 1.0,
        "segmentation": {"size": [2, 3], "counts": [6]},
    }


def test_coco_results_meet_images_by_file_names_by_ids_that_are_names_and_by_numbers(labels):
    images = [{"id": 5, "file_name": "val/bonn/bonn_0_1_leftImg8bit.png"}, {"id": 6, "file_name": "bonn_0_9.jpg"}]
    path = results(labels, [entry(5), entry(6)], images=images)
    result = found(path, format="masks")
    assert [(image.key, image.made) for image in result.images] == [("val/bonn/bonn_0_1", ("5",))]
    assert result.without_image == ["bonn_0_9"]
    path = results(labels, [entry("bonn_0_2"), entry("else")])
    assert [image.made for image in found(path, format="masks").images] == [("bonn_0_2",)]
    numbered = [ImageRef(key="val2017/000000000139", image="val2017/000000000139.jpg")]
    config = ImportConfig(labels=str(results(labels, [entry(139)])), format="masks")
    assert find_labels(config, numbered, CITYSCAPES).images[0].made == ("139",)


def test_results_that_name_their_images_by_number_need_the_names(labels):
    with pytest.raises(ValueError, match=r"names its images by number, such as 5, .* give .* with --images-json"):
        found(results(labels, [entry(5)]), format="masks")


def test_categories_that_are_no_classes_are_told(labels):
    categories = [{"id": 26, "name": "car"}, {"id": 5, "name": "airplane"}]
    entries = [entry("bonn_0_0"), entry("bonn_0_0", 5)]
    result = found(results(labels, entries, categories=categories), format="masks")
    assert "1 of 2 categories in" in result.warnings[-1]
    assert result.warnings[-1].endswith("their masks are left out: airplane")
    with pytest.raises(ValueError, match=r"no category of .* is a class of cityscapes: it has airplane; say"):
        found(results(labels, entries[1:], categories=categories), format="masks")
