"""`hmsa-label import`: label sets that exist become a store, by the real command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hmsa_label
from hmsa_label import LabelStore
from hmsa_label.labelers.taxonomy import CITYSCAPES

GOLDEN = Path(__file__).parents[1] / "labelers" / "golden" / "arrays.npz"
WHOLE_SET = Path(__file__).parents[3] / "shared" / "reference" / "hmsa" / "golden_public.npz"
CAR, ROAD = CITYSCAPES.names.index("car"), CITYSCAPES.names.index("road")


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def key(number):
    return f"train_extra/bonn/bonn_{number:06}_000019"


class Streets:
    """Three images of 4 x 6 px, and class maps with confidences as the released code writes them."""

    def __init__(self, root, count=3):
        self.root, self.data, self.labels, self.store = root, root / "data", root / "labels", root / "store"
        rng = np.random.default_rng(0)
        for number in range(count):
            name = f"bonn_{number:06}_000019_leftImg8bit"
            put(self.data / f"leftImg8bit/train_extra/bonn/{name}.png", rng.integers(0, 256, (4, 6, 3), np.uint8))
            put(self.label(number), rng.choice(CITYSCAPES.raw_ids, (4, 6)).astype(np.uint8))
            put(self.label(number, "_prob"), rng.integers(90, 256, (4, 6), np.uint8))

    def label(self, number, ending=""):
        return self.labels / f"train_extra/bonn/bonn_{number:06}_000019_leftImg8bit{ending}.png"

    def arguments(self, *more, labels=None):
        return ("import", labels or self.labels, "--data", self.data, "--store", self.store, *more)

    def open(self):
        return LabelStore.open(str(self.store))


@pytest.fixture
def streets(tmp_path):
    return Streets(tmp_path)


def golden_cases():
    with np.load(WHOLE_SET if WHOLE_SET.exists() else GOLDEN) as arrays:
        return {
            case: {
                name: arrays[f"{case}/ms3_flip_{name}"]
                for name in ("pred", "prob_png", "autolabel_t0.5", "autolabel_t0.9")
            }
            for case in "ac"
            if f"{case}/ms3_flip_autolabel_t0.9" in arrays
        }


def test_hard_labels_of_the_released_code_come_out_of_its_own_files(tmp_path, call):
    """Of both layouts at once: every second image lies in the folder of its city."""
    data, labels, store = tmp_path / "data", tmp_path / "labels", tmp_path / "store"
    expected = {}
    for case, arrays in golden_cases().items():
        for number, (classes, confidence) in enumerate(zip(arrays["pred"], arrays["prob_png"], strict=True)):
            name, folder = f"bonn_{case}_{number}", "train_extra/bonn/" * (number % 2)
            put(data / f"leftImg8bit/train_extra/bonn/{name}_leftImg8bit.png", np.zeros((*classes.shape, 3), np.uint8))
            put(labels / f"{folder}{name}_leftImg8bit.png", CITYSCAPES.raw_id_of[classes])
            put(labels / f"{folder}{name}_leftImg8bit_prob.png", confidence)
            hard = {threshold: arrays[f"autolabel_t{threshold}"][number] for threshold in ("0.5", "0.9")}
            expected[f"train_extra/bonn/{name}"] = hard
    imported = call(
        "import", labels, "--format", "nvidia", "--data", data, "--store", store, "--made-by", "our own W48"
    )
    assert imported.exit_code == 0
    for threshold in ("0.9", "0.5"):
        call("rethreshold", "--store", store, "--threshold", threshold)
        found = LabelStore.open(str(store))
        assert sorted(found) == sorted(expected)
        for name, hard in expected.items():
            assert np.array_equal(found.read(name), hard[threshold]), (name, threshold)
    assert call("audit", "verify", "--store", store).exit_code == 0
    assert call("audit", "log", "--store", store).stdout.count("imported (nvidia)") == 2
    card = call("audit", "card", "--store", store).stdout
    assert f"Imported from `{labels}`" in card
    assert "our own W48" in card
    assert "what its teacher was trained on is not known" in card


def test_an_import_goes_on_where_it_stopped_also_if_its_files_were_moved(streets, call_json, tmp_path):
    streets.label(0).with_name("stray.png").write_bytes(streets.label(0).read_bytes())
    first = call_json(*streets.arguments("--format", "nvidia", "--limit", "2"))
    assert (first["images_labelled"], first["images_without_labels"], first["labels_without_image"]) == (2, 0, 0)
    assert (first["imported"]["format"], first["imported"]["labels"]) == ("nvidia", str(streets.labels))
    shutil.move(streets.labels, tmp_path / "elsewhere")
    streets.labels.mkdir()
    (streets.labels / "train_extra").symlink_to(tmp_path / "elsewhere/train_extra")
    rest = call_json(*streets.arguments("--format", "nvidia"))
    assert (rest["images_done_before"], rest["images_labelled"], rest["labels_without_image"]) == (2, 1, 1)
    assert rest["warnings"][0].endswith("belongs to no image: train_extra/bonn/stray.png")
    again = call_json(*streets.arguments("--format", "nvidia"))
    assert (again["images_done_before"], again["images_labelled"], again["version"]) == (3, 0, rest["version"])


DAMAGE = {
    "there is no file of confidences {name}_prob.png": lambda s: s.label(0, "_prob").unlink(),
    "truncated": lambda s: s.label(1).write_bytes(s.label(1).read_bytes()[:60]),
    "size 4 x 5 differs from the image's 4 x 6": lambda s: put(s.label(2), np.full((4, 5), 26, np.uint8)),
    "of mode gray with alpha": lambda s: put(s.label(3, "_prob"), np.zeros((4, 6, 2), np.uint8)),
    "it holds 200, which is no label id": lambda s: put(s.label(4), np.full((4, 6), 200, np.uint8)),
}


def test_bad_files_are_named_and_passed_over_and_so_are_images_without_labels(tmp_path, call_json):
    streets = Streets(tmp_path, 7)
    for damage in DAMAGE.values():
        damage(streets)
    streets.label(5).unlink()
    summary = call_json(*streets.arguments("--format", "nvidia"), exit_code=1)
    assert [one["key"] for one in summary["failed"]] == [key(number) for number in range(5)]
    for number, (one, reason) in enumerate(zip(summary["failed"], DAMAGE, strict=True)):
        assert reason in one["reason"]
        assert streets.label(number).stem in one["reason"]
    assert summary["images_without_labels"] == 1
    assert f"1 of 7 images without labels in {streets.labels}, left out: {key(5)}" in summary["warnings"]
    assert sorted(streets.open()) == [key(6)]


def test_images_without_labels_alone_give_exit_code_1(streets, call):
    streets.label(1).unlink()
    assert call(*streets.arguments("--format", "nvidia")).exit_code == 1


def test_no_labels_at_all_is_an_error_that_says_what_was_looked_for(streets, call):
    result = call(*streets.arguments("--label-files", "{name}_pred.png"))
    assert result.exit_code == 2
    assert f"for {key(0)} bonn_000000_000019_leftImg8bit_pred.png or bonn_000000_000019_pred.png" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not streets.store.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--format", "paddleseg"), "hold no trainIds"),
        (("--label-files", "pred.png"), "--label-files must hold {name} once"),
        (("--images-json", "x.json"), "--images-json is about masks"),
        (("--format", "maps", "--threshold", "0.5"), "--threshold asks for the confidence of pixels"),
        (("--format", "maps", "--class-thresholds", "car=0.5"), "--class-thresholds asks for the confidence"),
        (("--format", "maps", "--class-share", "0.5"), "asks for the confidence"),
        (("--format", "nvidia", "--margin", "0.1"), "no margin"),
    ],
)
def test_what_an_import_cannot_do_is_refused_in_one_line(streets, call, options, reason):
    result = call(*streets.arguments(*options))
    assert result.exit_code == 2
    assert reason in result.stderr.splitlines()[-1]
    assert not streets.store.exists() or not list(streets.store.glob("data/*/*x*"))


def test_labels_without_confidence_keep_everything_and_pretend_none(streets, call, call_json):
    plain = ("--format", "maps", "--label-files", "{name}_leftImg8bit.png")
    summary = call_json(*streets.arguments(*plain))
    assert (summary["threshold"], summary["kept_share"]) == (0.0, 1.0)
    assert streets.open().thresholds == ()
    refused = call("rethreshold", "--store", streets.store, "--threshold", "0.9")
    assert refused.exit_code == 2
    assert "these labels came without confidences" in refused.stderr
    assert call("rethreshold", "--store", streets.store, "--class-thresholds", "car=off").exit_code == 0
    store = streets.open()
    raw = np.asarray(Image.open(streets.label(0)))
    expected = CITYSCAPES.train_id_of[raw]
    expected[expected == CAR] = 255
    assert np.array_equal(store.read(key(0)), expected)
    assert call("audit", "verify", "--store", streets.store).exit_code == 0


def test_other_files_are_another_label_set(streets, call):
    assert call(*streets.arguments("--format", "nvidia")).exit_code == 0
    put(streets.label(2), np.full((4, 6), 7, np.uint8))
    refused = call(*streets.arguments("--format", "nvidia"))
    assert refused.exit_code == 2
    assert "holds labels made with other settings (teacher_sha256: " in refused.stderr
    assert "--relabel" in refused.stderr
    assert call(*streets.arguments("--format", "nvidia", "--relabel", "--threshold", "0")).exit_code == 0
    assert set(streets.open().read(key(2)).ravel()) == {ROAD}


def test_pixels_of_no_class_have_no_confidence_either(streets, call_json):
    put(streets.label(0), np.repeat([[26, 26, 26, 0, 0, 0]], 4, axis=0).astype(np.uint8))
    put(streets.label(0, "_prob"), np.full((4, 6), 255, np.uint8))
    call_json(*streets.arguments("--format", "nvidia", "--limit", "1"))
    top1, code, thresholds = streets.open().read_evidence(key(0))
    assert top1[0].tolist() == [CAR] * 3 + [255] * 3
    assert code[0].tolist() == [len(thresholds)] * 3 + [0] * 3
    assert streets.open().receipt(key(0)).mean_confidence == 0.5


def test_confidences_of_16_bits_lie_where_a_pattern_says(streets, call_json):
    for number in range(3):
        put(streets.labels / f"conf/bonn_{number:06}_000019.png", np.full((4, 6), 65535 * 3 // 4, np.uint16))
    pattern = ("--label-files", "{name}_leftImg8bit.png", "--confidence-files", "conf/{name}.png")
    assert call_json(*streets.arguments(*pattern, "--threshold", "0.7"))["kept_share"] == 1.0


def test_coco_results_are_imported_with_the_score_of_the_winning_mask(streets, call_json):
    whole, left = {"size": [4, 6], "counts": [0, 24]}, {"size": [4, 6], "counts": [0, 8, 16]}
    entries = [
        {"image_id": f"bonn_{number:06}_000019", "category_id": category, "score": score, "segmentation": mask}
        for number in range(3)
        for category, score, mask in ((7, 0.6, whole), (26, 0.95, left))
    ]
    path = streets.root / "results.json"
    path.write_text(json.dumps(entries))
    summary = call_json(*streets.arguments("--format", "masks", labels=path))
    assert summary["images_labelled"] == 3
    label = streets.open().read(key(1))
    assert (label[:, :2] == CAR).all()
    assert (label[:, 2:] == 255).all()
    top1, _, _ = streets.open().read_evidence(key(1))
    assert (top1[:, 2:] == ROAD).all()


def test_a_folder_of_masks_for_each_image_is_imported(streets, call_json):
    for number in range(3):
        folder = streets.labels / f"bonn_{number:06}_000019"
        put(folder / "0.png", np.full((4, 6), 255, np.uint8))
        (folder / "metadata.csv").write_text("id,category,score\n0,car,0.95\n")
    summary = call_json(*streets.arguments("--format", "masks"))
    assert (summary["images_labelled"], summary["kept_share"]) == (3, 1.0)
    assert (streets.open().read(key(0)) == CAR).all()


def test_a_dry_run_writes_nothing(streets, call_json):
    plan = call_json(*streets.arguments("--format", "nvidia", "--dry-run"))
    assert (plan["images_total"], plan["images_to_do"], plan["device"]) == (3, 3, "cpu")
    assert not streets.store.exists()


def test_the_library_takes_an_import_in_place_of_a_teacher(streets):
    config = hmsa_label.LabelConfig(
        data=hmsa_label.DataConfig(root=streets.data),
        teacher=hmsa_label.ImportConfig(labels=streets.labels, format="nvidia"),
        store=streets.store,
        engine=hmsa_label.EngineConfig(executor="local", workers=1),
    )
    assert hmsa_label.import_labels(config).images_labelled == 3
