"""The pictures of a calibration as SVG: precision over the threshold, and the reliability diagram.

Nothing is told by color alone: lines differ in their dashes, and what is chosen has its number beside it.
"""

from collections.abc import Callable, Sequence
from html import escape

from hmsa_label.pipeline.calibrate.records import ClassCalibration, CurvePoint, ReliabilityBin

WIDTH, LEFT, RIGHT = 420, 44, 10
TOP, CURVE_PX, GAP, KEPT_PX, FOOT = 18, 150, 14, 44, 34
SIDE, MARGIN, HISTOGRAM_PX = 190, 38, 36
LABELED = (0.0, 0.5, 0.7, 0.9, 0.95, 0.99)  # thresholds that the axis names
LOWEST_TOP = 0.9  # the scale of precision begins no higher than this
STEPS = (0.02, 0.05, 0.1, 0.2)

Scale = Callable[[float], float]


def curve_chart(name: str, one: ClassCalibration) -> str:
    """Precision with its interval at every threshold, and below it the share of pixels that is kept.

    Thresholds stand at equal distances, because those that matter lie close to 1.
    """
    points = one.curve
    step = (WIDTH - LEFT - RIGHT) / max(len(points), 1)

    def x(place: float) -> float:
        return LEFT + step * (place + 0.5)

    low, tick = _range(points, one.target)
    bottom, kept_top = TOP + CURVE_PX, TOP + CURVE_PX + GAP
    base = kept_top + KEPT_PX

    def y(value: float) -> float:
        return bottom - CURVE_PX * (value - low) / (1 - low)

    parts = [*_grid(low, tick, y), _band(points, x, y), _line(points, x, y), *_kept(points, one, x, step, base)]
    parts += [*_target(one, y), *_chosen(points, one, x, base)]
    parts += [
        f'<text class="tick" x="{x(place):.1f}" y="{base + 14}">{_threshold(point)}</text>'
        for place, point in enumerate(points)
        if point.threshold in LABELED
    ]
    parts.append(f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{base + 30}">threshold</text>')
    parts.append(
        f'<text class="axis" x="2" y="11">precision</text><text class="axis" x="2" y="{kept_top + 8}">kept</text>'
    )
    return _svg(WIDTH, base + FOOT, _spoken(name, one), parts)


def reliability_chart(name: str, bins: Sequence[ReliabilityBin]) -> str:
    """Precision against confidence, the diagonal of a calibrated teacher, and below it where the pixels are."""
    bottom, base = MARGIN / 2 + SIDE, MARGIN / 2 + SIDE + 10 + HISTOGRAM_PX

    def x(value: float) -> float:
        return MARGIN + SIDE * value

    def y(value: float) -> float:
        return bottom - SIDE * value

    parts = [
        f'<line class="grid" x1="{x(0):.1f}" x2="{x(1):.1f}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick end" x="{MARGIN - 6}" y="{y(t) + 4:.1f}">{t:g}</text>'
        f'<text class="tick" x="{x(t):.1f}" y="{base + 14:.1f}">{t:g}</text>'
        for t in (0.0, 0.5, 1.0)
    ]
    parts.append(f'<line class="target" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}"/>')
    total, most = sum(part.pixels for part in bins) or 1, max((part.pixels for part in bins), default=1)
    for part in bins:
        place, height = x(part.confidence), HISTOGRAM_PX * part.pixels / most
        parts.append(
            f'<rect class="bar" x="{x(part.low) + 0.5:.1f}" width="{max(SIDE * (part.high - part.low) - 1, 0.5):.1f}" '
            f'y="{base - height:.1f}" height="{height:.1f}"/>'
        )
        if part.precision_low is not None and part.precision_high is not None:
            parts.append(
                f'<line class="range" x1="{place:.1f}" x2="{place:.1f}" y1="{y(part.precision_low):.1f}" '
                f'y2="{y(part.precision_high):.1f}"/>'
            )
        text = (
            f"confidence {part.confidence:.3f}: {part.precision:.3f} right, {100 * part.pixels / total:.1f} % of pixels"
        )
        parts.append(_dot(place, y(part.precision), text))
    parts.append(f'<text class="tick" x="{x(0.5):.1f}" y="{base + 30:.1f}">confidence</text>')
    parts.append('<text class="axis" x="2" y="11">precision</text>')
    return _svg(MARGIN + SIDE + 12, base + FOOT, f"reliability diagram of {name}", parts)


def _range(points: Sequence[CurvePoint], target: float | None) -> tuple[float, float]:
    """(where the scale of precision begins, the distance of its ticks)."""
    values = [point.precision_low if point.precision_low is not None else point.precision for point in points]
    least = min([LOWEST_TOP, *(value for value in values if value is not None), *([target] if target else [])])
    tick = next(step for step in STEPS if (1 - least) / step <= 5 or step == STEPS[-1])
    return max(0.0, round(int(least / tick + 1e-9) * tick, 6)), tick


def _grid(low: float, tick: float, y: Scale) -> list[str]:
    values = [1 - tick * number for number in range(round((1 - low) / tick) + 1)]
    return [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text class="tick end" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{abs(value):.2f}</text>'
        for value in values
    ]


def _band(points: Sequence[CurvePoint], x: Scale, y: Scale) -> str:
    """The intervals, one after the other where they are known."""
    held = [
        (place, point.precision_low, point.precision_high)
        for place, point in enumerate(points)
        if point.precision_low is not None and point.precision_high is not None
    ]
    if not held:
        return ""
    upper = [f"{x(place):.1f},{y(high):.1f}" for place, _, high in held]
    lower = [f"{x(place):.1f},{y(low):.1f}" for place, low, _ in reversed(held)]
    return f'<polygon class="band" points="{" ".join(upper + lower)}"/>'


def _line(points: Sequence[CurvePoint], x: Scale, y: Scale) -> str:
    held = [(place, point, point.precision) for place, point in enumerate(points) if point.precision is not None]
    path = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, _, value in held)
    dots = "".join(_dot(x(place), y(value), _told(point)) for place, point, value in held)
    return f'<polyline class="curve" points="{path}"/>{dots}'


