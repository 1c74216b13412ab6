"""The guard of coverage: is a class lost between what is in the images and what the labels keep of it?

Three comparisons, each of two shares; a class is lost where the first is less than half of the second:

- *polygons*: of the pixels of its polygons, how many have the class in the label; of the polygons of all classes.
- *calibration*: of its predicted pixels, how many are kept; in the calibration, at the thresholds proposed there.
- *fine labels*: its share of the labels; its share of the fine labels that the calibration was measured on. Only of a
  class that the teacher predicts as often as that: one that it hardly predicts may just not be in these images.

A class that is not in the polygons, or is predicted nowhere, is not judged. One with few pixels or images is named as
too rare to tell, and one that the rule leaves out on purpose ("off") is left alone.

Measured on 60 drawn streets with exact labels: at thresholds from 0 to 0.99 polygons name the classes that exact labels
name, up to those within a tenth of the limit; on random subsets of 5 to 20 images with the two bounds for rare classes
5 of about 4,900 verdicts were false alarms, without them 336 of about 9,800.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hmsa_label.pipeline.calibrate.file import read_calibration
from hmsa_label.pipeline.calibrate.records import Calibration
from hmsa_label.pipeline.guard_config import GUARD_OFF, GUARD_STRICT, GUARD_WARN, GuardConfig
from hmsa_label.pipeline.records import GuardedClass
from hmsa_label.stores.audit.coverage import COLUMNS, Coverage, coverage, shares
from hmsa_label.stores.format.rule import OFF, TRUST, Rule
from hmsa_label.stores.runs.writer import RunWriter

LOST = 0.5  # of what is expected
FEW_IMAGES, FEW_PIXELS = 8, 1000  # fewer images or pixels of a class say nothing
POLYGONS, CALIBRATION, FINE_LABELS = "polygons", "calibration", "fine labels"
KEPT, LOW, FEW = "kept", "lost", "too rare to tell"
SAID = {  # what the two shares of each comparison are
    POLYGONS: ("by the share of their polygons that the labels hold", "all polygons"),
    CALIBRATION: ("by the share of their predicted pixels that is kept", "in the calibration"),
    FINE_LABELS: ("by their share of the labels", "of the fine labels"),
}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a calibration lets one expect of a class, 0..1; None where it does not tell.

    Attributes:
        kept_share: of the predicted pixels, at the thresholds that were proposed. fine_share: of the fine labels.
    """

    kept_share: float | None
    fine_share: float | None


def guarded(found: Coverage, rule: Rule, calibration: Mapping[str, Expected] | None = None) -> list[GuardedClass]:
    """Every class that can be judged, by reference and trainId."""
    left_out = {name for name in found.names if rule.class_thresholds.get(name) == OFF and rule.mode_of(name) == OFF}
    classes = [*_against_polygons(found), *_against_calibration(found, calibration or {})]
    return [one for one in classes if one.name not in left_out]


def _against_polygons(found: Coverage) -> Iterator[GuardedClass]:
    drawn = int(found.polygon_px.sum())
    if not drawn:
        return
    expected = int(found.polygon_held_px.sum()) / drawn
    for index, name in enumerate(found.names):
        if pixels := int(found.polygon_px[index]):
            share = int(found.polygon_held_px[index]) / pixels
            yield _judged(name, POLYGONS, share, expected, pixels, int(found.polygon_images[index]))


def _against_calibration(found: Coverage, calibration: Mapping[str, Expected]) -> Iterator[GuardedClass]:
    kept, labels, predicted = found.kept_share, shares(found.label_px), shares(found.predicted_px)
    for index, name in enumerate(found.names):
        one = calibration.get(name)
        pixels, images = int(found.predicted_px[index]), int(found.predicted_images[index])
        if one is None or not pixels:
            continue
        if one.kept_share:
            yield _judged(name, CALIBRATION, kept[name] or 0.0, one.kept_share, pixels, images)
        if one.fine_share and predicted[index] >= LOST * one.fine_share:
            yield _judged(name, FINE_LABELS, labels[index], one.fine_share, pixels, images)


