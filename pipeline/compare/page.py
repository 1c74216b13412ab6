"""A comparison as one HTML file: no scripts, no requests, light or dark as the reader's system is."""

import shlex
from html import escape
from typing import Any

from hmsa_label.pipeline.compare.chart import Bar, chart
from hmsa_label.pipeline.report.html import STYLE, document, tiles
from hmsa_label.pipeline.rule_names import rule_text

NAMES = {"fine": "fine only", "coarse": "fine + coarse", "auto": "fine + auto"}
IMAGES = {
    "fine": "Images with fine labels",
    "coarse": "Images with polygons",
    "auto": "Auto-labeled images",
    "auto_left_out": "Left out, without a label",
}
MORE_STYLE = """
:root { --fine: #7b808a; --coarse: #b9791f; --auto: #3b6ea8; --better: #2e7d4f; --worse: #b3403a; }
@media (prefers-color-scheme: dark) {
  :root { --fine: #a3a8b2; --coarse: #d9a04a; --auto: #6f9fd4; --better: #6dbb8a; --worse: #e07f78; }
}
body { max-width: 76rem; }
.lead { font-size: 1.15rem; margin: 0 0 1.2rem; max-width: 50rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 0 3rem; }
svg { width: 100%; height: auto; max-width: 38rem; display: block; font: 14px system-ui, sans-serif; }
svg .grid { stroke: var(--line); } svg .zero { stroke: var(--quiet); stroke-width: 1.5; }
svg text { fill: var(--ink); } svg .tick { fill: var(--quiet); font-size: 12px; text-anchor: middle; }
svg .name { text-anchor: end; } svg .value { font-variant-numeric: tabular-nums; font-weight: 600; }
svg .range { stroke-width: 3; stroke-linecap: round; opacity: 0.55; stroke: var(--arm); }
svg .mean { fill: var(--arm); } svg .dot { fill: none; stroke: var(--arm); stroke-width: 1.6; }
.fine { --arm: var(--fine); } .coarse { --arm: var(--coarse); } .auto { --arm: var(--auto); }
.charts + .facts, section + .facts { margin-top: 2rem; }
.scroll { overflow-x: auto; }
table.wide { max-width: none; }
td.better { color: var(--better); } td.worse { color: var(--worse); } td.better, td.worse { font-weight: 600; }
td.range { color: var(--quiet); font-size: 0.88rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.7rem 0.9rem;
  overflow-x: auto; font: 0.85rem/1.5 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.method { max-width: 50rem; }
"""


def render_comparison(found: dict[str, Any]) -> str:
    """The whole page of a comparison in its JSON form; everything that comes from outside is escaped."""
    title = "The same student on fine, coarse and auto labels"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(headline(found))}</p>',
        _charts(found),
        _facts(found),
        _classes(found),
        _cost(found),
        _students(found),
        f'<h2>How the figures are made</h2><p class="method">{escape(found["method"])}</p>',
        _commands(found),
    ]
    return document(title, STYLE + MORE_STYLE, parts)


def headline(found: dict[str, Any]) -> str:
    """The outcome in one or two sentences; each first difference of an arm is told with its interval."""
    sentences = []
    for difference in found["differences"]:
        if difference["against"] == "fine":
            miou = difference["miou"]
            side = "above" if miou["value"] >= 0 else "below"
            sentences.append(
                f"{NAMES[difference['arm']]} reaches mIoU {found['miou'][difference['arm']]['mean']:.3f}, "
                f"{abs(miou['value']):.3f} {side} fine only ({100 * found['confidence']:g} % interval {_span(miou)})"
            )
    missing = len(found["seeds_missing"])
    to_come = "one seed is" if missing == 1 else f"{missing} seeds are"
    text = ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences) + "." if sentences else ""
    return text + (f" Not finished: {to_come} still to come." if missing else "")


def _facts(found: dict[str, Any]) -> str:
    labels = found["labels"]
    facts = {
        "Seeds": ", ".join(map(str, found["seeds"])),
        "Steps of each training": f"{found['steps']:,}",
        "Images scored": f"{found['images']:,} of {found['split']}",
        **{IMAGES[kind]: f"{count:,}" for kind, count in found["trained_on"].items()},
        "Rule": rule_text(labels["threshold"], labels["rule"]) or "-",
        "Share of auto or coarse": f"{100 * labels['mix']:g} %",
        "Label version": f"{labels['version']}",
        "Model": found["about"]["config"]["model"]["name"],
    }
    by_class = ", ".join(f"{name} {value}" for name, value in labels["class_thresholds"].items())
    wide = {
        **({"Thresholds of classes": by_class} if by_class else {}),
        "Label store": labels["store"],
        "Digest of the labels": labels["digest"],
        "Teacher, sha256": labels["teacher_sha256"] or "-",
    }
    return tiles(facts, wide)