def _kept(points: Sequence[CurvePoint], one: ClassCalibration, x: Scale, step: float, base: float) -> list[str]:
    return [
        f'<rect class="bar{" chosen" if point.threshold == one.threshold else ""}" x="{x(place) - step * 0.36:.1f}" '
        f'width="{step * 0.72:.1f}" y="{base - KEPT_PX * point.kept_share:.1f}" '
        f'height="{KEPT_PX * point.kept_share:.1f}"><title>{escape(_told(point))}</title></rect>'
        for place, point in enumerate(points)
        if point.kept_share
    ]


def _target(one: ClassCalibration, y: Scale) -> list[str]:
    if one.target is None:
        return []
    return [
        f'<line class="target" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(one.target):.1f}" y2="{y(one.target):.1f}"/>'
        f'<text class="named" x="{LEFT + 4}" y="{y(one.target) - 4:.1f}">asked {one.target:g}</text>'
    ]


def _chosen(points: Sequence[CurvePoint], one: ClassCalibration, x: Scale, base: float) -> list[str]:
    place = next((place for place, point in enumerate(points) if point.threshold == one.threshold), None)
    if place is None:
        return []
    anchor = "end" if place > len(points) / 2 else "start"
    return [
        f'<line class="choice" x1="{x(place):.1f}" x2="{x(place):.1f}" y1="{TOP - 4}" y2="{base}"/>'
        f'<text class="named {anchor}" x="{x(place) + (-5 if anchor == "end" else 5):.1f}" y="{TOP - 6}">'
        f"{points[place].threshold:g}</text>"
    ]


def _dot(x: float, y: float, text: str) -> str:
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.8"><title>{escape(text)}</title></circle>'


def _threshold(point: CurvePoint) -> str:
    return f"{point.threshold:g}" if point.threshold else "all"


def _told(point: CurvePoint) -> str:
    if point.precision is None:
        return f"at {point.threshold:g}: nothing is kept"
    span = "" if point.precision_low is None else f" ({point.precision_low:.4f} to {point.precision_high:.4f})"
    return f"at {point.threshold:g}: {point.precision:.4f} right{span}, {100 * (point.kept_share or 0):.1f} % kept"


def _spoken(name: str, one: ClassCalibration) -> str:
    return f"precision of {name}: " + "; ".join(_told(point) for point in one.curve if point.threshold in LABELED)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
