"""The commands on a store that `run` made: look, check, compare, name, go back, collect, rethreshold, export."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hmsa_label
from hmsa_label.cli.commands.audit import LOG_COLUMNS, _log_row
from hmsa_label.stores.versions.label_store import LabelStore
from tests.stores.conftest import Labels

KEY = "train_extra/town/town_000001_000019"


@pytest.fixture
def store(labeled_tree, tmp_path) -> Path:
    """A store of its own with five labeled images at threshold 0.9."""
    shutil.copytree(labeled_tree / "labels", tmp_path / "labels")
    return tmp_path / "labels"


def one_chunk(store: Path) -> Path:
    """The file of some image's label."""
    return next(path for path in store.glob("data/*/*/label/**/*") if path.is_file() and path.name != "zarr.json")


def test_log_lists_finished_versions_with_their_teacher(call_json, call, store):
    versions = call_json("audit", "log", "--store", store)["versions"]
    keys = {"version", "parent", "time", "kind", "images", "run", "threshold", "teacher_sha256", "digest", "finished"}
    assert set(versions[0]) >= keys
    assert [(entry["kind"], entry["images"], entry["finished"]) for entry in versions] == [("label", 5, True)]
    table = call("audit", "log", "--store", store).stdout
    assert versions[0]["digest"][:12] in table
    assert len(call_json("audit", "log", "--store", store, "--progress")["versions"]) > 1


def test_store_can_come_from_the_environment_for_every_audit_verb(call, store, monkeypatch):
    monkeypatch.setenv("HMSA_LABEL_STORE", str(store))
    for verb in ("log", "show", "verify", "card", "gc"):
        assert call("audit", verb).exit_code == 0, verb


def test_show_tells_of_a_version_or_of_one_image(call_json, call, store):
    assert call_json("audit", "show", "--store", store)["summary"]["images"] == 5
    image = call_json("audit", "show", "--store", store, KEY)
    assert (image["key"], image["row"]["height"], image["row"]["width"]) == (KEY, 32, 64)
    assert f"key: {KEY}" in call("audit", "show", "--store", store, KEY).stdout


def test_show_of_an_unknown_name_is_one_line(call, store):
    result = call("audit", "show", "--store", store, "nothing")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "'nothing'" in result.stderr


def test_show_draws_a_label_in_the_colors_of_its_classes(call, store, tmp_path):
    picture = tmp_path / "label.png"
    assert call("audit", "show", "--store", store, KEY, "--png", picture).exit_code == 0
    reader = LabelStore.open(str(store))
    label, drawn = reader.read(KEY), np.asarray(Image.open(picture))
    assert drawn.shape == (32, 64, 3)
    for train_id, color in enumerate(reader.classes["colours"]):
        assert (drawn[label == train_id] == color).all()
    assert (drawn[label == 255] == 0).all()
    assert call("audit", "show", "--store", store, "--png", picture).exit_code == 2


def test_show_draws_the_label_of_a_version(call, call_json, store, tmp_path):
    before = call_json("audit", "tag", "--store", store, "before")["version"]
    after = call_json("rethreshold", "--store", store, "--threshold", 0.5)["version"]

    def drawn(*version: object) -> tuple[int, float, int]:
        picture = tmp_path / "label.png"
        shown = call_json("audit", "show", "--store", store, KEY, *version, "--png", picture)
        black = (np.asarray(Image.open(picture)) == 0).all(axis=2)
        return shown["version"], shown["row"]["threshold"], int(black.sum())

    def ignored(version: int) -> int:
        return int((LabelStore.open(str(store), version).read(KEY) == 255).sum())

    assert ignored(before) > ignored(after)
    assert drawn() == (after, 0.5, ignored(after))
    assert drawn("--version", before) == drawn("--version", "before") == (before, 0.9, ignored(before))
    assert call_json("audit", "show", "--store", store, "--version", "before")["version"] == before
    twice = call("audit", "show", "--store", store, before, "--version", after)
    assert (twice.exit_code, "--version goes with the key of an image" in twice.stderr) == (2, True)


