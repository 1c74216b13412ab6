"""A calibration as one HTML file: no scripts, no requests, light or dark as the reader's system is."""

from html import escape

from hmsa_label.pipeline.calibrate.charts import curve_chart, reliability_chart
from hmsa_label.pipeline.calibrate.records import OFF, Calibration, ClassCalibration, HeldOutClass
from hmsa_label.pipeline.calibrate.temperature import threshold_before
from hmsa_label.pipeline.report.html import STYLE, document, tiles

PAGE = "index.html"
COMMON = 0.9  # the threshold that the table turns into one of each class by its temperature
FEW_PX = 20_000  # of a class in a part, below which its figures there say little
MORE_STYLE = """
:root { --curve: #274b76; --band: #c9d6e6; --mark: #a3421d; }
@media (prefers-color-scheme: dark) { :root { --curve: #a9c8ec; --band: #33455c; --mark: #f0a27f; } }
body { max-width: 84rem; }
.lead { font-size: 1.1rem; margin: 0 0 1.2rem; max-width: 54rem; }
.warnings { border-left: 4px solid var(--mark); padding: 0.1rem 0.9rem; margin: 1.2rem 0; max-width: 54rem; }
.warnings p { margin: 0.4rem 0; }
.scroll { overflow-x: auto; } table.wide { max-width: none; }
table.wide th, table.wide td { white-space: nowrap; }
.reasons td:first-child { white-space: nowrap; overflow-wrap: normal; }
td.range { color: var(--quiet); font-size: 0.88rem; }
td.missed { font-weight: 700; text-decoration: underline; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 36rem), 1fr)); gap: 1rem; }
.cards article { margin: 0; display: grid; grid-template-columns: 7fr 4fr; gap: 0.3rem 0.8rem; align-items: end; }
.cards header { grid-column: 1 / -1; }
.cards h3 { font: 600 1rem/1.4 system-ui, sans-serif; }
@media (max-width: 34rem) { .cards article { grid-template-columns: 1fr; }
  .cards article svg:last-child { max-width: 15rem; } }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .tick { fill: var(--quiet); text-anchor: middle; font-size: 11px; }
svg .tick.end, svg .named.end { text-anchor: end; } svg .axis { fill: var(--quiet); font-size: 11px; }
svg .named { font-weight: 600; fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
svg .grid { stroke: var(--line); } svg .band { fill: var(--band); }
svg .curve { fill: none; stroke: var(--curve); stroke-width: 1.8; } svg .dot { fill: var(--curve); }
svg .range { stroke: var(--curve); stroke-width: 1.4; }
svg .bar { fill: var(--band); stroke: var(--quiet); stroke-width: 0.6; } svg .bar.chosen { fill: var(--curve); }
svg .target { stroke: var(--ink); stroke-dasharray: 5 4; } svg .choice { stroke: var(--mark); stroke-width: 2; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.7rem 0.9rem;
  font: 0.85rem/1.5 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.method { max-width: 54rem; } p.quiet.method { margin-bottom: 0.7rem; }
"""


def render_calibration(found: Calibration) -> str:
    """The whole page; everything that comes from outside is escaped."""
    named = {name: one for name, one in found.classes.items() if one.pixels or one.predicted_px}
    parts = [
        "<h1>How precise the labels are at each threshold</h1>",
        f'<p class="lead">{escape(headline(found))}</p>',
        _facts(found),
        _warnings(found),
        _table(found, named),
        _held_out(found),
        _cards(found, named),
        f'<h2>How the figures are made</h2><p class="method">{escape(found.method)}</p>',
        _temperatures(),
        _commands(found),
    ]
    return document("Calibration of labels", STYLE + MORE_STYLE, parts)


def headline(found: Calibration) -> str:
    """The outcome in a few sentences."""
    if found.target_precision is None:
        return "No precision was asked for, so no threshold is proposed; --target-precision proposes them."
    asked = [(name, one) for name, one in found.classes.items() if one.target is not None]
    reach = [name for name, one in asked if one.threshold != OFF]
    off = [name for name, one in asked if one.threshold == OFF and one.predicted_px]
    text = f"{len(reach)} of {len(asked)} classes reach the precision asked for at a stored threshold."
    text += f" Off, although predicted: {', '.join(off)}." if off else ""
    return text + _verdict(found)


