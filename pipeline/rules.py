"""What is asked of a rule: fields of `stores/format/rule.py` that are given, checked, and put over another rule."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from hmsa_label.pipeline import rule_values as values
from hmsa_label.pipeline.rule_presets import PRESETS
from hmsa_label.pipeline.rule_values import OFF
from hmsa_label.stores.credentials import refuse_in_url
from hmsa_label.stores.location import Location, keep_as_text

if TYPE_CHECKING:  # a rule loads NumPy, and settings do not
    from hmsa_label.stores.format.rule import MaskOf, Rule

DEFAULT_THRESHOLD = 0.9
SHARE_CAP = 0.9
SCORES = ("mean_confidence", "kept_share")
MAX_GROW_PX, MAX_DISAGREEMENT = 16, 253
# Fields that need all images before they decide anything.
_OF_WHOLE_SET = ("class_share", "share_cap", "best_share", "best_by")

Off = Literal["off"]


@dataclass(frozen=True, kw_only=True)
class RuleConfig:
    """Which pixels shall become labels. What is None is not given: a run has 0.9 then, a rethreshold what there is.

    Attributes:
        preset: a named rule to begin with instead of the one that is there; the other fields go over it.
        threshold: least confidence of a pixel, 0 <= t < 1; 0 keeps every pixel.
        class_thresholds: those of single classes, by name: a number, or `off` to keep no pixel of the class. A mapping,
            a text such as `road=0.9,pole=off`, or path or URL of a JSON file (of `hmsa-label calibrate`, or a plain
            object), which is read on construction. `off` alone: none.
        margin: least distance of the two highest probabilities, 0..1; 0 asks for none.
        max_disagreement: most views of the teacher that may see another class; `off`: any number.
        center_threshold, instance_threshold: least center score and least mean confidence of a pixel's instance, 0..1.
        border_px: pixels nearer to an edge than this are left out: top, right, bottom, left, or one for all; `off`.
        ego_mask: path or URL of a PNG of the images' size; pixels that are not 0 there are left out. `off`: none.
        polygons: what polygons say about labels: `off`, `trust`, `add`, `veto` or `seen`.
        class_polygons: the same for polygons of single classes, by name; a mapping, `truck=seen,bus=seen`, or `off`.
        grow_px: polygons fill what is left unlabeled up to this distance, 0..16 pixels.
        class_share: keep this share of each class's predicted pixels, the surest ones (CBST, arXiv 1810.07911); `off`.
        share_cap: no class threshold that follows from it is above this.
        best_share: keep this share of the images, the best ones by `best_by`: `mean_confidence` or `kept_share`; `off`.

    Raises:
        ValueError: a value is out of its bounds, or does not go with another. FileNotFoundError: no such file.
    """

    preset: str | None = None
    threshold: float | None = None
    class_thresholds: Mapping[str, float | str] | Location | None = None
    margin: float | None = None
    max_disagreement: int | Off | None = None
    center_threshold: float | None = None
    instance_threshold: float | None = None
    border_px: Sequence[int] | int | str | None = None
    ego_mask: Location | None = None
    polygons: str | None = None
    class_polygons: Mapping[str, str] | str | None = None
    grow_px: int | None = None
    class_share: float | Off | None = None
    share_cap: float | None = None
    best_share: float | Off | None = None
    best_by: str | None = None

    def __post_init__(self) -> None:
        keep_as_text(self, "ego_mask")
        for name, read in _READ.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, read(_option(name), value))
        needs = {} if self.preset is None else PRESETS[self.preset].needs
        for name, why in needs.items():
            if getattr(self, name) is None:
                raise ValueError(f"the preset {self.preset} needs {_option(name)}, {why}")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is given."""
        return all(getattr(self, field.name) is None for field in fields(self))

    def over(self, base: "Rule", mask: "MaskOf | None" = None) -> "Rule":
        """The rule that is asked for, where another one is there.

        Args:
            mask: what a rule says of the file `ego_mask`; `data/ego_mask.py` reads it.

        Raises:
            ValueError: a value is of no use without another, or against it.
        """
        assert mask is not None or self.ego_mask in (None, OFF), "read the mask first"
        start = type(base)(DEFAULT_THRESHOLD)
        rule = replace(base if self.preset is None else start, **_as_in_rule(self._asked(), mask))
        rule = _with_class_share(rule, base if self.preset is None else start, self._asked())
        rule = _with_best_images(rule, self._asked())
        if rule.grow_px and not {"trust", "add", "seen"} & set(_modes(rule)):
            if "grow_px" not in self._asked():
                return replace(rule, grow_px=0)  # of the rule that was there, as its polygons are gone
            raise ValueError("--grow-px lets polygons grow, and none gives labels; say with --polygons which do")
        return rule

    def _asked(self) -> dict[str, Any]:
        """What is given, and what the preset says of the rest."""
        preset = RuleConfig(**PRESETS[self.preset].rule) if self.preset is not None else self
        pairs = ((field.name, getattr(self, field.name), getattr(preset, field.name)) for field in fields(self))
        asked = {name: named if own is None else own for name, own, named in pairs if name != "preset"}
        return {name: value for name, value in asked.items() if value is not None}


