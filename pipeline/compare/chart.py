"""Two small charts as SVG: mIoU of each arm, seed by seed, and the differences between arms."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, ROW, TOP, FOOT = 540, 118, 82, 46, 8, 36
TICKS = 5  # at most


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of a chart.

    Attributes:
        name: text on the left. kind: its color, a CSS class. text: on the right.
        value, low, high: the mark and the interval. dots: single seeds, as (name, value).
    """

    name: str
    kind: str
    text: str
    value: float
    low: float
    high: float
    dots: Sequence[tuple[str, float]] = ()


def chart(bars: Sequence[Bar], label: str, *, zero: bool = False, signed: bool = False) -> str:
    """An SVG picture that fills its column; with `zero` the axis holds 0 and a line marks it.

    Args:
        label: what the axis measures; also read out to those who cannot see the picture.
        signed: whether ticks carry a plus.
    """
    values = [value for bar in bars for value in (bar.low, bar.high, bar.value, *(dot for _, dot in bar.dots))]
    ticks = axis(min([*values, *([0.0] if zero else [])]), max([*values, *([0.0] if zero else [])]))
    height = TOP + ROW * len(bars) + FOOT

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    bottom = TOP + ROW * len(bars)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    parts = [
        f'<line class="{"zero" if zero and abs(tick) < 1e-12 else "grid"}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" '
        f'y1="{TOP}" y2="{bottom}"/><text class="tick" x="{x(tick):.1f}" y="{bottom + 15}">'
        f"{tick:{'+' if signed and abs(tick) > 1e-12 else ''}.{decimals}f}</text>"
        for tick in ticks
    ]
    parts += [_row(bar, TOP + ROW * (place + 0.5), x) for place, bar in enumerate(bars)]
    parts.append(f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{bottom + 34}">{escape(label)}</text>')
    spoken = "; ".join(f"{bar.name} {bar.text}" for bar in bars)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height + 4}" role="img" aria-label="{escape(f"{label}: {spoken}")}">'
        + "".join(parts)
        + "</svg>"
    )


def axis(low: float, high: float) -> list[float]:
    """Ascending round numbers, evenly spaced, that reach from at or below `low` to at or above `high`."""
    span = max(high - low, 1e-3)
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def _row(bar: Bar, y: float, x: Callable[[float], float]) -> str:
    dots = "".join(
        f'<circle class="dot" cx="{x(value):.1f}" cy="{y + 9:.1f}" r="4">'
        f"<title>{escape(f'{name}: {value:.4f}')}</title></circle>"
        for name, value in bar.dots
    )
    middle = y - 6 if bar.dots else y
    return (
        f'<g class="{bar.kind}"><text class="name" x="{LEFT - 12}" y="{y + 5:.1f}">{escape(bar.name)}</text>'
        f'<line class="range" x1="{x(bar.low):.1f}" x2="{x(bar.high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
        f'<circle class="mean" cx="{x(bar.value):.1f}" cy="{middle:.1f}" r="6"/>{dots}'
        f'<text class="value" x="{WIDTH - RIGHT + 10}" y="{y + 5:.1f}">{escape(bar.text)}</text></g>'
    )