def _verdict(found: Calibration) -> str:
    """What thresholds do on images that they were not chosen on, of classes that have enough pixels there."""
    if found.report is None:
        return ""
    judged = [
        (one.reached, one.sure)
        for part in found.report.parts
        for one in part.classes.values()
        if one.reached is not None and one.pixels >= FEW_PX
    ]
    if not judged:
        return ""
    reached, unsure = sum(bool(one) for one, _ in judged), sum(not sure for _, sure in judged)
    return (
        f" On images that they were not chosen on, {reached} of {len(judged)} thresholds come within a point of it "
        f"(classes with {FEW_PX:,} pixels or more there); the intervals of {unsure} are wider than that."
    )


def _facts(found: Calibration) -> str:
    asked = found.target_precision
    facts = {
        "Images": f"{found.images:,} of {found.split}",
        **({"Of these trained on": f"{found.images_trained_on:,}"} if found.images_trained_on else {}),
        "Asked for": "nothing" if asked is None else f"{asked:g}" if isinstance(asked, float) else "by class",
        "Pixels predicted": f"{found.all.predicted_px:,}",
        "Right without a threshold": _figure(found.all.curve[0].precision),
        "Calibration error": _figure(found.all.ece),
    }
    places = {
        f"Store {place['store']}": f"version {place['version']}, digest {place['digest']}" for place in found.stores
    }
    wide = {
        "Teacher, sha256": str(found.teacher.get("sha256")),
        **{f"Teacher of fold {n}, sha256": str(one.get("sha256")) for n, one in enumerate(found.fold_teachers, 2)},
        **places,
        "Fine labels": f"{found.labels} in {found.data}",
        "Intervals": f"{100 * found.confidence:g} %, drawn from {found.drawn}",
    }
    return tiles(facts, wide)


def _warnings(found: Calibration) -> str:
    failed = [f"not counted: {one['key']}: {one['reason']}" for one in found.failed]
    lines = "".join(f"<p>{escape(line)}</p>" for line in [*found.warnings, *failed])
    return f'<div class="warnings">{lines}</div>' if lines else ""


def _table(found: Calibration, named: dict[str, ClassCalibration]) -> str:
    heads = [
        "Class",
        "Threshold",
        "Asked",
        "Precision",
        "Interval",
        "Kept",
        "Found",
        "IoU",
        "Labeled px",
        "Predicted px",
    ]
    heads += ["ECE", "T", f"{COMMON:g} after T is"]
    shown = {**named, "all classes": found.all}
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    rows = "".join(_row(name, one) for name, one in shown.items())
    table = f'<div class="scroll"><table class="wide"><tr>{head}</tr>{rows}</table></div>'
    absent = [name for name in found.classes if name not in named]
    note = f'<p class="quiet note">Neither labeled nor predicted: {escape(", ".join(absent))}.</p>' if absent else ""
    return f"<h2>Classes</h2>{table}{note}{_reasons(shown)}"


def _reasons(shown: dict[str, ClassCalibration]) -> str:
    off = [(name, one.reason) for name, one in shown.items() if one.reason is not None]
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>" for name, reason in off)
    return f'<h2>Why classes are off</h2><table class="reasons">{rows}</table>' if off else ""


