"""What decides which predicted pixels become labels: one value, saved with every run, version and row.

Another kind of rule is a field more of `Rule`, with a default that changes nothing, and its part in `label_of`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.evidence import label_at, level_of
from hmsa_label.stores.format.forms import SHARE, Form, Record, parse_json
from hmsa_label.stores.format.instances import StoredInstance
from hmsa_label.stores.format.layout import IGNORE_INDEX, U8


def _kind(default: Any, form: Form, *, of_instances: bool = False) -> Any:
    """A field that says more than the threshold does.

    Args:
        form: what its values must be, in records.
        of_instances: whether images need instances for it.
    """
    return field(default=default, metadata={"form": form, "of_instances": of_instances})


@dataclass(frozen=True)
class Rule:
    """Which predicted pixels become labels; all others are 255. Everything is compared as float32.

    Attributes:
        threshold: the least confidence of a pixel.
        center_threshold: the least center score of the instance that a pixel belongs to, 0..1; 0 keeps all.
        instance_threshold: the least mean confidence of that instance, 0..1; 0 keeps all.
    """

    threshold: float
    center_threshold: float = _kind(0.0, SHARE, of_instances=True)
    instance_threshold: float = _kind(0.0, SHARE, of_instances=True)

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
        try:
            more = None if text is None else parse_json(text)
        except ValueError as error:
            raise LabelCorrupt(f"a rule does not read: {error}") from None
        return cls.of(threshold, more)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Rule | None":
        """The rule in a run's settings; None if they hold no threshold."""
        threshold = settings.get("threshold")
        return None if threshold is None else cls.of(threshold, settings.get("rule"))

    @property
    def more(self) -> dict[str, Any]:
        """All but the threshold that is not at its default, JSON-able."""
        known = [(kind.name, getattr(self, kind.name), kind.default) for kind in fields(self) if kind.metadata]
        return {name: value for name, value, default in known if value != default}

    @property
    def text(self) -> str | None:
        """`more` as canonical JSON, for the manifest's column `rule`; None if only the threshold decides."""
        return json.dumps(self.more, sort_keys=True, separators=(",", ":")) if self.more else None

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a run's settings that says how labels are cut."""
        return {"threshold": self.threshold, **({"rule": self.more} if self.more else {})}

    @property
    def of_instances(self) -> list[str]:
        """What of the rule needs instances, by field."""
        return [kind.name for kind in fields(self) if kind.metadata.get("of_instances") and kind.name in self.more]

    def keeps(self, instances: Sequence[StoredInstance]) -> NDArray[np.bool_]:
        """[1 + M] bool, whether pixels without an instance (always) and of each of M instances are kept."""
        center, confidence = np.array([one[1:3] for one in instances], np.float32).reshape(-1, 2).T
        return np.r_[True, self.keeps_scores(center, confidence)]

    def keeps_scores(self, center: NDArray[np.float32], confidence: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[M] bool, whether each of M instances is kept; from their center scores and mean confidences, float32."""
        near, sure = np.float32(self.center_threshold), np.float32(self.instance_threshold)
        return np.asarray((center >= near) & (confidence >= sure))

    def label_of(
        self,
        top1: U8,
        code: U8,
        grid: Sequence[float],
        instance: NDArray[np.uint16] | None = None,
        instances: Sequence[StoredInstance] = (),
    ) -> U8:
        """[H, W] uint8 trainIds that the rule keeps of a prediction, 255 elsewhere.

        Args:
            top1: [H, W] predicted classes; code: [H, W] how many thresholds of `grid` their confidence reaches.
            instance: [H, W] instance of each pixel, 0 for none; None if the teacher gives none.

        Raises:
            ThresholdNotStored: if the threshold is not on the grid.
        """
        label = label_at(top1, code, level_of(self.threshold, grid))
        return label if instance is None else self.without_dropped(label, instance, instances)

    def without_dropped(self, label: U8, instance: NDArray[np.uint16], instances: Sequence[StoredInstance]) -> U8:
        """The same label [H, W], changed in place: 255 in instances that the rule drops."""
        if not (kept := self.keeps(instances)).all():
            label[~kept[instance]] = IGNORE_INDEX
        return label

    def __str__(self) -> str:
        more = (f"{name.replace('_', ' ')} {value}" for name, value in self.more.items())
        return ", ".join((f"{self.threshold}", *more))


MORE = Record({}, {kind.name: kind.metadata["form"] for kind in fields(Rule) if kind.metadata})
