"""How precise labels are at each threshold, and which threshold of each class reaches a precision."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.calibrate.bootstrap import LEAST_UNITS
from hmsa_label.pipeline.calibrate.choice import LEAST_PX
from hmsa_label.pipeline.calibrate.counts import Counts
from hmsa_label.pipeline.calibrate.curves import Measured
from hmsa_label.pipeline.calibrate.file import write_calibration, write_text
from hmsa_label.pipeline.calibrate.held_out import Drawing, choose_stored, report_held_out
from hmsa_label.pipeline.calibrate.learned import SHOWN, Known, known_images, refuse_known
from hmsa_label.pipeline.calibrate.page import PAGE, render_calibration
from hmsa_label.pipeline.calibrate.predictors import Assigned, Predictor, count_all, open_predictors, places_of
from hmsa_label.pipeline.calibrate.records import Calibration, ClassCalibration
from hmsa_label.pipeline.calibrate.targets import targets_of
from hmsa_label.pipeline.calibrate.units import parts_of, sequence_of, units_of
from hmsa_label.pipeline.config import CalibrateConfig
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.scores import labeled_images
from hmsa_label.pipeline.software import package_version
from hmsa_label.pipeline.wording import counted
from hmsa_label.stores.files import join, open_filesystem, refuse_full_or_read_only
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import ImageRef, ImageSource

FEW_UNITS = 10  # below which a bootstrap is too short-spread to rely on

METHOD = (
    "Counted are pixels with a fine label, by the class that is predicted. Precision is the share of the kept ones "
    "whose class is right. Intervals hold {confidence:g} % of {resamples} bootstrap resamples, which draw {drawn}: "
    "pixels of one image, and frames of one drive, are not independent. The threshold of a class is the lowest stored "
    "one whose interval lies at or above the precision asked for, if the precision stays there at every higher one; it "
    "rests on at least {px} kept pixels from {units} of these. {levels}"
)
EXACT = "Confidence is the teacher's own."
MIDDLE = (
    "Of stored labels only the level of confidence is known; error and temperature take the middle of it, and are "
    "rough where most pixels lie above the highest threshold."
)

OnImage = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class _Input:
    """What is counted, and what is to be said of it."""

    source: ImageSource
    classes: ClassTable
    assigned: list[Assigned]
    predictors: list[Predictor]
    trained_on: list[str]
    warnings: list[str]


def calibrate(config: CalibrateConfig, on_image: OnImage | None = None) -> Calibration:
    """Measures a teacher's labels, or those of a store, on a split with fine labels.

    With `target_precision` it proposes a stored threshold for each class, chosen on all images, and reports what
    thresholds chosen in the same way do on images that they were not chosen on. With `output` it writes
    `calibration.json`, which `read_calibration` reads, and a page with curves. Images that cannot be read or predicted
    are listed, and the others are counted.

    Args:
        on_image: called with (images done, images in all) after each image.

    Raises:
        FileNotFoundError: there are no such weights, or no such file of precisions.
        NotAStore: there is no such store, or no image with fine labels.
        ValueError: the teacher was trained on some of the images; it cannot be used on this data; a class or a
            precision is not one.
    """
    source = open_images(config.data.dataset, config.data.root, config.data.storage_options)
    classes = classes_of(source)
    if config.output is not None:
        refuse_full_or_read_only(*open_filesystem(config.output))
    targets = {} if config.target_precision is None else targets_of(config.target_precision, classes.names)
    refs = labeled_images(source, config.data.split, config.labels, config.data.limit)
    given = _assign(config, source, classes, refs)
    counts, failed = count_all(given.assigned, source, classes, on_image or (lambda done, total: None))
    found = _measured(config, given, counts, targets)
    found = replace(found, failed=[{"key": one.key, "reason": one.reason} for one in failed])
    return found if config.output is None else _written(found, str(config.output))


def _assign(config: CalibrateConfig, source: ImageSource, classes: ClassTable, refs: list[ImageRef]) -> _Input:
    """Each image goes to the first predictor that holds it and was not trained on it.

    Raises:
        ValueError: none is left for an image, unless that is allowed; no image is held at all.
    """
    predictors = open_predictors(config, classes)
    known = [known_images(one.learned, refs, source, config.data) for one in predictors]
    assigned, trained, missing, familiar = [], [], [], []
    for ref in refs:
        holding = [place for place, one in enumerate(predictors) if one.holds(ref.key)]
        fresh = [place for place in holding if ref.key not in known[place].keys]
        if not holding:
            missing.append(ref.key)
            continue
        trained += [] if fresh else [ref.key]
        place = (fresh or holding)[0]
        familiar += [ref.key] if ref.key in known[place].familiar else []
        assigned.append(Assigned(ref=ref, by=predictors[place]))
    if not assigned:
        raise ValueError(
            f"{' and '.join(map(str, config.store))} holds none of the {counted(len(refs), 'image')} with fine labels"
        )
    if not config.allow_trained_on:
        refuse_known(trained)
    warnings = _warnings(predictors, known, trained, missing, familiar)
    return _Input(
        source=source, classes=classes, assigned=assigned, predictors=predictors, trained_on=trained, warnings=warnings
    )


def _warnings(
    predictors: list[Predictor], known: list[Known], trained: list[str], missing: list[str], familiar: list[str]
) -> list[str]:
    lines = [line for one in known for line in one.warnings]
    if any(not one.learned.drawn and not one.learned.auto and not one.learned.keys for one in predictors):
        lines.append("nothing records what the teacher was trained on; whether it has seen these images is not known")
    if trained:
        lines.append(
            f"{counted(len(trained), 'image')} were counted that the teacher was trained on, such as {trained[0]}; "
            "elsewhere its labels are less precise than it says here"
        )
    if familiar:
        names = sorted({sequence_of(key) for key in familiar})
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines.append(
            f"{counted(len(familiar), 'image')} are of sequences that the teacher was trained on other frames of "
            f"({', '.join(names[:SHOWN])}{more}); on other streets its labels may be less precise"
        )
    if missing:
        lines.append(
            f"{counted(len(missing), 'image')} with fine labels have no label in the store, such as {missing[0]}"
        )
    return lines


def _measured(config: CalibrateConfig, given: _Input, counts: Counts, targets: dict[str, float]) -> Calibration:
    units = units_of(counts.keys, config.data.dataset)
    drawing = Drawing(units=units, resamples=config.resamples, confidence=config.confidence)
    measured, warnings = Measured.of(counts), list(given.warnings)
    if units.count < FEW_UNITS:
        warnings.append(f"intervals are drawn from {units.text}, which are few; they may be too narrow")
    parts = parts_of(counts.keys, units, config.folds) if targets else None
    if targets and parts is None:
        warnings.append(f"{units.text} are too few for {config.folds} parts; nothing is reported on other images")
    common = set(targets.values())
    whole = common.pop() if len(common) == 1 and len(targets) == len(counts.names) else None
    classes = {
        name: _described(measured, drawing, train_id, targets.get(name)) for train_id, name in enumerate(counts.names)
    }
    return Calibration(
        hmsa_label=package_version(),
        made_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        teacher=given.predictors[0].facts,
        fold_teachers=[one.facts for one in given.predictors[1:]],
        stores=places_of(given.predictors),
        data=given.source.root,
        dataset=config.data.dataset,
        split=config.data.split,
        labels=config.labels,
        images=len(counts.keys),
        images_trained_on=len(given.trained_on),
        drawn=units.text,
        confidence=config.confidence,
        grid=list(counts.grid),
        target_precision=(whole if whole is not None else targets) if targets else None,
        all=_described(measured, drawing, None, whole),
        classes=classes,
        class_thresholds={name: one.threshold for name, one in classes.items() if one.threshold is not None},
        report=None if parts is None else report_held_out(measured, parts, drawing, targets),
        warnings=warnings,
        method=_method(config, units.text, counts),
    )


def _described(measured: Measured, drawing: Drawing, train_id: int | None, target: float | None) -> ClassCalibration:
    found = measured.describe(drawing.over(), train_id)
    if target is None:
        return found
    threshold, reason = choose_stored(measured, drawing.over(), train_id, target)
    return replace(found, target=target, threshold=threshold, reason=reason)


def _method(config: CalibrateConfig, drawn: str, counts: Counts) -> str:

    return METHOD.format(
        confidence=100 * config.confidence,
        resamples=config.resamples,
        drawn=drawn,
        px=f"{LEAST_PX:,}",
        units=LEAST_UNITS,
        levels=MIDDLE if counts.confidence is None else EXACT,
    )


def _written(found: Calibration, folder: str) -> Calibration:
    found = replace(found, page=join(folder, PAGE))
    write_calibration(found, folder)
    write_text(str(found.page), render_calibration(found))
    return found
