"""The records of a store and what each must hold: the one place where stored JSON becomes values that code relies on.

FORMAT.md says what the fields mean. Fields that are not listed may hold anything.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format import self_digest
from hmsa_label.stores.format.arrays import ARRAYS, BYTES
from hmsa_label.stores.format.columns import CLASS_COUNTS
from hmsa_label.stores.format.evidence import MAX_LEVELS
from hmsa_label.stores.format.forms import (
    CAPTION,
    COUNT,
    DIGEST,
    FLAG,
    KEY,
    NAME,
    NUMBER,
    PATH,
    SHARE,
    TEXT,
    TIME,
    Each,
    Form,
    Leaf,
    Maybe,
    Record,
    one_of,
    parse_json,
    whole,
)
from hmsa_label.stores.format.instances import MAX_INSTANCES
from hmsa_label.stores.format.layout import FORMAT, IGNORE_INDEX, MAX_CLASSES, MAX_PIXELS
from hmsa_label.stores.format.rule import MORE

# A number is a version, `v12` too, and `head` is the newest progress: no tag may look like one of them.
TAG_NAME = re.compile(r"(?!v?\d+$)(?!head$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_BYTE = whole(0, 255)
_SIDE = whole(1, MAX_PIXELS)
_TAG_NAME = Leaf("the name of a tag", lambda value: isinstance(value, str) and TAG_NAME.fullmatch(value) is not None)
_COLOR = Leaf(
    "a color, three whole numbers from 0 to 255",
    lambda value: isinstance(value, list) and len(value) == 3 and not any(_BYTE.fault(part, "") for part in value),
)
_FAILURE = Record({"key": KEY, "reason": TEXT}, {"source_bytes": Maybe(COUNT), "source_sha256": Maybe(TEXT)})


class _Classes(Record):
    """A class table; its lists are equally long, and its things are classes of it."""

    def fault(self, value: Any, place: str) -> str:
        found = super().fault(value, place)
        lengths = {} if found else {name: len(value[name]) for name in ("names", "colours", "raw_ids")}
        if found or len(set(lengths.values())) > 1:
            return found or f"{place} must have equally many of {lengths}"
        if len(set(value["raw_ids"])) < len(value["raw_ids"]):
            return f"{place}.raw_ids repeat"
        things = value.get("things", [])
        if things != sorted({train_id for train_id in things if train_id < len(value["names"])}):
            return f"{place}.things must be ascending trainIds below {len(value['names'])}"
        return ""


CLASSES = _Classes(
    {
        "name": CAPTION,
        "names": Each(CAPTION, longest=MAX_CLASSES),
        "colours": Each(_COLOR),
        "raw_ids": Each(_BYTE),
        "ignore_index": one_of(IGNORE_INDEX),
    },
    {"things": Each(_BYTE)},
)
IDENTITY = Record(
    {
        "format": one_of(FORMAT),
        "format_version": COUNT,
        "uuid": NAME,
        "classes": CLASSES,
        "ignore_index": one_of(IGNORE_INDEX),
        "probe": Record(),
    }
)
TAG = Record({"name": _TAG_NAME, "version": COUNT, "digest": DIGEST, "message": TEXT, "time": TIME})
PRUNE_MARK = Record({"version": COUNT, "pruned_by": COUNT, "time": TIME})
COMMIT_MARK = Record({"version": COUNT, "log_sha256": DIGEST})
CHECKPOINT_NOTE = Record({"version": COUNT, "sha256": DIGEST})
COMMIT = Record(
    {
        "version": COUNT,
        "kind": NAME,
        "time": TIME,
        "finished": COUNT,
        "open_runs": Each(NAME),
        **dict.fromkeys(("epoch", "collected", "images"), COUNT),
        **dict.fromkeys(("parent", "restores"), Maybe(COUNT)),
        **dict.fromkeys(("finished_digest", "parent_digest", "digest"), Maybe(DIGEST)),
        **dict.fromkeys(("log_sha256", "run_sha256", "outcome_sha256"), Maybe(DIGEST)),
        **dict.fromkeys(("fingerprint", "teacher_sha256", "note", "token"), Maybe(TEXT)),
        **dict.fromkeys(("run", "attempt"), Maybe(NAME)),
        "threshold": Maybe(SHARE),
        "rule": Maybe(MORE),
        "pruned": Each(COUNT),
        "tag": Maybe(TAG),
    }
)
OUTCOME = Record(
    {
        "attempt": NAME,
        "began_at": TIME,
        "ended_at": TIME,
        "images_labelled": COUNT,
        "failures": Each(_FAILURE),
        "seconds": NUMBER,
        "interrupted": FLAG,
    }
)
_TRAINED_ON = Record(
    {}, {"data": TEXT, "split": TEXT, "labels": TEXT, "images": COUNT, "keys": Each(TEXT), "keys_sha256": TEXT}
)
_SEMANTICS = Record({"weights_sha256": TEXT}, {"weights": TEXT, "trained_on": Maybe(_TRAINED_ON)})
_IMPORTED = Record({}, dict.fromkeys(("labels", "format", "made_by", "sha256"), Maybe(TEXT)))
_TEACHER = Record(
    {},
    {
        "weights": TEXT,
        "sha256": Maybe(TEXT),
        "trained_on": Maybe(_TRAINED_ON),
        "semantics": Maybe(_SEMANTICS),
        "imported": Maybe(_IMPORTED),
    },
)
_DATA = Record({}, dict.fromkeys(("dataset", "root", "split"), Maybe(TEXT)))
RUN = Record(
    {
        "run": NAME,
        "kind": NAME,
        "fingerprint": TEXT,
        "began_at": TIME,
        "settings": Record({}, {"threshold": Maybe(SHARE), "rule": Maybe(MORE), "teacher_sha256": Maybe(TEXT)}),
        "data": _DATA,
    },
    {
        "teacher": Maybe(_TEACHER),
        "config": Maybe(Record({}, {"teacher": Maybe(Record())})),
        "package": Maybe(Record()),
        **dict.fromkeys(("host", "note"), Maybe(TEXT)),
    },
)


_INSTANCE = Record(
    {
        "train_id": whole(0, MAX_CLASSES - 1),
        **dict.fromkeys(("center_score", "confidence"), SHARE),
        "area_px": _SIDE,
        **dict.fromkeys(("x", "y"), whole(0, MAX_PIXELS - 1)),
        **dict.fromkeys(("width", "height"), _SIDE),
    }
)


INSTANCES = Each(_INSTANCE, longest=MAX_INSTANCES)


def _array_forms(*, required: bool) -> dict[str, Form]:
    """What a receipt says of arrays: digests and size of each."""
    arrays = [array for array in ARRAYS.values() if array.required == required]
    return {name: COUNT if name == array.column(BYTES) else DIGEST for array in arrays for name in array.columns}


RECEIPT = Record(
    {
        "key": KEY,
        "height": _SIDE,
        "width": _SIDE,
        **dict.fromkeys(("segment", "run"), NAME),
        **dict.fromkeys(("row", "valid_px"), COUNT),
        **_array_forms(required=True),
        "source": PATH,
        "threshold": SHARE,
        "class_px": Each(COUNT, longest=MAX_CLASSES),
        "kept_share": SHARE,
        "labelled_at": TIME,
    },
    {
        **{name: Maybe(form) for name, form in _array_forms(required=False).items()},
        **dict.fromkeys(("evidence_row", "source_bytes"), Maybe(COUNT)),
        "evidence_segment": Maybe(NAME),
        **dict.fromkeys(("source_sha256", "device", "converted", "rule"), Maybe(TEXT)),
        **dict.fromkeys((*CLASS_COUNTS[1:], "origin_px"), Maybe(Each(COUNT, longest=MAX_CLASSES))),
        "instances": Maybe(INSTANCES),
        "instance_table_sha256": Maybe(DIGEST),
        **dict.fromkeys(("mean_confidence", "coarse_agreement", "seconds"), Maybe(NUMBER)),
    },
)
SEGMENT = Record(
    {},
    {
        **dict.fromkeys(("thresholds", "margins"), Each(SHARE, longest=MAX_LEVELS)),
        **dict.fromkeys(("thresholds_float32", "margins_float32"), Each(TEXT, longest=MAX_LEVELS)),
    },
)
# The last line of an event log's part, which sums up an attempt.
STATE = Record(
    {},
    {
        **dict.fromkeys(("images_total", "images_done", "images_labelled", "images_failed", "restarts"), Maybe(COUNT)),
        **dict.fromkeys(("workers", "workers_ready", "version", "pid"), Maybe(COUNT)),
        **dict.fromkeys(("images_per_second", "seconds_left"), Maybe(NUMBER)),
        **dict.fromkeys(("began_at", "time"), Maybe(TIME)),
        **dict.fromkeys(("phase", "host", "error"), Maybe(TEXT)),
        "last_failures": Maybe(Each(_FAILURE)),
        "last_losses": Maybe(Each(Record({"worker": COUNT, "reason": TEXT, "time": TIME}))),
    },
)


def parse_sealed(body: bytes, form: Form, path: str) -> dict[str, Any]:
    """The record in a sealed file, without its seal.

    Raises:
        LabelCorrupt: naming the file, if it does not read, is not what was written, or is no such record.
    """
    record = self_digest.from_bytes(body, path)
    refuse_other(record, form, path)
    return record


def parse_record(body: bytes, form: Form, path: str) -> dict[str, Any]:
    """The record in a file without a seal.

    Raises:
        LabelCorrupt: naming the file, if it does not read or is no such record.
    """
    try:
        record: dict[str, Any] = parse_json(body)
    except ValueError as error:
        raise LabelCorrupt(f"{path} does not read: {error}") from None
    refuse_other(record, form, path)
    return record


def refuse_other(record: Mapping[str, Any], form: Form, path: str) -> None:
    """Refuses what is no such record.

    Raises:
        LabelCorrupt: naming the file and the field.
    """
    fault = form.fault(record, "")
    if fault:
        raise LabelCorrupt(f"{path} is badly formed: {fault}")


class Grids(NamedTuple):
    """What the codes of a segment count, each ascending; None where it keeps no such codes."""

    thresholds: tuple[float, ...] | None
    margins: tuple[float, ...] | None


def grids_in(body: bytes, path: str) -> Grids:
    """Thresholds and margins in a segment's `zarr.json`.

    Raises:
        LabelCorrupt: if it is damaged; each grid stands there twice, as decimals and exactly.
    """
    attributes = parse_record(body, Record({"attributes": SEGMENT}), path)["attributes"]
    return Grids(*(_grid_in(attributes, name, path) for name in Grids._fields))


def _grid_in(attributes: Mapping[str, Any], name: str, path: str) -> tuple[float, ...] | None:
    values, twice = tuple(attributes.get(name, ())), f"{name}_float32"
    exact = [float(np.float32(value)).hex() for value in values]
    both = (name in attributes) == (twice in attributes)
    if not both or exact != attributes.get(twice, []) or list(values) != sorted(set(values)):
        raise LabelCorrupt(f"{path} is damaged: {name} and {twice} differ, or do not ascend")
    return values if name in attributes else None
