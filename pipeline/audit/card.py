"""The card of a label set: a Markdown page for those who train on it or pass it on."""

from collections.abc import Iterator
from typing import Any

from hmsa_label.labelers.registry import option_names
from hmsa_label.pipeline.audit.markdown import code, text
from hmsa_label.pipeline.rule_names import rule_text
from hmsa_label.pipeline.wording import counted
from hmsa_label.stores.audit.card_facts import Card
from hmsa_label.stores.audit.summary import Summary
from hmsa_label.stores.format.evidence import spelled
from hmsa_label.stores.format.origin import GROWN, POLYGON
from hmsa_label.stores.format.origin import NAMES as ORIGINS
from hmsa_label.stores.format.rule import Rule

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
            *_classes(facts),
            "",
            "## Before use",
            "",
            *_cautions(facts),
        ]
    )


def _classes(facts: Card) -> Iterator[str]:
    """The table of classes: what is in the labels, and what the rule and the polygons leave of each."""
    rule = Rule.of(facts.threshold, facts.rule) if facts.threshold is not None else None
    by_class = {} if rule is None else rule.class_thresholds
    drawn = facts.summary.class_polygon_agreement is not None
    columns = ["train_id", "class", "share of labeled pixels", "images", "predicted pixels kept"]
    columns += ["threshold"] * bool(by_class) + ["polygons: agreement", "in the label"] * drawn
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for one in facts.classes:
        cells = [one.train_id, text(one.name), _percent(one.share), one.images, _share(one.kept_share)]
        if rule is not None and by_class:
            threshold = by_class.get(one.name, rule.threshold)
            cells.append(threshold if isinstance(threshold, str) else spelled(threshold))
        cells += [_share(one.polygon_agreement), _share(one.polygon_held)] * drawn
        yield f"| {' | '.join(map(str, cells))} |"


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
        f"- Rule: {text(rule_text(facts.threshold, facts.rule) or 'not known')}",
        f"- Pixels with a class: {_percent(summary.kept_share)}; the rest is 255 (ignored)",
        f"- Who said so: {_origins(summary)}",
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
        shown = ("teacher", "options", *option_names(), "precision")
        rule = _rule_in(settings)
        chosen = [] if rule is None else [rule]
        chosen += [f"{name} {_value(settings[name])}" for name in shown if name in settings]
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
    chosen = _rule_in(settings) or "rule not known"
    return (
        f"- Imported from {place} ({text(about.get('format', 'unknown format'))}{made_by}), sha256 of all files "
        f"{code(sha256[:SHORT] + '...')}; {chosen}; what its teacher was trained on is not known"
    )


def _rule_in(settings: dict[str, Any]) -> str | None:
    """What decided in a run which pixels are labeled; None if nobody knows."""
    more = settings.get("rule")
    told = rule_text(settings.get("threshold"), more)
    return told and f"{'rule' if more else 'threshold'} {text(told)}"


def _other_classes(settings: dict[str, Any]) -> str:
    """Which other teacher told the classes, if one did."""
    if not isinstance(semantics := settings.get("semantics"), dict):
        return ""
    sha256 = code(str(settings.get("semantics_sha256"))[:SHORT] + "...")
    return f"; classes by the teacher {text(semantics.get('name'))}, weights sha256 {sha256}"


def _who_made(facts: Card) -> str:
    if facts.is_imported:
        return (
            "- These labels were made elsewhere and imported; nothing here tells how, but for what was stated of them."
        )
    drawn = sum(facts.summary.origin_share.get(ORIGINS[origin], 0.0) for origin in (POLYGON, GROWN))
    rest = f" ({_percent(drawn)} follow polygons drawn by hand)" if drawn else ""
    return (
        f"- These labels were made by a network, not by people{rest}; a confident mistake looks like any other label."
    )


def _cautions(facts: Card) -> list[str]:
    lines = [
        _who_made(facts),
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


def _origins(summary: Summary) -> str:
    return ", ".join(f"{name} {_percent(share)}" for name, share in summary.origin_share.items() if share) or "nobody"


def _share(share: float | None) -> str:
    """A cell; empty where there is nothing to divide by."""
    return "" if share is None else _percent(share)


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.2f} %"
