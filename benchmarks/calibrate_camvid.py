"""Whether thresholds that were chosen on one half of a drive reach their precision on the other half.

Counts the evidence of two stores: of the validation split, with fine labels, and of a split with coarse polygons.

    hmsa-label run --data camvid --split val --weights teacher.safetensors --scales 0.5,1.0 --store val
    hmsa-label run --data camvid --split train_extra --weights teacher.safetensors --scales 0.5,1.0 --store extra
    python benchmarks/calibrate_camvid.py --data camvid --store val --other-store extra \
        --output benchmarks/results/calibrate_camvid.md
"""

import argparse
import time
from dataclasses import replace

import numpy as np
from results_page import markdown, page, publish

from hmsa_label import CalibrateConfig, Calibration, DataConfig, HeldOutPart, calibrate
from hmsa_label.pipeline.calibrate.bootstrap import Precision
from hmsa_label.pipeline.calibrate.choice import choose
from hmsa_label.pipeline.calibrate.curves import Measured
from hmsa_label.pipeline.calibrate.held_out import POINT, Drawing
from hmsa_label.pipeline.calibrate.predictors import Assigned, count_all, open_predictors
from hmsa_label.pipeline.calibrate.units import Units
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.scores import labeled_images
from hmsa_label.stores.images.open import open_images

TARGETS = (0.90, 0.95, 0.98)
ENOUGH_PX = 20_000
RULES = ("estimate", "lower end")


def held_out_table(found: dict[float, Calibration], part: int) -> str:
    """The thresholds of one half, from the other one, at all targets."""
    names = [name for name, one in found[TARGETS[0]].classes.items() if one.pixels or one.predicted_px]
    columns = ["class", "labeled px there", *(text for target in TARGETS for text in (f"{target:g}", "reaches"))]
    rows = []
    for name in names:
        cells = []
        for target in TARGETS:
            one = part_of(found[target], part).classes[name]
            if one.precision is None:
                cells += [str(one.threshold), ""]
                continue
            span = "" if one.precision_low is None else f" ({one.precision_low:.3f} to {one.precision_high:.3f})"
            verdict = ("" if one.reached else " **missed**") + ("" if one.sure else " ?")
            cells += [f"{one.threshold:g}", f"{one.precision:.3f}{span}{verdict}"]
        pixels = part_of(found[TARGETS[0]], part).classes[name].pixels
        rows.append([name, f"{pixels:,}", *cells])
    return markdown(columns, rows)


def part_of(found: Calibration, number: int) -> HeldOutPart:
    assert found.report is not None
    return found.report.parts[number]


def judged(found: dict[float, Calibration]) -> tuple[int, int, int]:
    """(thresholds on halves that hold enough of the class, reached, with a wide interval)."""
    held = [
        one
        for calibration in found.values()
        for number in range(2)
        for one in part_of(calibration, number).classes.values()
        if one.precision is not None and one.pixels >= ENOUGH_PX
    ]
    return len(held), sum(bool(one.reached) for one in held), sum(not one.sure for one in held)


def counts_of(config: CalibrateConfig) -> Measured:
    source = open_images(config.data.dataset, config.data.root)
    classes = classes_of(source)
    (predictor,) = open_predictors(config, classes)
    refs = labeled_images(source, config.data.split, config.labels)
    assigned = [Assigned(ref=ref, by=predictor) for ref in refs]
    return Measured.of(count_all(assigned, source, classes, lambda done, total: None)[0])


def one_way(measured: Measured, units: np.ndarray, here: np.ndarray, rule: str) -> tuple[int, int, float]:
    """(thresholds, missed, pixels kept in millions) chosen on the images that are not `here`, at all targets."""
    count = int(units.max()) + 1
    drawing = Drawing(units=Units(of_image=units, count=count, text=""), resamples=2000, confidence=0.95)
    resamples, cases, missed, kept = drawing.over(~here), 0, 0, 0
    for train_id in range(len(measured.counts.names)):
        if measured.counts.labeled[here, train_id].sum() < ENOUGH_PX:
            continue
        whole = measured.precision(resamples, train_id, ~here)
        stored = Precision(**{name: values[1:] for name, values in vars(whole).items()})
        stored = stored if rule == "lower end" else replace(stored, low=stored.value)
        for target in TARGETS:
            value, _ = choose(measured.thresholds[1:], stored, target, int(whole.kept_px[0]))
            if isinstance(value, str):
                continue
            place = measured.thresholds.index(value)
            pixels = int(measured.kept[here, train_id, place].sum())
            if not pixels:
                continue
            precision = measured.right[here, train_id, place].sum() / pixels
            cases, missed, kept = cases + 1, missed + (precision < target - POINT), kept + pixels
    return cases, missed, kept / 1e6


