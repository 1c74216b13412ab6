"""A comparison of tiny students on drawn blocks: fair, pinned, resumable, and told in one page."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.audit.store import rethreshold
from hmsa_label.pipeline.compare import comparison as compare_module
from hmsa_label.pipeline.compare import students as compare_runs
from hmsa_label.pipeline.compare.comparison import compare
from hmsa_label.pipeline.compare.page import headline, render_comparison
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.training.config import AutoLabels, CoarseLabels, CompareConfig
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.open import open_images
from tests.fake_teacher import fake
from tests.tiny_training import tiny_training

STEPS = 2


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Images of 32x64 px: four to train on, three with coarse labels and auto labels, two to score; three classes.

    One image more is in a split of which nobody knows by its name that it is held out.
    """
    root = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(0)
    kinds = (("train", 4, "gtFine"), ("train_extra", 3, "gtCoarse"), ("val", 2, "gtFine"), ("fresh", 1, "gtFine"))
    for split, count, kind in kinds:
        for number in range(count):
            ids = rng.choice([7, 11, 23], (2, 4)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
            image = rng.integers(0, 256, (32, 64, 3), np.uint8)
            stem = f"{split}/town/town_{number:06}_000000"
            for path, pixels in (
                (f"leftImg8bit/{stem}_leftImg8bit.png", image),
                (f"{kind}/{stem}_{kind}_labelIds.png", ids),
            ):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / path)
    label(root, fake())
    return root


def label(root, teacher, **options):
    engine = EngineConfig(executor="local", workers=1)
    data, rule = DataConfig(root=str(root), split="train_extra"), RuleConfig(threshold=0.5)
    return label_images(
        LabelConfig(data=data, teacher=teacher, store=str(root / "labels"), rule=rule, engine=engine, **options)
    )


def settings(tree, output, **changes):
    train = tiny_training(tree, output, low_scale=None, max_steps=STEPS, save_every=1)
    changed = {name: changes.pop(name) for name in list(changes) if hasattr(train, name)}
    auto = changes.pop("auto", AutoLabels(store=str(tree / "labels")))
    defaults = {"seeds": (0,), "resamples": 100}
    return CompareConfig(train=replace(train, **changed), auto=auto, **{**defaults, **changes})


@pytest.fixture(scope="module")
def compared(tree, tmp_path_factory):
    """(comparison, its folder, the events told) of all arms and two seeds."""
    folder, told = tmp_path_factory.mktemp("compared"), []
    found = compare(settings(tree, folder, seeds=(0, 5)), lambda *event: told.append(event))
    return found, folder, told


def info(folder, arm, seed=0):
    return decode_checkpoint((folder / arm / f"seed{seed}" / "last.safetensors").read_bytes())[1]


def test_arms_differ_in_their_second_labels_and_in_nothing_else(compared):
    _, folder, _ = compared
    configs = {arm: info(folder, arm)["config"] for arm in ("fine", "coarse", "auto")}
    assert configs["fine"].pop("second") is None
    assert configs["coarse"].pop("second")["labels"] == "gtCoarse"
    assert configs["auto"].pop("second")["version"] == str(info(folder, "auto")["auto_labels"]["version"])
    for config in configs.values():
        config.pop("output")
    assert configs["coarse"] == configs["auto"]
    assert configs["fine"] == {**configs["auto"], "mix": 0.0}
    assert configs["auto"]["max_steps"] == STEPS


def test_last_weights_are_scored_image_by_image(compared, tree):
    found, folder, _ = compared
    entry = found.students[0]
    assert entry["checkpoint"] == str(folder / "fine/seed0/last.safetensors")
    with np.load(folder / "fine/seed0/scores.npz") as scores:
        assert scores["confusions"].shape == (2, 19, 19)
        assert (scores["confusions"].sum((1, 2)) == 32 * 64).all()
        assert str(scores["sha256"]) == entry["sha256"]
    assert info(folder, "fine")["step"] == STEPS


def test_table_has_every_arm_and_seed_with_intervals_around_the_means(compared):
    found, _, told = compared
    assert (found.arms, found.seeds, found.seeds_missing) == (["fine", "coarse", "auto"], [0, 5], [])
    for arm in found.arms:
        miou = found.miou[arm]
        assert set(miou.seeds) == {"0", "5"}
        assert miou.mean == pytest.approx(np.mean(list(miou.seeds.values())))
        assert miou.low <= miou.mean <= miou.high
    pairs = [(entry.arm, entry.against) for entry in found.differences]
    assert pairs == [("auto", "fine"), ("auto", "coarse"), ("coarse", "fine")]
    gain = found.differences[0].miou
    assert gain.value == pytest.approx(found.miou["auto"].mean - found.miou["fine"].mean)
    assert {(arm, seed) for arm, seed, _ in told} == {(arm, seed) for arm in found.arms for seed in (0, 5)}