def test_card_as_croissant_names_the_version_its_tools_and_its_columns(call, store):
    card = json.loads(call("audit", "card", "--store", store, "--format", "croissant").stdout)
    version = LabelStore.open(str(store))
    assert card["distribution"][0]["sha256"] == version.digest
    assert "teacher_sha256" in card["rai:machineAnnotationTools"][0]
    columns = {field["source"]["extract"]["column"] for field in card["recordSet"][0]["field"]}
    assert columns <= set(version.table().column_names)


def test_log_calls_progress_alone_unfinished_and_says_that_times_are_utc(call, store):
    call("audit", "tag", "--store", store, "paper")
    heading, *rows = call("audit", "log", "--store", store, "--progress").stdout.splitlines()
    assert heading.startswith("version  time (UTC)")
    marked = {row.split()[2]: row.endswith("unfinished") for row in rows}
    assert marked == {"tag": False, "label": False, "progress": True, "begin": True, "create": False}


def test_card_names_scales_as_plain_numbers(labeled_tree):
    facts = hmsa_label.card(str(labeled_tree / "labels"))
    shown = hmsa_label.render_card(replace(facts, settings=[{"threshold": 0.9, "scales": [0.5, 1.0]}]))
    assert "; threshold 0.9, scales 0.5, 1.0\n" in shown


def test_log_begins_with_the_newest_version(call_json, store):
    made = call_json("rethreshold", "--store", store, "--threshold", 0.8)["version"]
    versions = [entry["version"] for entry in call_json("audit", "log", "--store", store)["versions"]]
    assert versions == sorted(versions, reverse=True)
    assert versions[0] == made


@pytest.mark.parametrize(
    ("command", "ask"),
    [
        (("audit", "show"), lambda store: hmsa_label.show(store)),
        (("audit", "show", KEY), lambda store: hmsa_label.show(store, KEY)),
        (("audit", "verify"), lambda store: hmsa_label.verify(store)),
        (("audit", "diff", "0"), lambda store: hmsa_label.diff(store, 0)),
        (("audit", "card"), lambda store: hmsa_label.card(store)),
        (("audit", "gc"), lambda store: hmsa_label.collect_garbage(store)),
        (("status",), lambda store: hmsa_label.run_status(store)),
    ],
)
def test_json_of_a_command_is_what_the_function_of_the_library_returns(call_json, store, command, ask):
    found = call_json(*command, "--store", store)
    returned = json.loads(json.dumps(ask(store).to_dict()))
    assert (found, list(found)) == (returned, list(returned))


def test_verify_finds_nothing_in_a_sound_store(call_json, call, store):
    report = call_json("audit", "verify", "--store", store)
    assert (report["ok"], report["images"], report["problems"], report["repair"]) == (True, 5, [], None)
    assert call("audit", "verify", "--store", store, "--quick").stdout == "5 images, no problems\n"


def test_verify_names_a_changed_label_and_ends_with_exit_code_1(call_json, call, store):
    chunk = one_chunk(store)
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    report = call_json("audit", "verify", "--store", store, exit_code=1)
    assert not report["ok"]
    assert [problem["kind"] for problem in report["problems"]] == ["corrupt"]
    told = call("audit", "verify", "--store", store).stdout
    assert report["problems"][0]["key"] in told
    assert "\n5 images, 1 problem\n" in told
    assert call("audit", "verify", "--store", store, "--quick").exit_code == 0


def test_verify_can_compare_the_images_as_well(call_json, store, street_images):
    (street_images / f"leftImg8bit/{KEY}_leftImg8bit.png").write_bytes(b"other")
    assert call_json("audit", "verify", "--store", store)["ok"]
    report = call_json("audit", "verify", "--store", store, "--sources", street_images, exit_code=1)
    assert [(problem["key"], problem["kind"]) for problem in report["problems"]] == [(KEY, "source_changed")]


