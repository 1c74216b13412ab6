"""The report as HTML: plain, readable on a phone, light or dark as the reader's system is; no scripts, no requests."""

from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1c1d21; --quiet: #5b5f68; --paper: #fbfbf9; --card: #fff; --line: #dcdcd6;
  --bar: #3b6ea8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e9e6; --quiet: #a0a4ad; --paper: #16171a; --card: #1f2125; --line: #34373d; --bar: #6f9fd4; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem clamp(0.9rem, 3vw, 2.5rem) 3rem; max-width: 100rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.4rem 0 1.2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.7rem; }
h3 { font: 600 0.9rem/1.4 ui-monospace, Menlo, Consolas, monospace; margin: 0; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); font-size: 0.9rem; margin: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 0.7rem; margin: 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.6rem 0.8rem; }
.facts dt { color: var(--quiet); font-size: 0.82rem; }
.facts dd { margin: 0; font-size: 1.1rem; font-weight: 600; overflow-wrap: anywhere; }
.facts .wide { grid-column: 1 / -1; }
.facts .wide dd { font-size: 0.9rem; font-weight: 400; font-family: ui-monospace, Menlo, Consolas, monospace; }
table { border-collapse: collapse; width: 100%; max-width: 46rem; }
th, td { text-align: right; padding: 0.28rem 0.5rem; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
th { color: var(--quiet); font-weight: 500; font-size: 0.85rem; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
td:has(.swatch) { white-space: nowrap; }
.reasons td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.bar { width: 26%; }
td.bar i { display: block; height: 0.6rem; min-width: 1px; border-radius: 2px; background: var(--bar); }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 0 3rem; }
.swatch { display: inline-block; width: 0.95rem; height: 0.95rem; margin-right: 0.5rem; border-radius: 3px;
  vertical-align: -0.12rem; border: 1px solid var(--line); }
.hatch { background: repeating-linear-gradient(135deg, #121215 0 3px, #6e6e78 3px 4.5px); }
.note { margin-top: 0.7rem; }
.levels { display: grid; grid-template-columns: repeat(auto-fit, minmax(3.1rem, 1fr)); gap: 0.35rem 0; padding: 0;
  margin: 0.4rem 0 0; list-style: none; }
.levels li { font-size: 0.8rem; text-align: center; color: var(--quiet); }
.levels b { display: block; height: 1.1rem; }
.levels .kept { color: var(--ink); font-weight: 600; }
tr.kept td { font-weight: 700; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.8rem;
  margin: 0.9rem 0; }
.pictures { display: grid; gap: 0.6rem; margin-top: 0.6rem;
  grid-template-columns: repeat(var(--columns), 1fr); }
@media (max-width: 64rem) { .pictures { --columns: 2 !important; } }
@media (max-width: 36rem) { .pictures { --columns: 1 !important; } }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 4px; }
figcaption { color: var(--quiet); font-size: 0.82rem; margin-top: 0.2rem; }
@media (max-width: 30rem) { td.bar, th.bar { display: none; } th, td { padding: 0.28rem 0.25rem; }
  .facts { grid-template-columns: 1fr 1fr; } }
"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An embedded picture; `source` is a data URL."""

    caption: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """The pictures of one image."""

    key: str
    note: str
    pictures: list[Picture]


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class; `kept_share` is its share of all kept pixels, `iou` on images with fine labels, both 0..1."""

    name: str
    color: str
    kept_px: int
    kept_share: float
    iou: float | None


@dataclass(frozen=True, kw_only=True)
class LevelSwatch:
    """One level of confidence; `kept` at or above the threshold of the labels."""

    text: str
    color: str
    kept: bool


@dataclass(frozen=True, kw_only=True)
class ThresholdRow:
    """What one threshold keeps, and how what it keeps agrees with the coarse polygons; shares 0..1."""

    threshold: float
    kept_share: float
    agreement: float | None


def render_page(
    *,
    title: str,
    facts: list[tuple[str, str]],
    classes: list[ClassRow],
    thresholds: list[ThresholdRow],
    threshold: float,
    levels: list[LevelSwatch],
    rows: list[Row],
    failed: list[tuple[str, str]],
) -> str:
    """The whole page as text; everything that comes from outside is escaped."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        _facts(facts),
        _failures(failed),
        f'<div class="tables">{_classes(classes)}{_thresholds(thresholds, threshold)}</div>',
        _levels(levels),
        _images(rows),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _facts(facts: list[tuple[str, str]]) -> str:
    """Short values as tiles, long ones (paths, digests) as full lines below them."""
    ordered = sorted(facts, key=lambda fact: _is_long(fact[1]))
    items = "".join(
        f'<div class="{_width(value)}"><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>' for name, value in ordered
    )
    return f'<dl class="facts">{items}</dl>'


def _is_long(value: str) -> bool:
    return len(value) > 18 or "/" in value


def _width(value: str) -> str:
    return "wide" if _is_long(value) else "short"


def _failures(failed: list[tuple[str, str]]) -> str:
    if not failed:
        return ""
    lines = "".join(f"<tr><td>{escape(key)}</td><td>{escape(reason)}</td></tr>" for key, reason in failed)
    return f'<h2>Images that could not be labeled</h2><table class="reasons">{lines}</table>'


def _classes(classes: list[ClassRow]) -> str:
    with_iou = any(row.iou is not None for row in classes)
    most = max((row.kept_share for row in classes), default=0.0) or 1.0
    lines = [
        f'<tr><td><span class="swatch" style="background:{row.color}"></span>{escape(row.name)}</td>'
        f"<td>{row.kept_px:,}</td><td>{100 * row.kept_share:.2f} %</td>"
        + (f"<td>{'' if row.iou is None else f'{row.iou:.3f}'}</td>" if with_iou else "")
        + f'<td class="bar">{_bar(row.kept_share / most)}</td></tr>'
        for row in classes
    ]
    head = "<tr><th>Class</th><th>Kept pixels</th><th>Share</th>"
    head += ("<th>IoU on val</th>" if with_iou else "") + '<th class="bar"></th></tr>'
    hatch = '<p class="quiet note"><span class="swatch hatch"></span>ignored: below the threshold, no class</p>'
    return f"<section><h2>Classes</h2><table>{head}{''.join(lines)}</table>{hatch}</section>"


def _thresholds(rows: list[ThresholdRow], chosen: float) -> str:
    """A table of what stored evidence gives at other thresholds; the chosen one stands out."""
    if not rows:
        return ""
    lines = [
        f'<tr class="{_mark(row.threshold == chosen)}"><td>{row.threshold}</td><td>{100 * row.kept_share:.1f} %</td>'
        f"<td>{'' if row.agreement is None else f'{100 * row.agreement:.1f} %'}</td>"
        f'<td class="bar">{_bar(row.kept_share)}</td></tr>'
        for row in rows
    ]
    head = '<tr><th>Threshold</th><th>Pixels kept</th><th>Agreement</th><th class="bar"></th></tr>'
    text = "What other thresholds would keep, exactly and without the teacher, from the evidence in the store."
    return (
        f'<section><h2>Thresholds</h2><table>{head}{"".join(lines)}</table><p class="quiet note">{text}</p></section>'
    )


def _mark(chosen: bool) -> str:
    return "kept" if chosen else "left"


def _bar(share: float) -> str:
    return f'<i style="width:{100 * share:.1f}%"></i>' if share else ""


def _levels(levels: list[LevelSwatch]) -> str:
    if not levels:
        return ""
    items = "".join(
        f"""<li class="{"kept" if level.kept else "left"}">"""
        f'<b style="background:{level.color}"></b>{escape(level.text)}</li>'
        for level in levels
    )
    text = "Each pixel shows the highest of these thresholds that the teacher reached; bold ones are kept in the label."
    return f'<h2>Confidence</h2><p class="quiet">{text}</p><ul class="levels">{items}</ul>'


def _images(rows: list[Row]) -> str:
    return "<h2>Images</h2>" + "".join(_article(row) for row in rows) if rows else ""


def _article(row: Row) -> str:
    figures = "".join(
        f'<figure><img src="{escape(picture.source)}" alt="{escape(f"{picture.caption} of {row.key}")}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
        for picture in row.pictures
    )
    note = f'<p class="quiet">{escape(row.note)}</p>' if row.note else ""
    pictures = f'<div class="pictures" style="--columns: {len(row.pictures)}">{figures}</div>'
    return f"<article><h3>{escape(row.key)}</h3>{note}{pictures}</article>"
