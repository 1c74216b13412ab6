"""What decides which predicted pixels become labels: one value, saved with every run, version and row.

Another kind of rule is a field more of `Rule`, with a default that changes nothing, and its part in `cut`.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.evidence import MAX_LEVELS, spelled
from hmsa_label.stores.format.forms import CAPTION, DIGEST, SHARE, Form, Leaf, Pairs, Record, one_of, parse_json, whole
from hmsa_label.stores.format.instances import StoredInstance
from hmsa_label.stores.format.layout import MAX_CLASSES, MAX_PIXELS

OFF, TRUST, ADD, VETO, SEEN = "off", "trust", "add", "veto", "seen"
MODES = (OFF, TRUST, ADD, VETO, SEEN)
# Those by which pixels take the class of their polygon.
TAKING = (TRUST, ADD, SEEN)
MEAN_CONFIDENCE, KEPT_SHARE = "mean_confidence", "kept_share"
MAX_GROW_PX = 16

_SIDE = whole(0, MAX_PIXELS)
_BELOW_ONE = Leaf("a number from 0 to below 1", lambda value: not SHARE.fault(value, "") and value < 1)
_CLASS_THRESHOLD = Leaf(
    "a number from 0 to below 1, or 'off'", lambda value: value == OFF or not _BELOW_ONE.fault(value, "")
)
_BORDER = Leaf(
    "four whole numbers of px: top, right, bottom, left",
    lambda value: isinstance(value, list | tuple) and len(value) == 4 and not any(_SIDE.fault(px, "") for px in value),
)
_MASK = Record({"sha256": DIGEST, "height": whole(1, MAX_PIXELS), "width": whole(1, MAX_PIXELS)})


@dataclass(frozen=True)
class MaskOf:
    """A mask of pixels that have no label, such as those of the vehicle that carries the camera.

    Attributes:
        sha256: of its [height, width] uint8 pixels, row by row; they lie once in the store, `masks/<sha256>`.
    """

    sha256: str
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.sha256[:8]} of {self.height} x {self.width}"


def _kind(default: Any, form: Form, *, of_instances: bool = False) -> Any:
    """A field that says more than the threshold does.

    Args:
        form: what its values must be, in records.
        of_instances: whether images need instances for it.
    """
    about: dict[str, Any] = {"metadata": {"form": form, "of_instances": of_instances}}
    return field(default_factory=dict, **about) if default == {} else field(default=default, **about)


@dataclass(frozen=True)
class Rule:
    """Which predicted pixels become labels; all others are 255. Everything is compared as float32. See `cut`.

    Attributes:
        threshold: the least confidence of a pixel, 0 <= threshold < 1; 0 keeps every pixel.
        center_threshold: the least center score of the instance that a pixel belongs to, 0..1; 0 keeps all.
        instance_threshold: the least mean confidence of that instance, 0..1; 0 keeps all.
        class_thresholds: by the name of the predicted class, what holds instead of `threshold`; "off" keeps none.
        margin: the least difference between the two highest probabilities, 0 <= margin < 1; 0 keeps all.
        max_disagreement: how many single predictions of the teacher may say another class; None is any number.
        border_px: (top, right, bottom, left); nothing that the teacher says nearer to an edge is kept.
        mask: nothing that the teacher says in it is kept.
        polygons: what polygons drawn by hand do: `off`; `trust`, their class counts inside them; `add`, only where
            there is no label; `veto`, a label of another class is dropped; `seen`, as `trust` in images where the
            teacher's label has their class somewhere.
        class_polygons: by the name of the polygon's class, what holds instead of `polygons`.
        grow_px: how far polygons that give labels grow into pixels without one, 0..16 px.
        best_by: `mean_confidence` or `kept_share`; images where that is below `best_from` keep nothing. None keeps all.
        class_share, best_share, share_cap: what `class_thresholds` and `best_from` were made from; labels do not
            depend on it.
    """

    threshold: float
    center_threshold: float = _kind(0.0, SHARE, of_instances=True)
    instance_threshold: float = _kind(0.0, SHARE, of_instances=True)
    class_thresholds: Mapping[str, float | str] = _kind({}, Pairs(CAPTION, _CLASS_THRESHOLD, MAX_CLASSES))
    margin: float = _kind(0.0, _BELOW_ONE)
    max_disagreement: int | None = _kind(None, whole(0, MAX_LEVELS))
    border_px: tuple[int, int, int, int] | None = _kind(None, _BORDER)
    mask: MaskOf | None = _kind(None, _MASK)  # noqa: RUF009
    polygons: str = _kind(OFF, one_of(*MODES))
    class_polygons: Mapping[str, str] = _kind({}, Pairs(CAPTION, one_of(*MODES), MAX_CLASSES))
    grow_px: int = _kind(0, whole(0, MAX_GROW_PX))
    best_by: str | None = _kind(None, one_of(MEAN_CONFIDENCE, KEPT_SHARE))
    best_from: float = _kind(0.0, SHARE)
    class_share: float | None = _kind(None, SHARE)
    best_share: float | None = _kind(None, SHARE)
    share_cap: float | None = _kind(None, SHARE)

    def __post_init__(self) -> None:
        for name in ("class_thresholds", "class_polygons"):
            object.__setattr__(self, name, dict(sorted(getattr(self, name).items())))
        if self.border_px is not None:
            object.__setattr__(self, "border_px", tuple(self.border_px))
        if isinstance(self.mask, Mapping):
            object.__setattr__(self, "mask", MaskOf(*(self.mask[name] for name in ("sha256", "height", "width"))))

    def __hash__(self) -> int:
        return hash((self.threshold, self.text))

    @classmethod
    def of(cls, threshold: float, more: Mapping[str, Any] | None) -> "Rule":
        """The rule of a threshold and what `more` gave.

        Raises:
            LabelCorrupt: if `more` is badly formed, or names a kind of rule that this version does not know.
        """
        more = more or {}
        if fault := MORE.fault(more, "rule"):
            raise LabelCorrupt(f"a rule is badly formed: {fault}")
        if unknown := sorted(set(more) - set(MORE.optional)):
            raise LabelCorrupt(
                f"the labels were made by a rule with {unknown[0]!r}, which this hmsa-label does not know"
            )
        return cls(float(threshold), **more)

    @classmethod
    def parse(cls, threshold: float, text: str | None) -> "Rule":
        """The rule of a manifest row's columns `threshold` and `rule`.

        Raises:
            LabelCorrupt: as `of`; also if the text is no JSON.
        """
        return _parsed(threshold, text)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Rule | None":
        """The rule in a run's settings; None if they hold no threshold."""
        threshold = settings.get("threshold")
        return None if threshold is None else cls.of(threshold, settings.get("rule"))

    @property
    def more(self) -> dict[str, Any]:
        """All but the threshold that is not at its default, JSON-able."""
        known = [(kind.name, getattr(self, kind.name), _default(kind)) for kind in fields(self) if kind.metadata]
        return {name: _plain(value) for name, value, default in known if value != default}

    @property
    def text(self) -> str | None:
        """`more` as canonical JSON, for the manifest's column `rule`; None if only the threshold decides."""
        return json.dumps(self.more, sort_keys=True, separators=(",", ":")) if self.more else None

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a run's settings that says how labels are cut."""
        return {"threshold": self.threshold, **({"rule": self.more} if self.more else {})}

    def fault(self, names: Collection[str]) -> str:
        """What is wrong with the rule for labels of classes of these names; empty if nothing is."""
        if fault := _BELOW_ONE.fault(self.threshold, "threshold") or MORE.fault(self.more, "rule"):
            return fault
        named = {*self.class_thresholds, *self.class_polygons}
        unknown = sorted(named - set(names))
        return f"the rule is about {unknown[0]!r}, which is no class; there are {', '.join(names)}" if unknown else ""

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Those of confidence that the rule compares with, ascending; they must be among the stored ones."""
        own = {self.threshold, *(value for value in self.class_thresholds.values() if not isinstance(value, str))}
        return tuple(sorted(value for value in own if value > 0))

    @property
    def of_instances(self) -> list[str]:
        """What of the rule needs instances, by field."""
        return [kind.name for kind in fields(self) if kind.metadata.get("of_instances") and kind.name in self.more]

    @property
    def of_whole_set(self) -> list[str]:
        """What of the rule can be settled only when all images are predicted, by field."""
        return [name for name in ("class_share", "best_share") if getattr(self, name) is not None]

    def mode_of(self, name: str) -> str:
        """What the polygons of a class do."""
        return self.class_polygons.get(name, self.polygons)

    def takes_polygons(self, names: Collection[str]) -> bool:
        """Whether pixels may take the class of a polygon of one of these classes."""
        return any(self.mode_of(name) in TAKING for name in names)

    def keeps(self, instances: Sequence[StoredInstance]) -> NDArray[np.bool_]:
        """[1 + M] bool, whether pixels without an instance (always) and of each of M instances are kept."""
        center, confidence = np.array([one[1:3] for one in instances], np.float32).reshape(-1, 2).T
        return np.r_[True, self.keeps_scores(center, confidence)]

    def keeps_scores(self, center: NDArray[np.float32], confidence: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[M] bool, whether each of M instances is kept; from their center scores and mean confidences, float32."""
        near, sure = np.float32(self.center_threshold), np.float32(self.instance_threshold)
        return np.asarray((center >= near) & (confidence >= sure))

    def __str__(self) -> str:
        own = {name: getattr(self, name) for name in self.more}
        return ", ".join((spelled(self.threshold), *(_WORDS.get(name, _words)(name, own[name]) for name in own)))


