"""Facts for a data set card: what a version holds, who made it, from what, and what to know before using it."""

from dataclasses import dataclass
from typing import Any

from hmsa_label.stores.audit.history import VersionFacts, version_facts
from hmsa_label.stores.audit.summary import Summary
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore


@dataclass(frozen=True, kw_only=True)
class ClassFacts(Result):
    """A class in a version.

    Attributes:
        share: of the labeled pixels, 0..1. images: that have it.
        kept_share: of the pixels that are predicted as it, what the rule keeps, 0..1; None if there are none.
        polygon_agreement, polygon_held: as in `Summary`; None without polygons of the class.
    """

    train_id: int
    name: str
    colour: list[int]
    pixels: int
    share: float
    images: int
    kept_share: float | None = None
    polygon_agreement: float | None = None
    polygon_held: float | None = None


@dataclass(frozen=True, kw_only=True)
class Card(VersionFacts):
    """What those who train on a version should know.

    Attributes:
        format, format_version: of the store. classes: in trainId order.
        settings: one entry for each distinct set of settings that labels were made with.
        sources: distinct data of the runs. failed: images that still have no label, by key.
    """

    format: str = "hmsa-label store"
    format_version: int
    classes: list[ClassFacts]
    settings: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    failed: list[dict[str, Any]]

    @property
    def is_imported(self) -> bool:
        """Whether labels were made elsewhere, as far as the runs say."""
        return any("imported" in settings for settings in self.settings)


def card_facts(uri: str, version: int | str | None = None, *, storage_options: dict[str, Any] | None = None) -> Card:
    """The facts of a version's card.

    Raises:
        LabelMissing: if there is no such version or tag.
    """
    store = LabelStore.open(uri, version, storage_options=storage_options)
    facts = version_facts(store)
    runs = facts["runs"]
    failures = {entry["key"]: entry for run in runs for outcome in run["outcomes"] for entry in outcome["failures"]}
    return Card(
        **facts,
        format_version=store.identity.format_version,
        classes=_classes(store.classes, facts["summary"]),
        settings=_distinct(run.get("settings") for run in runs),
        sources=_distinct(run.get("data") for run in runs),
        failed=[failures[key] for key in sorted(failures) if key not in store],
    )


def _classes(classes: dict[str, Any], summary: Summary) -> list[ClassFacts]:
    return [
        ClassFacts(
            train_id=train_id,
            name=name,
            colour=colour,
            pixels=summary.class_px[name],
            share=summary.class_share[name],
            images=summary.images_with_class[name],
            kept_share=summary.class_kept_share[name],
            polygon_agreement=(summary.class_polygon_agreement or {}).get(name),
            polygon_held=(summary.class_polygon_held or {}).get(name),
        )
        for train_id, (name, colour) in enumerate(zip(classes["names"], classes["colours"], strict=True))
    ]


def _distinct(values: Any) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if value and value not in kept:
            kept.append(value)
    return kept