def test_classes_without_labels_are_left_out_of_every_mean(compared):
    found, _, _ = compared
    iou = found.iou["auto"]
    assert {name for name, value in iou.items() if value is not None} == {"road", "building", "sky"}
    assert found.differences[0].iou["car"] is None
    assert found.miou["auto"].mean == pytest.approx(np.mean([v for v in iou.values() if v is not None]))


def test_cost_counts_crops_of_every_arm(compared):
    found, _, _ = compared
    assert {arm: (cost["crops"], cost["fine_crops"]) for arm, cost in found.cost.items()} == {
        "fine": (8, 8),
        "coarse": (8, 4),
        "auto": (8, 4),
    }
    assert all(cost["cpu_seconds"] > 0 and cost["attempts"] == 2 for cost in found.cost.values())
    assert found.labels["images"] == 3


def test_report_counts_the_images_of_each_kind_of_label(compared, tree, tmp_path):
    found, folder, _ = compared
    assert found.trained_on == {"fine": 4, "coarse": 3, "auto": 3}
    page = (folder / "compare.html").read_text()
    for told in ("fine labels</dt><dd>4<", "polygons</dt><dd>3<", "Auto-labeled images</dt><dd>3<"):
        assert told in page
    few = settings(tree, tmp_path, coarse=CoarseLabels(split="train_extra", limit=2), arms=("coarse",))
    assert compare(few).trained_on == {"fine": 4, "coarse": 2}
    assert len(info(tmp_path, "coarse")["coarse_labels"]["keys"]) == 2


def test_auto_labels_that_polygons_have_a_say_in_are_compared_as_they_are_stored(tree, tmp_path):
    store = tmp_path / "labels"
    shutil.copytree(tree / "labels", store)
    rethreshold(store, RuleConfig(polygons="trust", class_polygons={"sky": "veto"}))
    auto = AutoLabels(store=str(store), class_thresholds="road=off")
    found = compare(settings(tree, tmp_path / "compared", auto=auto, arms=("auto",)))
    assert found.trained_on == {"fine": 4, "auto": 3}
    assert found.labels["rule"] == {"polygons": "trust", "class_polygons": {"sky": "veto"}}
    recorded = info(tmp_path / "compared", "auto")["auto_labels"]
    assert (recorded["rule"], recorded["class_thresholds"]) == (found.labels["rule"], {"road": "off"})


def test_second_call_trains_nothing_and_finds_the_same(compared, tree, monkeypatch):
    found, folder, _ = compared
    monkeypatch.setattr(compare_runs, "train_teacher", None)
    monkeypatch.setattr(compare_runs, "Teacher", None)
    again = compare(settings(tree, folder, seeds=(0, 5)))
    assert (again.miou, again.differences, again.cost) == (found.miou, found.differences, found.cost)


def test_finished_students_are_scored_on_another_split(compared, tree, monkeypatch):
    _, folder, _ = compared
    before = (folder / "compare.html").read_bytes()
    monkeypatch.setattr(compare_runs, "train_teacher", None)
    found = compare(settings(tree, folder, seeds=(0, 5), score_split="fresh"))
    assert (found.split, found.images, found.page) == ("fresh", 1, str(folder / "compare-fresh.html"))
    assert "<dt>Images scored</dt><dd>1 of fresh</dd>" in (folder / "compare-fresh.html").read_text()
    assert json.loads((folder / "compare-fresh.json").read_text())["miou"] == found.to_dict()["miou"]
    assert (folder / "compare.html").read_bytes() == before
    with np.load(folder / "auto/seed5/scores-fresh.npz") as scores:
        assert scores["keys"].tolist() == ["fresh/town/town_000000_000000"]


def test_a_split_that_is_trained_on_is_not_scored(compared, tree):
    _, folder, _ = compared
    with pytest.raises(ValueError, match=r"^4 images held out for scoring are among those trained on"):
        compare(settings(tree, folder, seeds=(0, 5), score_split="train"))


def test_other_settings_are_refused_in_the_same_folder(compared, tree):
    _, folder, _ = compared
    with pytest.raises(ValueError, match=r"fine/seed0 was trained with another learning_rate"):
        compare(settings(tree, folder, learning_rate=0.5))
    auto = AutoLabels(store=str(tree / "labels"), threshold=0.6)
    with pytest.raises(ValueError, match=r"auto/seed0 was trained with another second\.threshold"):
        compare(settings(tree, folder, auto=auto))
    with pytest.raises(ValueError, match=r"another steps 2 -> 3; compare into another --output"):
        compare(settings(tree, folder, max_steps=3))