def test_rethreshold_makes_a_version_that_diff_explains(call_json, call, store):
    before = call_json("audit", "log", "--store", store)["versions"][0]["version"]
    made = call_json("rethreshold", "--store", store, "--threshold", 0.8)
    assert (made["images_total"], made["images_labelled"], made["images_failed"]) == (5, 5, 0)
    assert made["version"] > before
    changes = call_json("audit", "diff", "--store", store, before)
    assert (len(changes["relabelled"]), changes["added"], changes["removed"]) == (5, [], [])
    ignored = changes["confusion"][-1]
    assert changes["pixels_changed"] == sum(ignored[:-1]) > 0
    assert f"versions  {before} -> {made['version']}" in call("audit", "diff", "--store", store, before).stdout


def test_threshold_that_was_not_stored_is_refused_with_those_that_are(call, store):
    result = call("rethreshold", "--store", store, "--threshold", 0.123)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "0.95" in result.stderr


def test_tag_names_a_version_and_never_moves(call_json, call, store):
    made = call_json("audit", "tag", "--store", store, "paper", "--message", "first")
    assert (made["name"], made["message"]) == ("paper", "first")
    assert call_json("audit", "show", "--store", store, "paper")["version"] == made["version"]
    assert "paper" in call("audit", "log", "--store", store).stdout
    call_json("rethreshold", "--store", store, "--threshold", 0.8)
    again = call("audit", "tag", "--store", store, "paper")
    assert again.exit_code == 2
    assert "never moves" in again.stderr


def test_rollback_restores_earlier_labels_and_gc_drops_what_nothing_needs(call_json, call, store):
    first = call_json("audit", "log", "--store", store)["versions"][0]
    call_json("rethreshold", "--store", store, "--threshold", 0.8)
    made = call_json("audit", "rollback", "--store", store, first["version"])
    assert call_json("audit", "log", "--store", store)["versions"][0]["digest"] == first["digest"]
    plan = call_json("audit", "gc", "--store", store, "--keep-last", 1)
    assert (plan["applied"], plan["objects"] > 0) == (False, True)
    assert "would delete" in call("audit", "gc", "--store", store, "--keep-last", 1).stdout
    assert call_json("audit", "gc", "--store", store, "--keep-last", 1, "--apply")["applied"]
    assert call_json("audit", "verify", "--store", store)["ok"]
    assert call_json("audit", "show", "--store", store)["version"] == made["version"]


def test_card_tells_of_classes_origin_and_cautions(call, store):
    card = call("audit", "card", "--store", store).stdout
    assert card.startswith("# Labels of version ")
    assert "| 0 | road |" in card
    assert "threshold 0.9" in card
    assert "made by a network" in card


def test_export_writes_png_files_a_json_file_or_one_array(call, call_json, store, tmp_path):
    made = call_json("export", "--store", store, tmp_path / "png")
    assert (made["images"], made["files"]) == (5, 15)
    assert (tmp_path / f"png/gtAuto/{KEY}_gtAuto_labelTrainIds.png").exists()
    call_json("export", "--store", store, tmp_path / "dense", "--format", "zarr")
    assert json.loads((tmp_path / "dense/label/zarr.json").read_text())["shape"] == [5, 32, 64]
    made = call_json("export", "--store", store, tmp_path / "coco", "--format", "coco", "--name", "auto")
    assert (made["files"], "evidence" in made["left_out"]) == (6, True)
    assert (tmp_path / f"coco/annotations/panoptic_auto/{KEY}.png").exists()
    assert "not in these files: " in call("export", "--store", store, tmp_path / "told", "--format", "coco").stderr


