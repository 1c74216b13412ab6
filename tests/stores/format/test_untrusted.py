"""Stores that somebody else wrote: whatever their records and rows say, they are read safely or refused by name."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.audit.history import show
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.chunks import digest_of, encode
from hmsa_label.stores.format.instances import StoredInstance, table_digest
from hmsa_label.stores.format.receipt import ImageFacts, Receipt, StoredArray, to_table
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.format.self_digest import seal
from hmsa_label.stores.manifest.table import _pixel_folders
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.tags import tag

DEEP = "[" * 100_000 + "]" * 100_000
LOST = object()

# Kind of record -> (its file, a field, a value in place of it or none at all, what the message says of it).
IDENTITY = [
    ("classes", LOST, "has no 'classes'"),
    ("classes", {"names": ["road"]}, "classes has no 'name'"),
    ("format_version", "1", "format_version must be a whole number"),
    ("uuid", "../x", "uuid must be a name"),
    ("probe", None, "probe must be an object"),
]
CLASSES = [
    ("names", ["road", "car", "a\x1b[31m", "sky", "bus"], r"classes.names\[2\] must be printable"),
    ("names", ["road"], "classes must have equally many"),
    ("names", ["road"] * 300, "classes.names must have at most 253 entries; it has 300"),
    ("colours", [[0, 0, 256]] * 5, r"classes.colours\[0\] must be a color"),
    ("raw_ids", [1, 2, 3, 4, None], r"classes.raw_ids\[4\] must be a whole number from 0 to 255"),
    ("raw_ids", [1, 1, 3, 4, 5], "classes.raw_ids repeat"),
    ("things", [2, 1], "classes.things must be ascending trainIds below 5"),
    ("things", [5], "classes.things must be ascending trainIds below 5"),
    ("ignore_index", 0, "classes.ignore_index must be 255"),
]
TAG = [
    ("version", LOST, "has no 'version'"),
    ("version", 2**63, "version must be a whole number"),
    ("version", -1, "version must be a whole number"),
    ("version", 1.5, "version must be a whole number"),
    ("version", True, "version must be a whole number"),
    ("digest", None, "digest must be a digest"),
    ("time", "yesterday", "time must be a time"),
    ("time", "2026-01-01T00:00:00", "time must be a time with its zone"),
    ("message", ["x"], "message must be text"),
]
OUTCOME = [
    ("failures", LOST, "has no 'failures'"),
    ("failures", {}, "failures must be a list"),
    ("failures", [{"key": "a"}], r"failures\[0\] has no 'reason'"),
    ("seconds", "1", "seconds must be a number"),
    ("interrupted", 0, "interrupted must be true or false"),
    ("images_labelled", -1, "images_labelled must be a whole number"),
]
RUN = [
    ("kind", LOST, "has no 'kind'"),
    ("settings", LOST, "has no 'settings'"),
    ("data", LOST, "has no 'data'"),
    ("run", "../../x", "run must be a name"),
    ("run", "other", "the record of run other"),
    ("settings", [], "settings must be an object"),
    ("settings", {"threshold": 1e300}, "settings.threshold must be a number from 0 to 1"),
    ("teacher", {"trained_on": "here"}, "teacher.trained_on must be an object"),
    ("data", "folder", "data must be an object"),
]


COMMIT = [
    ("finished", LOST, "has no 'finished'"),
    ("epoch", LOST, "has no 'epoch'"),
    ("finished", "3", "finished must be a whole number"),
    ("open_runs", ["../x"], r"open_runs\[0\] must be a name"),
    ("run", "a/b", "run must be a name"),
    ("attempt", "..", "attempt must be a name"),
    ("digest", "x", "digest must be a digest"),
    ("threshold", [], "threshold must be a number from 0 to 1"),
    ("pruned", [2**64], r"pruned\[0\] must be a whole number"),
    ("tag", {"name": "../../x"}, "tag has no 'version'"),
    ("tag", {"name": "../x", "version": 1, "digest": "a" * 64, "message": "", "time": "2026-01-01T00:00:00Z"},
     r"tag\.name must be the name of a tag"),
]  # fmt: skip


def change(path: Path, field: str, value: Any, *, sealed: bool = True) -> None:
    """Sets or drops a field of a JSON file, and seals it anew."""
    document = json.loads(path.read_text())
    document.pop("check", None)
    document[field] = value
    kept = {name: entry for name, entry in document.items() if entry is not LOST}
    path.write_text(json.dumps(seal(kept) if sealed else kept))


def attributes(path: Path, change_them: Callable[[dict[str, Any]], None]) -> None:
    """Changes the attributes of a store, and seals them anew."""
    document = json.loads(path.read_text())
    change_them(document["attributes"])
    kept = {name: value for name, value in document["attributes"].items() if name != "check" and value is not LOST}
    path.write_text(json.dumps({**document, "attributes": seal(kept)}))


@pytest.mark.parametrize(("field", "value", "said"), IDENTITY)
def test_a_badly_formed_identity_is_refused_by_name(uri: str, labels: Any, field: str, value: Any, said: str) -> None:
    labels.fill(uri, ["a"])
    attributes(Path(uri) / "zarr.json", lambda found: found.update({field: value}))
    with pytest.raises(LabelCorrupt, match=rf"zarr\.json is badly formed: .*{said}"):
        LabelStore.open(uri)
    assert [problem.kind for problem in verify(uri)] == ["metadata"]


@pytest.mark.parametrize(("field", "value", "said"), CLASSES)
def test_a_badly_formed_class_table_is_refused_by_name(
    uri: str, labels: Any, field: str, value: Any, said: str
) -> None:
    labels.fill(uri, ["a"])
    attributes(Path(uri) / "zarr.json", lambda found: found["classes"].update({field: value}))
    with pytest.raises(LabelCorrupt, match=rf"zarr\.json is badly formed: {said}"):
        LabelStore.open(uri)


@pytest.mark.parametrize("body", [b"[]", b'"x"', b'{"attributes": []}', b'{"attributes": null}', b"{}", DEEP.encode()])
def test_what_is_no_identity_is_refused(uri: str, labels: Any, body: bytes) -> None:
    labels.fill(uri, ["a"])
    (Path(uri) / "zarr.json").write_bytes(body)
    with pytest.raises(LabelCorrupt, match=r"zarr\.json"):
        LabelStore.open(uri)


@pytest.mark.parametrize(("field", "value", "said"), TAG)
def test_a_badly_formed_tag_is_refused_by_name(uri: str, labels: Any, field: str, value: Any, said: str) -> None:
    labels.fill(uri, ["a"])
    tag(uri, "paper")
    change(Path(uri) / "tags/paper.json", field, value)
    with pytest.raises(LabelCorrupt, match=rf"tags/paper\.json is badly formed: .*{said}"):
        LabelStore.open(uri, "paper")
    assert [problem.kind for problem in verify(uri)] == ["tag"]


@pytest.mark.parametrize(("field", "value", "said"), COMMIT)
def test_a_badly_formed_commit_is_refused_by_name(uri: str, labels: Any, field: str, value: Any, said: str) -> None:
    labels.fill(uri, ["a"])
    path = max((Path(uri) / "manifest/_delta_log").glob("*.json"))
    first, *others = path.read_text().splitlines()
    action = json.loads(first)
    record = {**action["commitInfo"]["hmsa_label"], field: value}
    kept = {name: entry for name, entry in record.items() if name != "check" and entry is not LOST}
    action["commitInfo"]["hmsa_label"] = seal(kept)
    path.write_text("\n".join([json.dumps(action), *others]))
    change(Path(uri) / "commits/3.json", "log_sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(LabelCorrupt, match=rf"{path.name} .*its record is badly formed: .*{said}"):
        LabelStore.open(uri)
    assert {problem.kind for problem in verify(uri)} == {"manifest"}


@pytest.mark.parametrize(("field", "value", "said"), OUTCOME)
def test_a_badly_formed_outcome_is_refused_by_name(uri: str, labels: Any, field: str, value: Any, said: str) -> None:
    run = labels.fill(uri, ["a"])
    (path,) = (Path(uri) / "runs" / run.writer.run_id).glob("*.json")
    change(path, field, value)
    with pytest.raises(LabelCorrupt, match=rf"{path.name} is badly formed: .*{said}"):
        show(uri)
    assert {problem.kind for problem in verify(uri)} == {"run"}


@pytest.mark.parametrize(("field", "value", "said"), RUN)
def test_a_badly_formed_run_is_refused_by_name(uri: str, labels: Any, field: str, value: Any, said: str) -> None:
    run = labels.fill(uri, ["a"])
    change(Path(uri) / "runs" / f"{run.writer.run_id}.json", field, value, sealed=False)
    with pytest.raises(LabelCorrupt, match=rf"{run.writer.run_id}\.json is .*{said}"):
        show(uri)
    assert [problem.kind for problem in verify(uri)] == ["run"]


@pytest.mark.parametrize("text", ["NaN", "1e999", DEEP, '"\\ud800"', "[]"])
def test_json_that_only_some_readers_take_is_refused(uri: str, labels: Any, text: str) -> None:
    labels.fill(uri, ["a"])
    (Path(uri) / "tags").mkdir()
    (Path(uri) / "tags/paper.json").write_text(f'{{"name": "paper", "message": {text}}}')
    with pytest.raises(LabelCorrupt, match=r"tags/paper\.json"):
        LabelStore.open(uri, "paper")


def test_json_that_is_nested_deeper_than_any_of_ours_is_refused_although_it_is_sealed(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    tag(uri, "paper")
    nested: Any = None
    for _ in range(40):
        nested = [nested]
    change(Path(uri) / "tags/paper.json", "later", nested)
    with pytest.raises(LabelCorrupt, match=r"tags/paper\.json does not read: it is nested more than 32 deep"):
        LabelStore.open(uri, "paper")


@pytest.mark.parametrize("name", ["x", "²", "99999999999999999999"])
def test_a_file_that_marks_no_version_as_pruned_is_named(uri: str, labels: Any, name: str) -> None:
    labels.fill(uri, ["a"])
    (Path(uri) / "pruned").mkdir()
    (Path(uri) / f"pruned/{name}.json").write_text("{}")
    assert [entry.pruned for entry in store_log(uri)] == [False]
    assert [problem.detail for problem in verify(uri)] == [f"pruned/{name}.json is no mark of a version"]


def test_a_badly_formed_mark_of_a_pruned_version_is_refused_by_name(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    labels.fill(uri, ["a"], relabel=True, teacher="b")
    gc(uri, keep_last=1, apply=True)
    (path,) = (Path(uri) / "pruned").iterdir()
    change(path, "time", 3)
    with pytest.raises(LabelCorrupt, match=rf"pruned/{path.name} is badly formed: time must be a time"):
        LabelStore.open(uri, int(path.stem))


@pytest.mark.parametrize("version", [2**63, 2**64, 10**9, -1])
def test_a_version_beyond_the_log_is_missing_at_once(uri: str, labels: Any, version: int) -> None:
    labels.fill(uri, ["a"])
    with pytest.raises(LabelMissing, match=rf"no version {version}; the newest is 3"):
        LabelStore.open(uri, version)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"thresholds": "0.5"}, "attributes.thresholds must be a list"),
        ({"thresholds": [0.5, float("1e30")]}, r"attributes.thresholds\[1\] must be a number from 0 to 1"),
        ({"thresholds": [0.9, 0.5]}, "do not ascend"),
        ({"thresholds_float32": ["0x1p99999"]}, "differ"),
    ],
)
def test_badly_formed_thresholds_of_a_segment_are_refused_by_name(
    uri: str, labels: Any, value: dict[str, Any], said: str
) -> None:
    run = labels.fill(uri, ["a"])
    path = Path(uri) / f"data/{run.segment.segment}/zarr.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "attributes": {**document["attributes"], **value}}))
    with pytest.raises(LabelCorrupt, match=rf"{run.segment.segment}/zarr\.json is .*{said}"):
        LabelStore.open(uri).read_evidence("a")


THING = StoredInstance(1, 0.5, 0.5, 1, (0, 0, 1, 1))
MANY = tuple(THING._replace(center_score=number / 2**16) for number in range(2**16 - 1))
ROWS = [
    ("segment", "../../outside", "segment holds '../../outside', which is no name"),
    ("evidence_segment", "..", "evidence_segment holds '..', which is no name"),
    ("run", "../x", "run holds '../x', which is no name"),
    ("source", "a/../../x.png", "source holds 'a/../../x.png', which leaves the data root"),
    ("height", 0, "height holds a value outside of 1 to 134217728"),
    ("width", -3, "width holds a value outside"),
    ("row", -1, "row holds a value outside"),
    ("threshold", float("nan"), "threshold holds a value outside of 0 to 1"),
    ("kept_share", float("inf"), "kept_share holds a value outside"),
    ("mean_confidence", float("nan"), "mean_confidence holds a value outside"),
    ("class_px", (1, 2), "class_px holds counts of other than 5 classes"),
    ("class_px", (1, 2, 3, 4, -5), "class_px holds a value outside"),
    ("labelled_at", "9999-12-31T00:00:00+00:00", "labelled_at holds a time beyond all years"),
    ("device", "x" * 5000, "device holds a text of 5000 bytes"),
    ("key", "a\0b", "key holds a text with a NUL"),
    ("key", "", "key holds an empty key"),
    ("rule", "{", "rule holds '{', which is no rule"),
    ("rule", "[0.5]", "rule holds '[0.5]', which is no rule: it must be an object"),
    ("rule", '{"center_threshold":7}', "which is no rule: center_threshold must be a number from 0 to 1; it is 7"),
    ("rule", "[" * 2000, "which is no rule: it is nested too deeply"),
    ("instances", (THING._replace(train_id=200),), "instances holds an instance of trainId 200, which is no class"),
    ("instances", (THING._replace(train_id=-1),), "instances holds a value outside of 0 to 252 as train_id of an inst"),
    ("instances", (THING._replace(center_score=1.5),), "instances holds a value outside of 0 to 1 as center_score"),
    (
        "instances",
        (THING._replace(confidence=float("nan")),),
        "instances holds a value outside of 0 to 1 as confidence",
    ),
    ("instances", (THING._replace(area_px=0),), "instances holds a value outside of 1 to 134217728 as area_px"),
    ("instances", (THING._replace(box=(-1, 0, 1, 1)),), "instances holds a value outside of 0 to 134217727 as x of an"),
    ("instances", (THING._replace(box=(0, 0, 1, 0)),), "instances holds a value outside of 1 to 134217728 as height"),
    ("instances", (THING._replace(area_px=None),), "instances holds an instance without a area_px"),
    ("instances", MANY, "instances holds a table of more than 65,534 instances"),
]


def append_row(run: Any, receipt: Receipt) -> None:
    """Commits a row as it is; the folders that it names are there, as a commit flushes them."""
    for folder in _pixel_folders(to_table([receipt])):
        (Path(run.uri) / folder).mkdir(parents=True, exist_ok=True)
    run.writer.append([receipt])


@pytest.mark.parametrize(("column", "value", "said"), ROWS)
def test_a_row_that_no_writer_makes_is_refused_by_name(
    uri: str, labels: Any, column: str, value: Any, said: str
) -> None:
    run = labels.begin(uri)
    receipt = run.write("a")
    append_row(run, replace(receipt, **{column: value}))
    with pytest.raises(LabelCorrupt, match=rf"manifest/part-.*\.parquet: .*{re.escape(said)}"):
        LabelStore.open(uri, "head").table()
    assert [(problem.kind, said in problem.detail) for problem in verify(uri, "head")] == [("manifest", True)]


@pytest.mark.parametrize("change", ["other", "none", "fewer"])
def test_instances_of_a_row_that_were_not_found_are_refused(uri: str, labels: Any, change: str) -> None:
    run = labels.begin(uri, panoptic=True, evidence=False)
    receipt = run.write("a")
    first, *others = receipt.instances
    tables = {"other": (first._replace(center_score=0.0), *others), "none": None, "fewer": (first,)}
    digest = table_digest((first,)) if change == "fewer" else receipt.instance_table_sha256
    run.writer.append([replace(receipt, instances=tables[change], instance_table_sha256=digest)])
    run.writer.finish()
    said = f"holds {len(receipt.instances)}, but its image has 1 instances" if change == "fewer" else "not those that"
    with pytest.raises(LabelCorrupt, match=said):
        LabelStore.open(uri).instances("a")
    assert {problem.kind for problem in verify(uri)} == {"receipt", "rule"}


def test_a_table_of_instances_cannot_grow_beyond_what_its_file_could_hold(uri: str, labels: Any) -> None:
    run = labels.begin(uri, panoptic=True)
    receipt = run.write("a")
    run.writer.append([replace(receipt, instances=(THING,) * 65_000)])  # equal entries compress to nothing
    said = r"65,000 entries of a table of instances are claimed in \d+ bytes"
    with pytest.raises(LabelCorrupt, match=said):
        LabelStore.open(uri, "head").table(["instances"])
    with pytest.raises(LabelCorrupt, match=said):
        list(LabelStore.open(uri, "head").rows.batches(["instances"]))


def test_a_rule_of_a_later_version_is_named_and_labels_are_read_all_the_same(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([replace(run.write("a"), rule='{"blur":0.2}')])
    run.writer.finish()
    np.testing.assert_array_equal(LabelStore.open(uri).read("a"), run.labels["a"])
    said = "a rule with 'blur', which this hmsa-label does not know"
    with pytest.raises(LabelCorrupt, match=said):
        rethreshold(uri, 0.5)
    assert any(problem.kind == "rule" and said in problem.detail for problem in verify(uri))


def test_pixels_outside_of_the_store_are_not_read(uri: str, labels: Any, tmp_path: Path) -> None:
    run = labels.begin(uri)
    receipt = run.write("a")
    append_row(run, replace(receipt, segment="../../outside"))
    outside = Path(uri).parent / "outside/16x24/label/c.0.0.0"
    outside.write_bytes((Path(uri) / layout.chunk_path(receipt.segment, 16, 24, "label", 0)).read_bytes())
    with pytest.raises(LabelCorrupt, match=r"'\.\./\.\./outside', which is no name"):
        LabelStore.open(uri, "head")


def test_a_file_of_the_manifest_outside_of_the_store_is_not_read(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    rows = LabelStore.open(uri).rows
    ((path, size),) = rows.files
    (Path(uri).parent / path).write_bytes((Path(uri) / "manifest" / path).read_bytes())
    with pytest.raises(LabelCorrupt, match="it lies outside of the store"):
        replace(rows, files=((f"../../{path}", size),)).table()


def test_pixels_that_are_no_class_are_refused(uri: str, labels: Any) -> None:
    run = labels.begin(uri, evidence=False)
    receipt = run.write("a")
    pixels = np.full((16, 24), 9, np.uint8)
    data = encode(pixels)
    (Path(uri) / layout.chunk_path(receipt.segment, 16, 24, "label", receipt.row)).write_bytes(data)
    array = StoredArray("label", digest_of(pixels), hashlib.sha256(data).hexdigest(), len(data))
    run.writer.append([replace(receipt, arrays=(array,))])
    run.writer.finish()
    with pytest.raises(LabelCorrupt, match=r"a: label of version 3 .*: it holds 9, which is no class"):
        LabelStore.open(uri).read("a")
    assert any("which is no class" in problem.detail for problem in verify(uri))


def test_codes_beyond_the_thresholds_are_refused(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    receipt = run.write("a")
    data = encode(np.full((16, 24), 99, np.uint8))
    (Path(uri) / layout.chunk_path(receipt.segment, 16, 24, "code", receipt.row)).write_bytes(data)
    label, top1, code = receipt.arrays
    code = replace(code, chunk_sha256=hashlib.sha256(data).hexdigest())
    run.writer.append([replace(receipt, arrays=(label, top1, code))])
    run.writer.finish()
    with pytest.raises(LabelCorrupt, match=r"a: code of version 3 .*: it holds a code of 99, but"):
        LabelStore.open(uri).read_evidence("a")


@pytest.mark.parametrize("facts", [{"mean_confidence": float("nan")}, {"source": "../a.png"}, {"key": ""}])
def test_the_writer_refuses_what_no_reader_takes(uri: str, labels: Any, drawn: Any, facts: dict[str, Any]) -> None:
    run = labels.begin(uri, evidence=False)
    known = {"key": "a", "source": "a.png", "mean_confidence": 0.5, **facts}
    with pytest.raises(ValueError, match=f"{next(iter(facts))} must be"):
        run.segment.write(ImageFacts(**known), {"label": drawn(1).label})


def test_a_run_whose_record_cannot_be_read_back_does_not_begin(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    before = sorted(Path(uri).rglob("*"))
    with pytest.raises(ValueError, match=r"settings\.threshold must be a number from 0 to 1"):
        RunWriter(uri, {"settings": {"threshold": "0.9"}})
    assert sorted(Path(uri).rglob("*")) == before


def test_bytes_of_file_names_that_are_no_text_do_not_make_a_record_unreadable(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a")])
    run.writer.finish([{"key": "b", "reason": "no such file: \udcff.png"}])
    (shown,) = show(uri).runs
    assert shown["outcomes"][0]["failures"][0]["reason"] == "no such file: \\udcff.png"
    assert verify(uri) == []


MANY = {f"class {number}": 0.5 for number in range(300)}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"class_thresholds": MANY}, "class_thresholds must have at most 253 entries; it has 300"),
        ({"class_thresholds": {"car": 1.0}}, "class_thresholds.car must be a number from 0 to below 1, or 'off'"),
        ({"class_thresholds": {"": 0.5}}, "a name in .*class_thresholds must be printable text of 1 to 200 characters"),
        ({"class_thresholds": [0.5]}, "class_thresholds must be an object with fields"),
        ({"mask": {"sha256": "../../etc/passwd", "height": 4, "width": 4}}, "mask.sha256 must be a digest of 64 hex"),
        ({"mask": {"sha256": "0" * 64, "height": 0, "width": 4}}, "mask.height must be a whole number from 1"),
        ({"mask": {"sha256": "0" * 64, "height": 4}}, "mask has no 'width'"),
        ({"border_px": [1, 2, 3]}, "border_px must be four whole numbers of px: top, right, bottom, left"),
        ({"border_px": [1, 2, 3, -4]}, "border_px must be four whole numbers of px"),
        ({"polygons": "always"}, "polygons must be 'off' or 'trust' or 'add' or 'veto' or 'seen'; it is 'always'"),
        ({"class_polygons": {"car": 1}}, "class_polygons.car must be 'off' or"),
        ({"grow_px": 17}, "grow_px must be a whole number from 0 to 16; it is 17"),
        ({"max_disagreement": -1}, "max_disagreement must be a whole number from 0 to 253; it is -1"),
        ({"margin": 1}, "margin must be a number from 0 to below 1; it is 1"),
        ({"best_by": "luck"}, "best_by must be 'mean_confidence' or 'kept_share'; it is 'luck'"),
    ],
)  # fmt: skip
def test_a_rule_that_is_none_is_refused_in_one_line(more: Any, said: str) -> None:
    with pytest.raises(LabelCorrupt, match=said) as raised:
        Rule.of(0.9, more)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"class_thresholds": MANY}, "class_thresholds must have at most 253 entries; it has 300"),
        ({"mask": {"sha256": "../../etc/passwd", "height": 4, "width": 4}}, "mask.sha256 must be a digest of 64 hex"),
    ],
)
def test_a_row_with_such_a_rule_is_refused_in_one_line(uri: str, labels: Any, more: Any, said: str) -> None:
    run = labels.begin(uri)
    run.writer.append([replace(run.write("a"), rule=json.dumps(more))])
    with pytest.raises(LabelCorrupt, match=said) as raised:
        LabelStore.open(uri, "head").rule("a")
    assert "\n" not in str(raised.value)
    assert any(re.search(said, problem.detail) for problem in verify(uri, "head"))


def test_a_rule_about_classes_that_the_store_does_not_have_is_named(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([replace(run.write("a"), rule='{"class_thresholds":{"tram":0.5}}')])
    run.writer.finish()
    said = "the rule is about 'tram', which is no class; there are road, car, person, sky, bus"
    with pytest.raises(LabelCorrupt, match=f"a: {said}"):
        LabelStore.open(uri).rule("a")
    assert any(problem.kind == "rule" and said in problem.detail for problem in verify(uri))
    np.testing.assert_array_equal(LabelStore.open(uri).read("a"), run.labels["a"])


def test_a_rule_longer_than_a_column_takes_is_refused(uri: str, labels: Any) -> None:
    long = {"class_thresholds": {"x" * 190 + f"{number:05d}": 0.123456789 for number in range(253)}}
    run = labels.begin(uri)
    run.writer.append([replace(run.write("a"), rule=json.dumps(long))])
    assert Rule.parse(*LabelStore.open(uri, "head")._values(["threshold", "rule"], 0)).class_thresholds
    run.writer.append([replace(run.write("b"), rule=json.dumps({**long, "note": "x" * 20_000}))])
    with pytest.raises(LabelCorrupt, match=r"a text of 7.* bytes; 65536 are the most"):
        LabelStore.open(uri, "head").table(["rule"])
