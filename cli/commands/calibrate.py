"""`hmsa-label calibrate`: how precise labels are at each threshold, and which threshold of each class is enough."""

import click

import hmsa_label
from hmsa_label import CalibrateConfig, DataConfig, TeacherConfig
from hmsa_label.cli import output
from hmsa_label.cli.commands.versions import Counter
from hmsa_label.cli.options import command, settings

FAILED_SHOWN = 20
SHOWN = (0.0, 0.5, 0.7, 0.9, 0.95, 0.99)  # thresholds of the table where none was asked for


@command(
    "calibrate",
    example="hmsa-label calibrate --data /data/cityscapes --weights teacher.safetensors \\\n"
    "    --target-precision 0.95 --output calibrated",
)
@settings(DataConfig, "data", split="val")
@settings(TeacherConfig, "teacher", unless="--store", weights=None)
@settings(CalibrateConfig, "config")
@click.pass_context
def calibrate(ctx: click.Context, config: CalibrateConfig, as_json: bool) -> None:
    """Measure how precise labels are at each threshold, class by class, on images with fine labels.

    The teacher predicts the images, or --store has its labels of them. With --target-precision it proposes a stored
    threshold for each class, "off" where none is enough, and says what thresholds chosen on one half of the images do
    on the other. Images that the teacher was trained on are refused. --output writes calibration.json, which
    --class-thresholds of other commands takes, and a page with curves. Images that cannot be read are listed, and the
    exit code is 1.
    """
    found = hmsa_label.calibrate(config, Counter("images"))
    for text in found.warnings:
        output.say(f"Warning: {text}")
    if as_json:
        output.show_json(found)
    else:
        _show(found)
    ctx.exit(int(bool(found.failed)))


def _show(found: "hmsa_label.Calibration") -> None:
    (_show_thresholds if found.target_precision is not None else _show_curves)(found)
    output.show("")
    output.show_facts({
        "absent": ", ".join(sorted(set(found.classes) - set(_present(found)))) or None,
        "images": f"{found.images} of {found.split}" + _trained(found),
        "intervals": f"{100 * found.confidence:g} %, drawn from {found.drawn}",
        "other part": None if found.report is None else f"chosen without it; parts are {found.report.split_by}",
        "page": found.page,
    })  # fmt: skip
    for failure in found.failed[:FAILED_SHOWN]:
        output.show(f"failed      {failure['key']}: {failure['reason']}")
    if len(found.failed) > FAILED_SHOWN:
        output.show(f"failed      {len(found.failed) - FAILED_SHOWN} more, listed by --json")


def _show_thresholds(found: "hmsa_label.Calibration") -> None:
    """The proposals, what they keep, and what such thresholds do on images that they were not chosen on."""
    columns = ("class", "target", "threshold", "precision", "interval", "kept", "found", "ECE", "T", "other part")
    named = [(name, one) for name, one in _present(found).items() if one.target is not None]
    output.show_table(columns, [_row(found, name, one) for name, one in named])
    if reasons := [(name, one.reason) for name, one in named if one.reason is not None]:
        output.show("")
        output.show_table(("off", "why"), reasons)


def _present(found: "hmsa_label.Calibration") -> dict[str, "hmsa_label.ClassCalibration"]:
    """The classes that are labeled or predicted, and all together."""
    held = {name: one for name, one in found.classes.items() if one.pixels or one.predicted_px}
    return {**held, "all classes": found.all}


def _row(found: "hmsa_label.Calibration", name: str, one: "hmsa_label.ClassCalibration") -> list[object]:
    point, other = one.chosen, None if found.report is None else found.report.classes.get(name)
    figures: list[object] = [None] * 4
    if point is not None:
        span = None if point.precision_low is None else f"{point.precision_low:.3f}-{point.precision_high:.3f}"
        figures = [_figure(point.precision), span, output.percent(point.kept_share), output.percent(point.found)]
    chosen = one.threshold if isinstance(one.threshold, str) else f"{one.threshold:g}"
    return [name, f"{one.target:g}", chosen, *figures, _figure(one.ece), _figure(one.temperature, 2), _other(other)]


def _other(held_out: "hmsa_label.HeldOutClass | None") -> str | None:
    if held_out is None or held_out.precision is None:
        return None
    verdict = "reached" if held_out.reached else "missed"
    return f"{held_out.precision:.3f} {verdict}" + ("" if held_out.sure else "?")


def _show_curves(found: "hmsa_label.Calibration") -> None:
    """Precision at some thresholds."""
    shown = [value for value in SHOWN if value in (0.0, *found.grid)]
    columns = (
        "class",
        "labeled",
        *(f"at {value:g}" if value else "all" for value in shown),
        "kept 0.9",
        "ECE",
        "T",
    )
    rows = []
    for name, one in _present(found).items():
        at = {point.threshold: point for point in one.curve}
        kept = at[0.9].kept_share if 0.9 in at else None
        rows.append([name, one.pixels, *(_figure(at[value].precision) for value in shown), output.percent(kept),
                     _figure(one.ece), _figure(one.temperature, 2)])  # fmt: skip
    output.show_table(columns, rows)


def _figure(value: float | None, digits: int = 3) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _trained(found: "hmsa_label.Calibration") -> str:
    trained = found.images_trained_on
    return f", {trained} of them trained on, so the figures say little of others" if trained else ""
