"""The report as HTML: plain, readable on a phone, light or dark as the reader's system is; no scripts, no requests."""

from dataclasses import dataclass
from html import escape

from hmsa_label.pipeline.report.html import STYLE, document


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
    return document(title, STYLE, parts)


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
