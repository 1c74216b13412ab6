"""Facts for a data set card: what a version holds, who made it, from what, and what to know before using it."""

from typing import Any

from hmsa_label.stores.audit.history import show_version
from hmsa_label.stores.versions.label_store import LabelStore


def card_facts(
    uri: str, version: int | str | None = None, *, storage_options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """JSON-able facts of a version: what `show_version` says, and more.

    Keys beside those of `show_version`: classes (list of {train_id, name, colour, pixels, share, images}), format,
    format_version, settings (one entry per distinct set of settings), sources (distinct `data` of the runs), failed
    (list of {key, reason} of images that still have no label).
    """
    store = LabelStore.open(uri, version, storage_options=storage_options)
    facts = show_version(store)
    runs, summary = facts["runs"], facts["summary"]
    failures = {entry["key"]: entry for run in runs for outcome in run["outcomes"] for entry in outcome["failures"]}
    return {
        **facts,
        "format": "hmsa-label store",
        "format_version": store.identity.format_version,
        "classes": _classes(store.classes, summary),
        "settings": _distinct(run.get("settings") for run in runs),
        "sources": _distinct(run.get("data") for run in runs),
        "failed": [failures[key] for key in sorted(failures) if key not in store],
    }


def _classes(classes: dict[str, Any], summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "train_id": train_id,
            "name": name,
            "colour": colour,
            "pixels": summary["class_px"][name],
            "share": summary["class_share"][name],
            "images": summary["images_with_class"][name],
        }
        for train_id, (name, colour) in enumerate(zip(classes["names"], classes["colours"], strict=True))
    ]


def _distinct(values: Any) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if value and value not in kept:
            kept.append(value)
    return kept