def _judged(name: str, against: str, share: float, expected: float, pixels: int, images: int) -> GuardedClass:
    state = FEW if pixels < FEW_PIXELS or images < FEW_IMAGES else LOW if share < LOST * expected else KEPT
    return GuardedClass(
        name=name, against=against, share=share, expected=expected, pixels=pixels, images=images, state=state
    )


class ClassesLost(ValueError):
    """What `--guard strict` ends with: classes are all but lost, and no version was made."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What to do about lost classes.

    Attributes:
        mode: off, warn or strict. calibration: what was measured with the teacher on fine labels, if that is given.
    """

    mode: str = GUARD_WARN
    calibration: Calibration | None = None

    def look(self, rows: Any, names: Sequence[str], rule: Rule) -> list[GuardedClass]:
        """The classes of a version, each against all that there is.

        Args:
            rows: of the manifest, with the columns `coverage.COLUMNS`.
        """
        if self.mode == GUARD_OFF:
            return []
        expected = {} if self.calibration is None else expected_of(self.calibration, rule)
        return guarded(coverage(rows, names), rule, expected)

    def check(self, run: RunWriter, way_out: str) -> None:
        """Ends the making of a version in which classes are lost, if the guard is strict.

        Args:
            run: all of whose labels are made, and nobody sees them yet. way_out: what can be done, for the message.

        Raises:
            ClassesLost: naming the classes and both shares of each.
        """
        rule = Rule.from_settings(run.run.settings)
        if self.mode != GUARD_STRICT or rule is None:
            return
        if lines := warnings_of(self.look(run.rows(COLUMNS), run.identity.classes["names"], rule), rule):
            raise ClassesLost(f"--guard strict: {'. '.join(lines)}. {way_out}")


def guard_of(config: GuardConfig) -> Guard:
    """The guard that is asked for.

    Raises:
        FileNotFoundError: there is no such calibration. ValueError: the file is none.
    """
    wanted = config.against if config.mode != GUARD_OFF else None
    return Guard(mode=config.mode, calibration=None if wanted is None else read_calibration(wanted))


def expected_of(calibration: Calibration, rule: Rule) -> dict[str, Expected]:
    """What a calibration lets one expect of each class.

    Without thresholds of its own, for no precision was asked for, it tells what those of the rule kept there.
    """
    chosen, fine = calibration.class_thresholds, calibration.class_shares

    def kept(name: str) -> float | None:
        if chosen:
            return calibration.kept_shares.get(name)
        return calibration.kept_share_at(name, rule.class_thresholds.get(name, rule.threshold))

    return {name: Expected(kept_share=kept(name), fine_share=fine.get(name)) for name in calibration.classes}


def warnings_of(classes: list[GuardedClass], rule: Rule) -> list[str]:
    """A line for each reference that classes are lost against, with both shares and what helps.

    Args:
        rule: that of the labels; what it says of other classes stays in what helps.
    """
    lines = []
    for against, (what, others) in SAID.items():
        lost = [one for one in classes if one.against == against and one.state == LOW]
        if lost:
            listed = "; ".join(f"{one.name} {_percent(one.share)} ({others} {_percent(one.expected)})" for one in lost)
            verb = "class is" if len(lost) == 1 else "classes are"
            modes = {**rule.class_polygons, **dict.fromkeys((one.name for one in lost), TRUST)}
            trusted = shlex.quote(",".join(f"{name}={mode}" for name, mode in modes.items()))
            helps = f"--class-polygons {trusted}" if against == POLYGONS else "lower thresholds (--class-thresholds)"
            lines.append(f"{len(lost)} {verb} all but lost, {what}: {listed}. {helps} would keep more of them")
    return lines


def summary_of(classes: list[GuardedClass]) -> str | None:
    """The outcome in one line; None if nothing could be compared."""
    parts = []
    for against in SAID:
        states = {state: [one.name for one in classes if one.against == against and one.state == state]
                  for state in (KEPT, LOW, FEW)}  # fmt: skip
        if any(states.values()):
            said = [f"{len(states[KEPT])} kept"]
            said += [f"{len(names)} {state} ({', '.join(names)})" for state, names in states.items()
                     if names and state != KEPT]  # fmt: skip
            parts.append(f"{against}: {', '.join(said)}")
    return "; ".join(parts) or None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