def _row(name: str, one: ClassCalibration) -> str:
    point = one.chosen
    chosen = "" if one.threshold is None else one.threshold if isinstance(one.threshold, str) else f"{one.threshold:g}"
    cells = [
        f"<td>{escape(name)}</td>",
        f"<td><b>{chosen}</b></td>",
        _cell("" if one.target is None else f"{one.target:g}"),
    ]
    if point is None:
        cells += [_cell("")] * 5
    else:
        cells += [_cell(_figure(point.precision)), _span(point.precision_low, point.precision_high)]
        cells += [_cell(_percent(point.kept_share)), _cell(_percent(point.found)), _cell(_figure(point.iou))]
    after = "" if one.temperature is None else f"{threshold_before(COMMON, one.temperature):.3f}"
    warm = "" if one.temperature is None else f"{one.temperature:.2f}"
    cells += [
        _cell(f"{one.pixels:,}"),
        _cell(f"{one.predicted_px:,}"),
        _cell(_figure(one.ece)),
        _cell(warm),
        _cell(after),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _held_out(found: Calibration) -> str:
    if found.report is None:
        return ""
    report = found.report
    shown = [name for name, one in report.classes.items() if one.kept_px or one.pixels]
    head = "<tr><th>Class</th><th>Asked</th>" + "".join(
        f"<th>{escape(part.name)}: threshold</th><th>Precision</th><th>Interval</th><th>Labeled px</th>"
        for part in report.parts
    )
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{report.classes[name].target:g}</td>"
        + "".join(_there(part.classes[name]) for part in report.parts)
        + "</tr>"
        for name in shown
    )
    text = (
        f"Parts are {report.split_by}. For each part the thresholds were chosen on the other parts alone. Underlined: "
        "more than a point below what was asked for. Question mark: the interval is wider than a point to either side, "
        f"so neither is sure. Figures of fewer than {FEW_PX:,} labeled pixels say little."
    )
    return (
        f'<h2>On images that they were not chosen on</h2><p class="quiet method">{escape(text)}</p>'
        f'<div class="scroll"><table class="wide">{head}</tr>{rows}</table></div>'
    )


def _there(one: HeldOutClass) -> str:
    chosen = one.threshold if isinstance(one.threshold, str) else f"{one.threshold:g}"
    if one.precision is None:
        return f"<td>{chosen}</td><td></td><td></td>{_cell(f'{one.pixels:,}')}"
    kind = ' class="missed"' if not one.reached else ""
    value = f"<td{kind}>{one.precision:.3f}{'' if one.sure else ' ?'}</td>"
    return f"<td>{chosen}</td>{value}{_span(one.precision_low, one.precision_high)}{_cell(f'{one.pixels:,}')}"


def _cards(found: Calibration, named: dict[str, ClassCalibration]) -> str:
    text = (
        "Left: the share of kept pixels whose class is right (line) with its interval (band), over the stored "
        "thresholds, and the share of predicted pixels that is kept (bars). Right: how often pixels of a confidence "
        "are right; on the dashed diagonal a teacher is as often right as it is sure. Below it is too sure, above it "
        "not sure enough."
    )
    shown = {"all classes": found.all, **{name: one for name, one in named.items() if one.predicted_px}}
    cards = "".join(_card(name, one) for name, one in shown.items())
    return f'<h2>Curves</h2><p class="quiet method">{text}</p><div class="cards">{cards}</div>'


def _card(name: str, one: ClassCalibration) -> str:
    chosen = f"threshold {one.threshold:g}" if isinstance(one.threshold, float) else str(one.threshold or "")
    note = ", ".join(filter(None, (chosen, one.reason, f"{one.predicted_px:,} px in {one.images:,} images")))
    return (
        f'<article><header><h3>{escape(name)}</h3><p class="quiet">{escape(note)}</p></header>'
        f"{curve_chart(name, one)}{reliability_chart(name, one.bins)}</article>"
    )


def _temperatures() -> str:
    return (
        "<h2>What a temperature would do</h2>"
        '<p class="method">The temperature T of a class makes its confidence fit best, as sigmoid(logit(p) / T); above '
        "1 the teacher is too sure. It keeps the order of the pixels of a class, so it can keep no other pixels than a "
        "threshold of the class can: what it changes is which confidences of different classes count as equal. The "
        f"table says which threshold of each class a common {COMMON:g} would be after it. Thresholds chosen by "
        "precision need no temperature.</p>"
    )


def _commands(found: Calibration) -> str:
    if not found.class_thresholds or found.page is None:
        return ""
    place = found.page.rpartition("/")[0] + "/calibration.json"
    return (
        "<h2>Use them</h2><pre>"
        + escape(f"hmsa-label rethreshold --store LABELS --class-thresholds {place}")
        + f'</pre><p class="quiet">made {escape(found.made_at)} by hmsa-label {escape(found.hmsa_label)}</p>'
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _cell(text: str) -> str:
    return f"<td>{text}</td>"


def _span(low: float | None, high: float | None) -> str:
    return f'<td class="range">{"" if low is None else f"{low:.3f} to {high:.3f}"}</td>'