def rules_table(measured: Measured) -> str:
    """Both rules under several ways of halving; both halves in turn."""
    number = np.argsort(np.argsort(measured.counts.keys))
    ways = {f"pieces of {px} frames in turn": number // px for px in (5, 7, 10, 13)}
    rows = []
    for name, units in ways.items():
        rows.append([name, *_both(measured, units, units % 2 == 1)])
    pieces = number // 10
    rows.append(["every other frame", *_both(measured, pieces, number % 2 == 1)])
    rows.append(["first and second half", *_both(measured, pieces, number >= len(number) // 2)])
    return markdown(["halves", *(f"{rule}: {text}" for rule in RULES for text in ("missed", "million px kept"))], rows)


def _both(measured: Measured, units: np.ndarray, half: np.ndarray) -> list[str]:
    cells = []
    for rule in RULES:
        there, back = (one_way(measured, units, here, rule) for here in (half, ~half))
        cells += [f"{there[1] + back[1]} of {there[0] + back[0]}", f"{there[2] + back[2]:.1f}"]
    return cells


def elsewhere_table(found: dict[float, Calibration], other: Calibration) -> str:
    """Thresholds of the validation drive on other images, inside polygons."""
    columns = ["class", *(text for target in TARGETS for text in (f"{target:g}", "inside polygons", "kept"))]
    rows = []
    for name, one in found[TARGETS[0]].classes.items():
        if not one.predicted_px:
            continue
        cells = []
        for target in TARGETS:
            value = found[target].class_thresholds[name]
            curve = {point.threshold: point for point in other.classes[name].curve}
            point = None if isinstance(value, str) else curve[value]
            if point is None or point.precision is None:
                cells += [f"{value:g}" if isinstance(value, float) else value, "", ""]
                continue
            cells += [f"{value:g}", f"{point.precision:.3f}", f"{100 * (point.kept_share or 0):.1f} %"]
        rows.append([name, *cells])
    return markdown(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--store", required=True, help="of the split val")
    parser.add_argument("--other-store", required=True, help="of the split train_extra")
    parser.add_argument("--output")
    args = parser.parse_args()
    config = CalibrateConfig(data=DataConfig(root=args.data, split="val"), store=(args.store,))
    began = time.process_time()
    found = {target: calibrate(replace(config, target_precision=target)) for target in TARGETS}
    seconds = (time.process_time() - began) / len(TARGETS)
    elsewhere = replace(
        config, data=replace(config.data, split="train_extra"), store=(args.other_store,), labels="gtCoarse"
    )
    cases, reached, wide = judged(found)
    first = found[TARGETS[0]]
    assert first.report is not None
    text = page(
        "Thresholds by class, chosen on one half of a drive and measured on the other",
        args.data,
        f"Teacher sha256 `{first.teacher['sha256']}`; {first.images} images of `val`; {seconds:.1f} s of CPU for one "
        f"call. Intervals: {first.drawn}. Parts: {first.report.split_by}.",
        f"**{reached} of {cases}** thresholds reach their target within a point, of classes with {ENOUGH_PX:,} labeled "
        f"pixels or more in the half they are measured on; the intervals of {wide} are wider than a point to either "
        "side (question marks). A class that is off keeps nothing, and is not counted.",
        *(
            f"Chosen on part {2 - number}, measured on part {number + 1}:\n\n{held_out_table(found, number)}"
            for number in range(2)
        ),
        "## Why the lower end of the interval, and why pieces of frames\n\nThresholds that miss their target by more "
        "than a point, with the lowest stored threshold whose estimate reaches the target, and with the lowest whose "
        "interval does. The images are halved in different ways, and each half is measured once.\n\n"
        + rules_table(counts_of(config))
        + "\n\nThe first and the second half of the drive are other streets: no interval that is drawn from one of "
        "them knows the other. A threshold holds on streets like those that it was chosen on.",
        "## On other drives\n\nThresholds of `val`, chosen on all of its images, on `train_extra`: 305 images of three "
        "drives, measured inside careful polygons that cover four fifths of them and keep clear of outlines. So this "
        "is more than the precision on all pixels.\n\n" + elsewhere_table(found, calibrate(elsewhere)),
    )
    publish(text, args.output)


if __name__ == "__main__":
    main()
