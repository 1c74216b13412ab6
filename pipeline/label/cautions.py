"""What a run should be warned of: a teacher that does not suit the data, and labels that are of little use."""

from collections import Counter
from typing import Any

from hmsa_label.pipeline.engine.events import Event, ImageLabeled
from hmsa_label.pipeline.label.guard import Guard, warnings_of
from hmsa_label.pipeline.rule_names import rule_phrase
from hmsa_label.stores.audit.coverage import COLUMNS
from hmsa_label.stores.audit.summary import Summary, summarize
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.label_store import LabelStore

LITTLE = 0.05  # share of the pixels below which a label set is of no use to anybody
EARLY_IMAGES = 20
LOW = 0.5
MOST = 0.5  # share of the pixels that border or mask must leave, not to be what is wrong


class LittleKept:
    """Looks at the first images of a run, so that nobody learns of a useless threshold after the last one."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._shares: list[float] = []

    def __call__(self, event: Event) -> str | None:
        """A warning once enough images are labeled and next to nothing of them was kept."""
        if not isinstance(event, ImageLabeled) or len(self._shares) >= EARLY_IMAGES:
            return None
        self._shares.append(event.kept_share)
        mean = sum(self._shares) / len(self._shares)
        if len(self._shares) < EARLY_IMAGES or mean >= LITTLE:
            return None
        said = rule_phrase(self._rule.threshold, self._rule.more)
        return (
            f"the teacher keeps {_percent(mean)} of the pixels of the first {EARLY_IMAGES} images {said}; press Ctrl-C "
            "and look at one of them with 'hmsa-label explain'"
        )


def warnings_of_teacher(teacher: dict[str, Any]) -> list[str]:
    """Warnings that can be told before the first image.

    Args:
        teacher: a worker's info.
    """
    other = _other_classes(teacher)
    return [*([other] if other else []), *teacher.get("warnings", ())]


def classes_absent(summary: Summary) -> list[str]:
    """Names of the teacher's classes without a pixel, in the figures of a version."""
    return [name for name, pixels in summary.class_px.items() if not pixels]


def warnings_of_version(store: LabelStore, summary: Summary, rule: Rule) -> list[str]:
    """Warnings that the figures of a whole version give rise to."""
    absent, classes, warnings = classes_absent(summary), len(summary.class_px), []
    if summary.kept_share is not None and summary.kept_share < LITTLE:
        warnings.append(_little(store, summary.kept_share, rule))
    if 0 < len(absent) < classes:
        warnings.append(
            f"{len(absent)} of the teacher's {classes} classes have no pixel in version {store.version}: "
            f"{', '.join(absent)}; students cannot learn them from these labels (unless lower --class-thresholds of "
            "train-student bring some)"
        )
    return warnings


def figures_of(store: LabelStore, rule: Rule, guard: Guard | None) -> tuple[dict[str, Any], list[str]]:
    """Fields of a summary that tell of the labels of a version, and what to warn of.

    Args:
        guard: None if the version is not to be warned of.
    """
    summary = summarize(store)
    classes = [] if guard is None else guard.look(store.table(COLUMNS), store.classes["names"], rule)
    figures = {"kept_share": summary.kept_share, "classes_absent": classes_absent(summary), "guard": classes}
    warnings = [] if guard is None else [*warnings_of_version(store, summary, rule), *warnings_of(classes, rule)]
    return figures, warnings


def _little(store: LabelStore, kept_share: float, rule: Rule) -> str:
    kept = f"the teacher kept {_percent(kept_share)} of the pixels {rule_phrase(rule.threshold, rule.more)}"
    if shut := _shut_out(store, rule):
        return f"{kept}; {shut}"
    low = rule.threshold <= LOW  # then something else of the rule leaves so little
    more, how = ("every pixel", "--preset no-threshold") if low else ("a lower threshold", f"--threshold {LOW}")
    return (
        f"{kept}; look at one image with 'hmsa-label explain' and check --weights and the options of the teacher; "
        f"{more} needs no teacher: 'hmsa-label rethreshold --store {store.uri} {how}'"
    )


def _shut_out(store: LabelStore, rule: Rule) -> str:
    """What of a rule leaves out most pixels whatever the teacher says of them; empty if nothing does."""
    way_out = f"'hmsa-label rethreshold --store {store.uri}"
    if rule.border_px is not None:
        sizes = Counter((row["height"], row["width"]) for row in store.table(["height", "width"]).to_pylist())
        (height, width), (top, right, bottom, left) = sizes.most_common(1)[0][0], rule.border_px
        share = max(0, height - top - bottom) * max(0, width - left - right) / (height * width)
        if share < MOST:
            return (
                f"--border {','.join(map(str, rule.border_px))} leaves {_percent(share)} of an image of {height} x "
                f"{width} pixels; give a smaller one, or {way_out} --border off'"
            )
    if rule.mask is not None and (share := float((store.mask(rule.mask) == 0).mean())) < MOST:
        return f"the --ego-mask leaves {_percent(share)} of an image; give another one, or {way_out} --ego-mask off'"
    return ""


def _other_classes(teacher: dict[str, Any]) -> str | None:
    difference = teacher.get("class_difference")
    return difference and (
        f"{difference}; the labels get the teacher's classes, and train only students whose fine labels have these "
        "(is --dataset right, and are these the --weights?)"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