def takes_polygons(rule: "Rule") -> bool:
    """Whether polygons have a say in the labels of a rule."""
    return any(mode != OFF for mode in _modes(rule))


def _modes(rule: "Rule") -> tuple[str, ...]:
    return (rule.polygons, *rule.class_polygons.values())


def refuse_unknown_classes(rule: "Rule", names: Collection[str]) -> None:
    """Refuses a rule about classes that there are not.

    Raises:
        ValueError: naming the class, and the nearest one or all.
    """
    for option, classes in (("--class-thresholds", rule.class_thresholds), ("--class-polygons", rule.class_polygons)):
        for name in classes:
            if name not in names:
                near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
                raise ValueError(f"{option}: there is no class {name!r}; {hint}")


def _as_in_rule(asked: Mapping[str, Any], mask: "MaskOf | None") -> dict[str, Any]:
    """Fields of a rule that are its own values."""
    found = {name: value for name, value in asked.items() if name not in ("ego_mask", *_OF_WHOLE_SET)}
    if found.get("max_disagreement") == OFF:
        found["max_disagreement"] = None
    if "border_px" in found and not any(found["border_px"]):
        found["border_px"] = None
    return {**found, **({"mask": mask} if "ego_mask" in asked else {})}


def _with_class_share(rule: "Rule", base: "Rule", asked: Mapping[str, Any]) -> "Rule":
    """The rule with the share of classes that is asked for; the thresholds that this leads to are chosen later.

    Raises:
        ValueError: thresholds are given beside it, or its cap without it.
    """
    share = asked.get("class_share")
    own = [name for name in ("threshold", "class_thresholds") if name in asked]
    if share in (None, OFF):
        if "share_cap" in asked and (base.class_share is None or share == OFF or own):
            raise ValueError("--share-cap is the highest threshold that --class-share may choose; give that too")
        if "share_cap" in asked:
            return replace(rule, share_cap=asked["share_cap"], class_thresholds={})
        if base.class_share is None or (share is None and not own):
            return rule
        return replace(rule, class_share=None, share_cap=None, class_thresholds=asked.get("class_thresholds", {}))
    if own:
        raise ValueError(
            f"--class-share chooses the threshold of each class, none above --share-cap; leave {_option(own[0])} away"
        )
    cap = asked.get("share_cap", base.share_cap or SHARE_CAP)
    return replace(rule, class_share=share, share_cap=cap, class_thresholds={})


def _with_best_images(rule: "Rule", asked: Mapping[str, Any]) -> "Rule":
    """The rule with the share of images that is asked for; the score that this leads to is found later.

    Raises:
        ValueError: there is an order of images, and no share of them.
    """
    share = asked.get("best_share", rule.best_share)
    if share in (None, OFF):
        if "best_by" in asked:
            raise ValueError("--best-by says which images are the best ones for --best-share; give that too")
        return replace(rule, best_share=None, best_by=None, best_from=0.0) if share == OFF else rule
    if not {"best_share", "best_by"} & set(asked):
        return rule
    by = asked.get("best_by", rule.best_by or SCORES[0])
    return replace(rule, best_share=share, best_by=by, best_from=0.0)


def _option(field: str) -> str:
    return "--border" if field == "border_px" else f"--{field.replace('_', '-')}"


def _one_of(allowed: Collection[str]) -> Any:
    def read(option: str, value: object) -> str:
        if value not in allowed:
            near = difflib.get_close_matches(str(value), sorted(allowed), n=1)
            raise ValueError(
                f"{option} must be one of {', '.join(allowed)}; got {value!r:.60}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
        return str(value)

    return read


def _share(option: str, value: object) -> float:
    return values.number(option, value, 0, 1)


def _below_one(option: str, value: object) -> float:
    return values.number(option, value, 0, 1, high_too=False)


def _share_or_off(option: str, value: object) -> float | str:
    return OFF if values.is_off(value) else values.number(option, value, 0, 1, low_too=False)


def _views_or_off(option: str, value: object) -> int | str:
    return OFF if values.is_off(value) else values.whole_number(option, value, 0, MAX_DISAGREEMENT)


def _mask(option: str, value: object) -> str:
    if (not isinstance(value, str) and value is not False) or value == "":
        raise ValueError(f"{option} takes the path or URL of a PNG file; got {value!r:.60}")
    if values.is_off(value):
        return OFF
    refuse_in_url(str(value))
    return str(value)


_READ = {
    "preset": _one_of(PRESETS),
    "threshold": _below_one,
    "class_thresholds": values.class_thresholds,
    "margin": _below_one,
    "max_disagreement": _views_or_off,
    "center_threshold": _share,
    "instance_threshold": _share,
    "border_px": values.border,
    "ego_mask": _mask,
    "polygons": values.polygon_mode,
    "class_polygons": values.class_polygons,
    "grow_px": lambda option, value: values.whole_number(option, value, 0, MAX_GROW_PX),
    "class_share": _share_or_off,
    "share_cap": lambda option, value: values.number(option, value, 0, 1, low_too=False, high_too=False),
    "best_share": _share_or_off,
    "best_by": _one_of(SCORES),
}