def test_page_tells_the_outcome_and_asks_nothing_from_anywhere(compared):
    found, folder, _ = compared
    document = json.loads((folder / "compare.json").read_text())
    assert document["miou"] == found.to_dict()["miou"]
    text = (folder / "compare.html").read_text()
    assert headline(document) in text
    assert f"{found.miou['auto'].mean:.4f}" in text
    assert "audit trace" in text
    assert document["labels"]["digest"] in text

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert tag not in ("script", "link", "img")
            assert not {name for name, _ in attrs} & {"src", "href", "onload"}

    Tags().feed(text)


def test_page_tells_how_the_auto_labels_were_used(compared):
    _, folder, _ = compared
    document = json.loads((folder / "compare.json").read_text())
    text = render_comparison(document)
    assert "Thresholds of classes" not in text
    document["labels"] |= {"threshold": 0.9, "class_thresholds": {"rider": 0.5}}
    text = render_comparison(document)
    assert "<dt>Rule</dt><dd>0.9</dd>" in text
    document["labels"]["rule"] = {"center_threshold": 0.3}
    assert "<dt>Rule</dt><dd>0.9, center threshold 0.3</dd>" in render_comparison(document)
    assert "<dt>Thresholds of classes</dt><dd>rider 0.5</dd>" in text


def test_headline_says_by_how_much_and_what_is_missing():
    gain = {"value": 0.0414, "low": -0.0001, "high": 0.0801}
    found = {
        "differences": [
            {"arm": "auto", "against": "fine", "miou": gain},
            {"arm": "auto", "against": "coarse", "miou": gain},
        ],
        "miou": {"auto": {"mean": 0.5432}},
        "confidence": 0.9,
        "seeds_missing": [2],
    }
    assert headline(found) == (
        "Fine + auto reaches mIoU 0.543, 0.041 above fine only (90 % interval 0.000 to +0.080). "
        "Not finished: one seed is still to come."
    )


def test_interrupted_comparison_goes_on_with_the_labels_it_began_with(tree, tmp_path, monkeypatch):
    config = settings(tree, tmp_path, arms=("auto",), seeds=(0, 1))
    train = compare_runs.train_teacher
    stopped = []

    def stop_second(config, on_event):
        summary = train(config, on_event)
        stopped.append(config.seed)
        return replace(summary, interrupted=config.seed == 1)

    monkeypatch.setattr(compare_runs, "train_teacher", stop_second)
    with pytest.raises(KeyboardInterrupt):
        compare(config)
    assert json.loads((tmp_path / "compare.json").read_text())["seeds_missing"] == [1]
    before = info(tmp_path, "auto")["auto_labels"]["version"]
    label(tree, fake(seed=3), relabel=True)
    monkeypatch.setattr(compare_runs, "train_teacher", train)
    found = compare(config)
    assert (found.seeds, stopped) == ([0, 1], [0, 1])
    assert info(tmp_path, "auto", 1)["auto_labels"]["version"] == before
    newest = replace(config.auto, version=str(before + 2))
    with pytest.raises(ValueError, match="another version"):
        compare(replace(config, auto=newest))


def test_coarse_arm_needs_coarse_labels_when_it_is_asked_for(tree, tmp_path):
    config = settings(tree, tmp_path, arms=("coarse",))
    with pytest.raises(NotAStore, match="nowhere"):
        compare(replace(config, coarse=replace(config.coarse, split="nowhere")))
    with pytest.raises(NotAStore, match="gtCoarse"):
        compare(replace(config, coarse=replace(config.coarse, split="train")))


def test_coarse_arm_is_left_out_where_there_are_no_coarse_labels(tree, tmp_path):
    config = settings(tree, tmp_path)
    source = open_images("cityscapes", str(tree))
    assert compare_module._arms(config, source) == ("fine", "coarse", "auto")
    none = replace(config, coarse=replace(config.coarse, split="train"))
    assert compare_module._arms(none, source) == ("fine", "auto")


def test_unfit_settings_are_refused_before_anything_is_done(tree, tmp_path):
    with pytest.raises(ValueError, match="--arms must be one of fine, coarse, auto; got 'pseudo'"):
        settings(tree, tmp_path, arms=("pseudo",))
    with pytest.raises(ValueError, match="seeds must be distinct"):
        settings(tree, tmp_path, seeds=(1, 1))
    with pytest.raises(ValueError, match="--poly-by-epoch would give each arm another schedule"):
        settings(tree, tmp_path, poly_by_epoch=True)


def test_several_processes_are_refused(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="without torchrun"):
        compare(settings(tree, tmp_path))
    assert not (tmp_path / "plan.json").exists()


def test_steps_follow_the_fine_images_where_epochs_are_given(tree, tmp_path):
    config = settings(tree, tmp_path, max_steps=None, epochs=3)
    source = open_images("cityscapes", str(tree))
    fine = compare_module._drawn_images(config, source)["fine"]
    assert compare_module._steps(config, len(fine)) == 6  # three passes over four images, two in a batch
