"""Rules on the command line: every kind of rule, by `run` and by `rethreshold`, and what is refused of them."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from hmsa_label.cli.main import main
from hmsa_label.pipeline.data.growth import grow
from hmsa_label.stores.versions.label_store import LabelStore
from tests.cli.conftest import draw_streets
from tests.fake_teacher import fake_arguments

TEACHER = fake_arguments(views=3)
SIZE = (32, 64)
# What is asked for of each kind of rule; MASK and FILE stand for files.
RULES = {
    "threshold": ["--threshold", "0.7"],
    "part": ["--threshold", "128/255"],
    "no threshold": ["--preset", "no-threshold"],
    "classes": ["--class-thresholds", "road=0.6,car=off,traffic light=0"],
    "file": ["--class-thresholds", "FILE", "--threshold", "0.8"],
    "margin": ["--margin", "0.3", "--threshold", "0.5"],
    "disagreement": ["--max-disagreement", "0", "--threshold", "0.5"],
    "border": ["--border", "1,2,3,4"],
    "mask": ["--ego-mask", "MASK"],
    "trust": ["--polygons", "trust"],
    "add": ["--polygons", "add", "--grow-px", "4"],
    "veto": ["--polygons", "veto", "--threshold", "0.5"],
    "seen": ["--class-polygons", "road=seen,sidewalk=trust", "--grow-px", "2"],
    "released": ["--preset", "released-code-0.5", "--border", "off"],
}


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """Five images of 32x64 px, three of them with polygons of road, sidewalk and ego vehicle; a mask; a file."""
    root = tmp_path_factory.mktemp("ruled")
    draw_streets(root)
    for number in range(3):
        ids = np.zeros(SIZE, np.uint8)
        ids[4:14, 4:30], ids[4:14, 36:60], ids[28:, 10:50] = 7, 8, 1
        path = root / f"gtCoarse/train_extra/town/town_{number:06}_000019_gtCoarse_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(ids, number, 1)).save(path)
    mask = np.zeros(SIZE, np.uint8)
    mask[28:] = 255
    Image.fromarray(mask).save(root / "mask.png")
    (root / "classes.json").write_text(json.dumps({"class_thresholds": {"road": 0.95, "sky": "off"}}))
    return root


def spelled(root, rule):
    places = {"MASK": root / "mask.png", "FILE": root / "classes.json"}
    return [str(places.get(word, word)) for word in rule]


def run_arguments(root, store, teacher=TEACHER):
    return ("run", "--data", root, "--store", store, *teacher, "--executor", "local", "--workers", 1)


def way_out(message):
    """The arguments of the command that a message names, as a shell splits them."""
    return shlex.split(message.partition("`hmsa-label ")[2].partition("`")[0])


@pytest.fixture(scope="module")
def labeled(streets):
    """A store with all evidence."""
    args = [*run_arguments(streets, streets / "labels"), "--evidence", "top2,disagreement,growth"]
    main([str(arg) for arg in args], standalone_mode=False)
    return streets / "labels"


def test_polygons_and_their_growth_are_stored_and_void_regions_hold_their_ground(streets, labeled):
    reader, key = LabelStore.open(str(labeled)), "train_extra/town/town_000000_000019"
    image = np.asarray(Image.open(streets / f"leftImg8bit/{key}_leftImg8bit.png"))
    ids = np.asarray(Image.open(streets / f"gtCoarse/{key}_gtCoarse_labelIds.png"))
    polygon = np.select([ids == 7, ids == 8], [0, 1], 255).astype(np.uint8)  # road, sidewalk
    assert np.array_equal(reader.read_array(key, "polygon"), polygon)
    grown, grown_px = grow(image, polygon, ids == 1)  # the ego vehicle has no class
    assert np.array_equal(reader.read_array(key, "grown"), grown)
    assert np.array_equal(reader.read_array(key, "grown_px"), grown_px)
    assert not np.array_equal(grown, grow(image, polygon)[0])


@pytest.mark.parametrize("kind", RULES)
def test_rethreshold_to_a_rule_equals_a_run_with_it(kind, streets, labeled, call, call_json, tmp_path):
    asked = spelled(streets, RULES[kind])
    anew = [] if "--preset" in asked else ["--preset", "paper-0.9"]
    made = call_json("rethreshold", "--store", labeled, *anew, *asked)
    fresh = call_json(*run_arguments(streets, tmp_path / "fresh"), *asked)
    assert (made["digest"], made["threshold"], made["rule"]) == (fresh["digest"], fresh["threshold"], fresh["rule"])
    a, b = LabelStore.open(str(labeled)), LabelStore.open(str(tmp_path / "fresh"))
    for key in a:
        assert np.array_equal(a.read(key), b.read(key))
        assert np.array_equal(a.origin(key), b.origin(key))
    if kind in ("add", "mask", "disagreement"):
        again = call(*run_arguments(streets, tmp_path / "fresh"), *asked)
        assert "0 labeled, 0 failed, 5 done before" in again.stdout
        assert call("audit", "verify", "--store", tmp_path / "fresh").stdout == "5 images, no problems\n"


def test_run_by_another_rule_names_the_rethreshold_that_leads_there(streets, call, call_json, tmp_path):
    store = tmp_path / "labels"
    there = ["--class-thresholds", "road=0.6,car=off", "--border", "1,2,3,4", "--ego-mask", streets / "mask.png"]
    here = ["--threshold", "0.7", "--class-polygons", "road=add", "--grow-px", "2", "--evidence", "growth"]
    call_json(*run_arguments(streets, store), *there, "--evidence", "growth", "--limit", 3)
    refused = call(*run_arguments(streets, store), *here)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    way = way_out(refused.stderr)
    assert way == [
        "rethreshold", "--threshold", "0.7", "--class-thresholds", "off", "--border", "off", "--ego-mask", "off",
        "--class-polygons", "road=add", "--grow-px", "2", "--store", str(store),
    ]  # fmt: skip
    call_json(*way)
    assert call_json(*run_arguments(streets, store), *here)["images_labelled"] == 2
    assert call("audit", "verify", "--store", store).stdout == "5 images, no problems\n"


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (["--preset", "class-balanced"], ["--threshold", "0.5", "--class-thresholds", "traffic light=0.6"]),
        (["--preset", "class-balanced", "--best-share", "0.5"], ["--preset", "class-balanced", "--share-cap", "0.8"]),
        (["--threshold", "0.5"], ["--preset", "class-balanced", "--best-share", "0.5"]),
    ],
    ids=["away from shares", "another cap", "to shares"],
)
def test_the_rethreshold_that_run_names_makes_the_labels_of_a_run(there, here, streets, call, call_json, tmp_path):
    arguments = run_arguments(streets, tmp_path / "the labels")
    call_json(*arguments, *there, "--evidence", "top2")
    refused = call(*arguments, *here)  # asks for less evidence than there is
    made = call_json(*way_out(refused.stderr))
    fresh = call_json(*run_arguments(streets, tmp_path / "fresh"), *here)
    assert (made["digest"], made["threshold"], made["rule"]) == (fresh["digest"], fresh["threshold"], fresh["rule"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--margin", "0.2"], "gives top1, the best class alone, so there is no runner-up and no margin"),
        (["--evidence", "top2"], "gives top1, the best class alone"),
        (["--max-disagreement", "1"], "takes its labels from a single prediction, so nothing can disagree"),
        (["--center-threshold", "0.2"], "--center-threshold needs instances"),
        (["--class-thresholds", "raod=0.5"], "--class-thresholds: there is no class 'raod'; did you mean 'road'?"),
        (["--split", "val", "--polygons", "trust"], "--polygons takes polygons, and none of the 5 images of"),
        (["--split", "val", "--class-polygons", "road=add"], "any; name their label type with --coarse-labels, or"),
        (["--split", "val", "--evidence", "growth"], "--evidence growth grows polygons, and none of the 5 images"),
        (["--evidence", "top2,none"], "--evidence takes none alone, or kinds such as"),
        (["--evidence", "runner-up"], "--evidence must be one of confidence, none, top2, disagreement, growth"),
        (["--grow-px", "3"], "--grow-px lets polygons grow, and none gives labels"),
        (["--ego-mask", "none.png"], "there is no such file"),
        (["--class-thresholds", "none.json"], "--class-thresholds: there is no file"),
        (["--class-thresholds", "road=1.5"], "--class-thresholds: road must lie between 0 and 1, 1 excluded; got 1.5"),
        (["--polygons", "tust"], "'tust' is not one of 'off', 'trust', 'add', 'veto', 'seen'"),
    ],
)
def test_rule_that_cannot_be_followed_is_one_line_before_anything_is_labeled(options, message, streets, call, tmp_path):
    result = call(*run_arguments(streets, tmp_path / "labels", fake_arguments()), *options)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert message in line
    assert not (tmp_path / "labels").exists()


def test_panoptic_labels_follow_a_rule_with_polygons_too(streets, call, call_json, tmp_path):
    teacher = fake_arguments(instances=True)
    asked = spelled(streets, [*RULES["classes"], "--center-threshold", "0.3", "--polygons", "trust", "--grow-px", "4"])
    asked += spelled(streets, RULES["mask"])
    call_json(*run_arguments(streets, tmp_path / "labels", teacher), "--evidence", "growth")
    made = call_json("rethreshold", "--store", tmp_path / "labels", *asked)
    fresh = call_json(*run_arguments(streets, tmp_path / "fresh", teacher), *asked)
    assert made["digest"] == fresh["digest"]
    assert call("audit", "verify", "--store", tmp_path / "labels").stdout == "5 images, no problems\n"


def test_other_evidence_is_another_run(streets, call, call_json, tmp_path):
    arguments = run_arguments(streets, tmp_path / "labels")
    call_json(*arguments, "--limit", 3, "--evidence", "disagreement")
    here = {"confidence": "confidence", "none": "none", "top2,disagreement": "confidence,top2,disagreement"}
    for kinds, told in here.items():
        refused = call(*arguments, "--evidence", kinds)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
        assert f"(evidence: confidence,disagreement there, {told} here); --relabel replaces" in refused.stderr
    assert call_json(*arguments, "--evidence", "disagreement")["images_labelled"] == 2
    reader = LabelStore.open(str(tmp_path / "labels"))
    first, last = (sorted(reader.arrays_of(f"train_extra/town/town_00000{number}_000019")) for number in (0, 4))
    assert (first, last) == (
        ["code", "disagreement", "label", "polygon", "top1"],
        ["code", "disagreement", "label", "top1"],
    )


def test_mask_of_another_size_fails_the_images_and_says_so(streets, call_json, tmp_path):
    Image.fromarray(np.eye(24, dtype=np.uint8)).save(tmp_path / "small.png")
    arguments = run_arguments(streets, tmp_path / "labels")
    summary = call_json(*arguments, "--ego-mask", tmp_path / "small.png", exit_code=1)
    assert summary["failed"][0]["reason"] == "the --ego-mask is of 24 x 24 pixels, the image of 32 x 64"


def test_rethreshold_needs_what_was_stored(streets, labeled, call, call_json, tmp_path):
    call_json(*run_arguments(streets, tmp_path / "plain"))
    for option, kind in (("--margin", "top2"), ("--max-disagreement", "disagreement")):
        result = call("rethreshold", "--store", tmp_path / "plain", option, "0")
        assert (result.exit_code, result.stderr) == (0, "") if option == "--margin" else (2, result.stderr)
        result = call("rethreshold", "--store", tmp_path / "plain", option, "0.5" if kind == "top2" else "1")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert f"label them again with --evidence {kind} --relabel" in result.stderr
    result = call("rethreshold", "--store", labeled, "--class-polygons", "raod=add")
    assert (result.exit_code, "there is no class 'raod'; did you mean 'road'?" in result.stderr) == (2, True)
    result = call("rethreshold", "--store", labeled, "--margin", "0.123")
    assert (result.exit_code, "margin 0.123 is not among the stored ones: 0.01, " in result.stderr) == (2, True)


def test_rule_comes_from_the_file_and_the_environment(streets, call_json, tmp_path, monkeypatch):
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "class-thresholds: {road: 0.6, car: off}\nborder: [1, 2, 3, 4]\n"
        "polygons: off\nclass-polygons: {sidewalk: trust}\n"
    )
    monkeypatch.setenv("HMSA_LABEL_RUN_MARGIN", "0.2")
    plan = call_json(*run_arguments(streets, tmp_path / "labels"), "--config", settings, "--dry-run")
    assert (plan["threshold"], plan["evidence"]) == (0.9, ["confidence", "top2"])
    assert plan["rule"] == {
        "class_thresholds": {"car": "off", "road": 0.6},
        "class_polygons": {"sidewalk": "trust"},
        "border_px": [1, 2, 3, 4],
        "margin": 0.2,
    }


def test_summary_and_listings_name_the_rule_in_short(streets, labeled, call):
    said = "0.8, class thresholds (car off, road 0.6), margin 0.3, polygons add, grow 4 px"
    asked = ["--class-thresholds", "road=0.6,car=off", "--margin", "0.3", "--polygons", "add", "--grow-px", "4"]
    made = call("rethreshold", "--store", labeled, "--preset", "paper-0.9", "--threshold", "0.8", *asked)
    assert f"% of pixels by the rule {said}\n" in made.stdout
    assert "0.8 and 4 more" in call("runs", "--store", labeled).stdout
    log = call("audit", "log", "--store", labeled).stdout
    assert "0.8 and 4 more" in log
    assert said in " ".join(log.split())
    assert all(len(line) <= 100 for line in log.splitlines())
    assert f"threshold  {said}\n" in call("status", "--store", labeled).stdout
    planned = call(*run_arguments(streets, "nowhere"), "--threshold", "0.8", *asked, "--dry-run").stdout
    assert f"rule     threshold {said}; evidence confidence, top2, growth\n" in planned


@pytest.mark.ray
@pytest.mark.slow
def test_ray_labels_by_a_rule_as_threads_do_and_refuses_the_same(streets, call, call_json, tmp_path, monkeypatch):
    asked = spelled(streets, [*RULES["add"], *RULES["mask"], *RULES["margin"], *RULES["classes"]])
    local = call_json(*run_arguments(streets, tmp_path / "local"), *asked)
    ray = call_json(*run_arguments(streets, tmp_path / "ray"), *asked, "--executor", "ray")
    assert ray["digest"] == local["digest"]
    refused = call(*run_arguments(streets, tmp_path / "no", fake_arguments()), "--margin", "0.2", "--executor", "ray")
    assert refused.exit_code == 2
    assert "so there is no runner-up and no margin" in refused.stderr