@lru_cache(maxsize=64)  # the rows of a version have one rule, or a few
def _parsed(threshold: float, text: str | None) -> Rule:
    try:
        more = None if text is None else parse_json(text)
    except ValueError as error:
        raise LabelCorrupt(f"a rule does not read: {error}") from None
    return Rule.of(threshold, more)


def _default(kind: Field[Any]) -> Any:
    return kind.default if kind.default_factory is MISSING else kind.default_factory()


def _plain(value: Any) -> Any:
    """A value of a field as JSON has it."""
    if isinstance(value, MaskOf):
        return dict(vars(value))
    return list(value) if isinstance(value, tuple) else value


def _words(name: str, value: Any) -> str:
    return f"{name.replace('_', ' ')} {spelled(value) if isinstance(value, float) else value}"


def _by_class(name: str, value: Mapping[str, Any]) -> str:
    said = [f"{of} {one if isinstance(one, str) else spelled(one)}" for of, one in value.items()]
    rest = f" and {len(said) - 4} more" if len(said) > 4 else ""
    return f"{name.replace('_', ' ')} ({', '.join(said[:4])}{rest})"


_WORDS: dict[str, Callable[[str, Any], str]] = {
    **dict.fromkeys(("class_thresholds", "class_polygons"), _by_class),
    "border_px": lambda name, value: "border {} px".format(",".join(map(str, value))),
    "grow_px": lambda name, value: f"grow {value} px",
    "best_by": lambda name, value: f"best images by {value.replace('_', ' ')}",
    "best_from": lambda name, value: f"best from {value:.6g}",  # a score, of which nobody types the digits
}
MORE = Record({}, {kind.name: kind.metadata["form"] for kind in fields(Rule) if kind.metadata})