def _charts(found: dict[str, Any]) -> str:
    share = f"{100 * found['confidence']:g} %"
    arms = [
        Bar(
            name=NAMES[arm],
            kind=arm,
            text=f"{miou['mean']:.4f}",
            value=miou["mean"],
            low=miou["low"],
            high=miou["high"],
            dots=[(f"seed {seed}", value) for seed, value in miou["seeds"].items()],
        )
        for arm, miou in found["miou"].items()
    ]
    pairs = [
        Bar(
            name=f"{entry['arm']} − {entry['against']}",
            kind=entry["arm"],
            text=f"{entry['miou']['value']:+.4f}",
            **{name: entry["miou"][name] for name in ("value", "low", "high")},
        )
        for entry in found["differences"]
    ]
    text = f"Filled: mean over the seeds; bar: {share} interval; rings: single seeds."
    left = f'<section><h2>mIoU</h2>{chart(arms, "mIoU")}<p class="quiet">{text}</p></section>'
    if not pairs:
        return left
    sure = "; ".join(
        f"{entry['arm']} above {entry['against']} in {100 * entry['miou']['above_zero']:.1f} %"
        for entry in found["differences"]
    )
    right = (
        f"<section><h2>Differences of mIoU</h2>{chart(pairs, 'difference of mIoU', zero=True, signed=True)}"
        f'<p class="quiet">Bar: {share} interval of the paired difference. Of the resamples, {escape(sure)}.</p>'
        "</section>"
    )
    return f'<div class="charts">{left}{right}</div>'


def _classes(found: dict[str, Any]) -> str:
    arms, names = found["arms"], list(found["iou"][found["arms"][0]])
    pairs = found["differences"]
    head = "<tr><th>IoU</th>" + "".join(f"<th>{escape(NAMES[arm])}</th>" for arm in arms)
    head += "".join(f"<th>{pair['arm']} − {pair['against']}</th><th>interval</th>" for pair in pairs) + "</tr>"
    rows = []
    for place, name in enumerate(names):
        if found["iou"][arms[0]][name] is None:
            continue
        red, green, blue = found["about"]["colours"][place]
        swatch = f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
        cells = "".join(f"<td>{found['iou'][arm][name]:.3f}</td>" for arm in arms)
        cells += "".join(_difference(pair["iou"][name]) for pair in pairs)
        rows.append(f"<tr><td>{swatch}{escape(name)}</td>{cells}</tr>")
    total = "".join(f"<td>{found['miou'][arm]['mean']:.3f}</td>" for arm in arms)
    total += "".join(_difference(pair["miou"]) for pair in pairs)
    rows.append(f'<tr class="kept"><td>mean</td>{total}</tr>')
    absent = [name for name in names if found["iou"][arms[0]][name] is None]
    note = f'<p class="quiet note">Not in the labels of the scored images: {escape(", ".join(absent))}.</p>'
    table = f'<div class="scroll"><table class="wide">{head}{"".join(rows)}</table></div>'
    return f"<h2>Classes</h2>{table}{note if absent else ''}"


def _difference(entry: dict[str, float] | None) -> str:
    if entry is None:
        return "<td></td><td></td>"
    kind = "better" if entry["low"] > 0 else "worse" if entry["high"] < 0 else "even"
    return f'<td class="{kind}">{_signed(entry["value"])}</td><td class="range">{_span(entry)}</td>'


def _span(entry: dict[str, float]) -> str:
    return f"{_signed(entry['low'])} to {_signed(entry['high'])}"


def _signed(value: float) -> str:
    """A difference with its sign, and a zero without one."""
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}"


def _cost(found: dict[str, Any]) -> str:
    head = "<tr><th>All seeds together</th><th>CPU time</th><th>GPU time</th><th>Wall time</th><th>Crops seen</th>"
    head += "<th>Of them fine</th></tr>"
    rows = "".join(
        f"<tr><td>{escape(NAMES[arm])}</td><td>{_time(cost['cpu_seconds'])}</td><td>{_time(cost['gpu_seconds'])}</td>"
        f"<td>{_time(cost['seconds'])}</td><td>{cost['crops']:,}</td><td>{cost['fine_crops']:,}</td></tr>"
        for arm, cost in found["cost"].items()
    )
    seconds = found["labels"]["teacher_seconds"]
    labels = "" if seconds is None else (
        f'<p class="quiet note">Beside that, once: the teacher took {_time(seconds)} for the '
        f"{found['labels']['images']:,} auto-labeled images. The teacher\'s own training is not counted.</p>"
    )  # fmt: skip
    return f'<h2>Cost</h2><div class="scroll"><table>{head}{rows}</table></div>{labels}'


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds else "-"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _students(found: dict[str, Any]) -> str:
    head = (
        "<tr><th>Training</th><th>Seed</th><th>mIoU</th><th>Pixel accuracy</th><th>CPU time</th><th>Weights</th></tr>"
    )
    rows = "".join(
        f"<tr><td>{escape(NAMES[entry['arm']])}</td><td>{entry['seed']}</td><td>{entry['miou']:.4f}</td>"
        f"<td>{entry['pixel_accuracy']:.4f}</td><td>{_time(entry['cpu_seconds'])}</td>"
        f"<td>{escape(entry['sha256'][:12])}</td></tr>"
        for entry in found["students"]
    )
    return f'<h2>Trainings</h2><div class="scroll"><table>{head}{rows}</table></div>'


def _commands(found: dict[str, Any]) -> str:
    command = list(found["about"]["command"])
    command[0] = command[0].rpartition("/")[2]
    traced = [entry["checkpoint"] for entry in found["students"] if entry["arm"] == "auto"][:1]
    lines = [shlex.join(command), *(shlex.join(["hmsa-label", "audit", "trace", path]) for path in traced)]
    code = found["about"]["code"] or {}
    made_by = f"hmsa-label {found['about']['hmsa_label']}"
    if code:
        made_by += f" at {code['commit'][:12]}{', with changes' if code['changed'] else ''}"
    return (
        f"<h2>Commands</h2><pre>{escape(chr(10).join(lines))}</pre>"
        f'<p class="quiet">{escape(made_by)}, torch {escape(str(found["about"]["libraries"].get("torch")))}</p>'
    )
