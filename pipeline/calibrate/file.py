"""`calibration.json`: written as a whole, read back with every value checked."""

import json
from typing import Any, TypeVar

from hmsa_label.pipeline.calibrate.records import (
    KIND,
    OFF,
    Calibration,
    ClassCalibration,
    CurvePoint,
    HeldOutClass,
    HeldOutPart,
    HeldOutReport,
    ReliabilityBin,
)
from hmsa_label.stores.files import join, open_filesystem, public_uri, read_bytes, replace_bytes
from hmsa_label.stores.format.forms import COUNT, FLAG, NUMBER, SHARE, TEXT, Each, Form, Leaf, Maybe, Record, parse_json
from hmsa_label.stores.location import Location
from hmsa_label.stores.result import Result

FILE = "calibration.json"
MAX_BYTES = 50_000_000  # a hundred times that of 65 classes

R = TypeVar("R", bound=Result)


class Named:
    """An object whose every value is of one form, whatever its name."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def fault(self, value: Any, place: str) -> str:
        if not isinstance(value, dict):
            return f"{place} must be an object with names"
        return next((text for name, entry in value.items() if (text := self.form.fault(entry, f"{place}.{name}"))), "")


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


_LEVEL = Leaf("a threshold from 0 to below 1", lambda value: _is_share(value) and value < 1)
_THRESHOLD = Leaf(
    f'a threshold from 0 to below 1, or "{OFF}"', lambda value: value == OFF or (_is_share(value) and value < 1)
)
_TARGET = Leaf("a precision from 0 to 1, or one for each class", lambda value: _is_share(value) or _are_shares(value))
_INTERVAL = dict.fromkeys(("precision", "precision_low", "precision_high", "kept_share"), Maybe(SHARE))
_POINT = Record({"threshold": _LEVEL, "kept_px": COUNT, **_INTERVAL, "found": Maybe(SHARE), "iou": Maybe(SHARE)})
_BIN = Record({
    "low": SHARE, "high": SHARE, "pixels": COUNT, "confidence": SHARE, "precision": SHARE,
    "precision_low": Maybe(SHARE), "precision_high": Maybe(SHARE),
})  # fmt: skip
_CLASS = Record({
    "pixels": COUNT, "predicted_px": COUNT, "images": COUNT, "curve": Each(_POINT), "bins": Each(_BIN),
    "ece": Maybe(SHARE), "temperature": Maybe(NUMBER), "target": Maybe(SHARE), "threshold": Maybe(_THRESHOLD),
    "reason": Maybe(TEXT),
})  # fmt: skip
_HELD_OUT = Record({
    "threshold": Maybe(_THRESHOLD), "pixels": COUNT, "kept_px": COUNT, **_INTERVAL, "target": SHARE,
    "reached": Maybe(FLAG), "sure": Maybe(FLAG),
})  # fmt: skip
_PART = Record({"name": TEXT, "images": COUNT, "classes": Named(_HELD_OUT)})
_REPORT = Record({"split_by": TEXT, "classes": Named(_HELD_OUT), "parts": Each(_PART)})
_FILE = Record({
    **dict.fromkeys(("hmsa_label", "made_at", "data", "dataset", "split", "labels", "drawn", "method"), TEXT),
    "teacher": Record({"sha256": Maybe(TEXT)}), "fold_teachers": Each(Record({"sha256": Maybe(TEXT)})),
    "stores": Each(Record()), "images": COUNT, "images_trained_on": COUNT, "confidence": SHARE, "grid": Each(_LEVEL),
    "failed": Each(Record({"key": TEXT, "reason": TEXT})), "target_precision": Maybe(_TARGET), "all": _CLASS,
    "classes": Named(_CLASS),
    "class_thresholds": Named(_THRESHOLD), "report": Maybe(_REPORT), "warnings": Each(TEXT), "page": Maybe(TEXT),
})  # fmt: skip


def read_calibration(place: Location, storage_options: dict[str, Any] | None = None) -> Calibration:
    """What `calibrate --output` wrote.

    Args:
        place: path or URL of the file `calibration.json`, or of the folder that it is in.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no calibration, or a value in it cannot be; the message names the value.
    """
    filesystem, path = open_filesystem(str(place), storage_options or {})
    if filesystem.isdir(path):
        path = f"{path.rstrip('/')}/{FILE}"
    if not filesystem.exists(path):
        raise FileNotFoundError(f"there is no calibration {public_uri(str(place))}; make one with hmsa-label calibrate")
    shown = public_uri(str(place))
    if filesystem.size(path) > MAX_BYTES:
        raise ValueError(f"{shown} is no calibration: it has more than {MAX_BYTES // 10**6} MB")
    return parse_calibration(read_bytes(filesystem, path), shown)


def parse_calibration(body: bytes | str, name: str) -> Calibration:
    """The calibration in the text of a JSON file; `name` is what messages call it.

    Raises:
        ValueError: as `read_calibration`.
    """
    try:
        document = parse_json(body)
    except ValueError as error:
        raise ValueError(f"{name} does not read as JSON: {error}") from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ValueError(f'{name} is no calibration: it lacks "kind": "{KIND}"; make one with hmsa-label calibrate')
    if fault := _FILE.fault(document, "") or _strange_class(document):
        raise ValueError(f"{name} is a badly formed calibration: {fault}")
    return _calibration(document)


def write_calibration(found: Calibration, folder: Location) -> str:
    """Writes `calibration.json` into a folder, which is made if need be; the path or URL of the file."""
    return write_text(join(str(folder), FILE), json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")


def write_text(place: str, text: str) -> str:
    """Writes a file that is there as a whole or not at all, and the folders above it; its place."""
    filesystem, path = open_filesystem(place)
    replace_bytes(filesystem, path, text.encode())
    return place


def _are_shares(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_share(entry) for entry in value.values())


def _strange_class(document: dict[str, Any]) -> str:
    strange = sorted(set(document["class_thresholds"]) - set(document["classes"]))
    return f"class_thresholds has {strange[0]!r}, which is none of its classes" if strange else ""


def _calibration(document: dict[str, Any]) -> Calibration:
    report = document["report"]
    return _made(Calibration, {
        **document,
        "all": _class(document["all"]),
        "classes": {name: _class(entry) for name, entry in document["classes"].items()},
        "report": None if report is None else _made(HeldOutReport, {
            **report,
            "classes": _held_out(report["classes"]),
            "parts": [_made(HeldOutPart, {**part, "classes": _held_out(part["classes"])}) for part in report["parts"]],
        }),
    })  # fmt: skip


def _class(entry: dict[str, Any]) -> ClassCalibration:
    curve = [_made(CurvePoint, point) for point in entry["curve"]]
    return _made(
        ClassCalibration, {**entry, "curve": curve, "bins": [_made(ReliabilityBin, part) for part in entry["bins"]]}
    )


def _held_out(classes: dict[str, Any]) -> dict[str, HeldOutClass]:
    return {name: _made(HeldOutClass, entry) for name, entry in classes.items()}


def _made(kind: type[R], values: dict[str, Any]) -> R:
    """A result of the values that it knows; later versions may write more."""
    return kind(**{name: value for name, value in values.items() if name in kind.__dataclass_fields__})