def test_export_into_a_folder_with_something_in_it_is_refused(call, store, tmp_path):
    result = call("export", "--store", store, tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "not empty" in result.stderr


@pytest.mark.parametrize("verb", ["log", "show", "verify", "card", "gc"])
def test_place_without_a_store_is_named(call, tmp_path, verb):
    result = call("audit", verb, "--store", tmp_path / "nowhere")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "nowhere" in result.stderr


def test_versions_can_be_named_by_tag_or_with_a_v_wherever_one_is_asked_for(call, call_json, store, tmp_path):
    first = call_json("audit", "tag", "--store", store, "paper")["version"]
    call_json("rethreshold", "--store", store, "--threshold", 0.8)
    assert call_json("audit", "diff", "--store", store, "paper", f"v{first}")["unchanged"] == 5
    assert call_json("audit", "tag", "--store", store, "same", "--version", "paper")["version"] == first
    assert call_json("export", "--store", store, tmp_path / "out", "--version", "paper")["version"] == first
    assert call_json("audit", "card", "--store", store, "paper")["version"] == first
    made = call_json("audit", "rollback", "--store", store, "paper")
    assert (made["restores"], made["changed"]) == (first, True)
    again = call("audit", "rollback", "--store", store, f"v{first}")
    assert again.stdout == f"version {made['version']} holds the labels of version {first} already; nothing was done\n"
    assert "no version or tag 'draft'" in call("audit", "rollback", "--store", store, "draft").stderr


def test_gc_takes_an_age(call_json, call, store):
    call_json("rethreshold", "--store", store, "--threshold", 0.8)
    assert call_json("audit", "gc", "--store", store, "--older-than", "30d")["pruned"] == []
    assert len(call_json("audit", "gc", "--store", store, "--older-than", "0s")["pruned"]) == 1
    assert "'a week' is not a time span such as 30d" in call("audit", "gc", "--store", store, "--older-than",
                                                               "a week").stderr  # fmt: skip


def test_thresholds_are_shown_as_they_are(store):
    entry = replace(hmsa_label.list_versions(store)[0], threshold=0.9000001)
    assert dict(zip(LOG_COLUMNS, _log_row(entry), strict=True))["rule"] == "0.9000001"


def test_a_reader_that_leaves_ends_the_command_without_a_word(store):
    code = "from hmsa_label.cli.main import main; main()"
    command = [sys.executable, "-c", code, "audit", "show", "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # before a word was written
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("option", ["center", "instance"])
def test_thresholds_of_instances_are_refused_for_labels_without_any(call, store, option):
    result = call("rethreshold", "--store", store, f"--{option}-threshold", 0.5)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert f"the {option} threshold needs instances" in result.stderr
    assert "label them with a panoptic teacher" in result.stderr


def test_rethreshold_of_nothing_says_what_it_takes(call, store):
    result = call("rethreshold", "--store", store)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "say what is to change in the rule, such as --threshold 0.8" in result.stderr


def test_rethreshold_of_a_panoptic_store_shows_its_rule(call, call_json, tmp_path):
    uri = str(tmp_path / "panoptic")
    Labels().fill(uri, panoptic=True)
    made = call_json("rethreshold", "--store", uri, "--center-threshold", 0.5)
    assert (made["threshold"], made["rule"]) == (0.9, {"center_threshold": 0.5})
    assert "0.9, center threshold 0.5" in call("audit", "log", "--store", uri).stdout
    assert "instances of" in call("audit", "diff", "--store", uri, 3).stdout
    assert "rule 0.9, center threshold 0.5" in call("audit", "card", "--store", uri).stdout
    assert call_json("audit", "show", "--store", uri)["summary"]["rules"] == {"0.9, center threshold 0.5": 3}
    assert '"kept": false' in call("audit", "show", "--store", uri, "a", "--json").stdout
    assert call("audit", "show", "--store", uri, "a").stdout.count("rule: 0.9, center threshold 0.5\n") == 2


def test_show_has_a_table_of_classes_and_the_rule_in_words(call, store):
    call("rethreshold", "--store", store, "--threshold", 0.8, "--class-thresholds", "road=0.5,pole=off")
    shown = call("audit", "show", "--store", store).stdout
    assert "\nrule: 0.8, class thresholds (pole off, road 0.5)\n" in shown
    heading, *rows = shown[shown.index("\nclass ") + 1 :].splitlines()
    assert heading.split() == ["class", "pixels", "share", "images", "threshold", "kept"]
    cells = {row.split("  ")[0]: row.split() for row in rows}
    assert cells["pole"][-2:] == ["off", "0.000"]
    assert cells["road"][-2] == "0.5000"
    assert len(cells) == 19
