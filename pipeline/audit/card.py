"""The card of a label set: a Markdown page for those who train on it or pass it on."""

from typing import Any

from hmsa_label.labelers.registry import option_names
from hmsa_label.pipeline.audit.markdown import code, text
from hmsa_label.pipeline.wording import counted
from hmsa_label.stores.audit.card_facts import Card, ClassFacts

SHORT = 12  # characters of a digest that a person compares


def render_card(facts: Card) -> str:
    """A version's facts (see `card`) as Markdown."""
    return "\n".join(
        [
            f"# Labels of version {facts.version}",
            "",
            *_summary(facts),
            "",
            "## Origin",
            "",
            *_origin(facts),
            "",
            "## Classes",
            "",
            "| train_id | class | share of labeled pixels | images |",
            "|---|---|---|---|",
            *map(_class_row, facts.classes),
            "",
            "## Before use",
            "",
            *_cautions(facts),
        ]
    )


def _class_row(facts: ClassFacts) -> str:
    share = _percent(facts.share)
    return f"| {facts.train_id} | {text(facts.name)} | {share} | {facts.images} |"


def _summary(facts: Card) -> list[str]:
    summary = facts.summary
    sizes = ", ".join(f"{size} ({counted(images, 'image')})" for size, images in summary.sizes.items())
    converted = ", ".join(f"{images} {text(kind)}" for kind, images in summary.converted.items())
    return [
        f"- Content digest: {code(facts.digest)}",
        f"- Store: {code(facts.store)}, uuid {code(facts.uuid)}, {facts.format} format {facts.format_version}",
        f"- Made: {facts.time}" + (f", tagged {', '.join(facts.tags)}" if facts.tags else ""),
        f"- Images: {summary.images}; sizes: {sizes or 'none'}"
        + (f"; converted to RGB: {converted}" if converted else ""),
        f"- Pixels with a class: {_percent(summary.kept_share)}; the rest is 255 (ignored)",
        f"- Agreement with coarse labels, where there are any: {_percent(summary.coarse_agreement)}",
    ]


def _origin(facts: Card) -> list[str]:
    lines = [
        f"- Images from {text(source.get('dataset'))} at {code(source.get('root'))}, split {text(source.get('split'))}"
        for source in facts.sources
    ]
    for settings in facts.settings:
        if "imported" in settings:
            lines.append(_imported(facts, settings))
            continue
        shown = ("threshold", "rule", "teacher", "options", *option_names(), "precision")
        chosen = (f"{name} {_value(settings[name])}" for name in shown if name in settings)
        lines.append(
            f"- Labeled by {text(settings.get('model', 'a teacher'))}, weights sha256 "
            f"{code(str(settings.get('teacher_sha256'))[:SHORT] + '...')}; {', '.join(chosen)}"
            + _other_classes(settings)
        )
    for run in facts.runs:
        package = run.get("package") or {}
        trained = ((run.get("teacher") or {}).get("trained_on") or {}).get("data")
        lines.append(
            f"- Run {code(run['run'])} ({run['kind']}), hmsa-label {text(package.get('version', 'of unknown version'))}"
            + (f", teacher trained on {code(trained)}" if trained else "")
        )
    return lines


def _imported(facts: Card, settings: dict[str, Any]) -> str:
    """Where imported labels are from, and what nobody recorded of them."""
    sha256 = str(settings.get("teacher_sha256"))
    told = [(run.get("teacher") or {}).get("imported") or {} for run in facts.runs]
    about: dict[str, Any] = next((one for one in told if one.get("sha256") == sha256), {})
    made_by = f", made by {text(about['made_by'])}" if about.get("made_by") else ""
    place = code(about["labels"]) if "labels" in about else "a place that no record names"
    chosen = ", ".join(f"{name} {_value(settings[name])}" for name in ("threshold", "rule") if name in settings)
    return (
        f"- Imported from {place} ({text(about.get('format', 'unknown format'))}{made_by}), sha256 of all files "
        f"{code(sha256[:SHORT] + '...')}; {chosen}; what its teacher was trained on is not known"
    )


def _other_classes(settings: dict[str, Any]) -> str:
    """Which other teacher told the classes, if one did."""
    if not isinstance(semantics := settings.get("semantics"), dict):
        return ""
    sha256 = code(str(settings.get("semantics_sha256"))[:SHORT] + "...")
    return f"; classes by the teacher {text(semantics.get('name'))}, weights sha256 {sha256}"


def _cautions(facts: Card) -> list[str]:
    lines = [
        "- These labels were made by a network, not by people; a confident mistake looks like any other label.",
        "- They are derived from the images named above and fall under the terms of those images.",
    ]
    if facts.failed:
        names = ", ".join(f"{code(entry['key'])} ({text(entry['reason'])})" for entry in facts.failed)
        lines.append(f"- Images without a label: {names}")
    return lines


def _value(setting: object) -> str:
    if isinstance(setting, dict):
        return text(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in setting.items()))
    return text(", ".join(map(str, setting)) if isinstance(setting, (list, tuple)) else setting)


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.2f} %"
