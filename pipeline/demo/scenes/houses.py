"""What stands along a street behind the sidewalk: houses with windows, walls, fences, hedges."""

import itertools

import numpy as np

from hmsa_label.pipeline.demo.scenes.canvas import Canvas, Color

PLASTER: tuple[Color, ...] = (
    (196, 182, 158),
    (176, 168, 160),
    (206, 198, 188),
    (158, 98, 76),
    (188, 156, 112),
    (140, 130, 122),
    (172, 146, 136),
    (212, 204, 170),
)
FLOOR_M = 3.1
Span = tuple[float, float]


def draw_lot(canvas: Canvas, rng: np.random.Generator, x: float, z: Span, light: float) -> None:
    """One stretch z[0]..z[1] meters ahead of the front line at x; mostly a house."""
    kind = int(rng.choice(4, p=[0.74, 0.08, 0.09, 0.09]))
    (draw_house, draw_wall, draw_fence, draw_hedge)[kind](canvas, rng, x, z, light)


def draw_house(canvas: Canvas, rng: np.random.Generator, x: float, z: Span, light: float) -> None:
    """A front along the street, its near end wall, a roof edge, windows and a ground floor."""
    object_id, floors = canvas.new_id("building"), int(rng.integers(2, 7))
    tall, back = floors * FLOOR_M + 0.8, x + np.sign(x) * 11.0
    paint = _lit(PLASTER[rng.integers(len(PLASTER))], light * rng.uniform(0.9, 1.08))
    ridge = (x + back) / 2
    end = [(x, 0.0, z[0]), (back, 0.0, z[0]), (back, tall, z[0]), (ridge, tall + 2.6, z[0]), (x, tall, z[0])]
    canvas.surface(end, _lit(paint, 0.8), object_id)
    for near, far in _pieces(z):
        canvas.surface(_upright(x, (near, far), 0.0, tall), paint, object_id)
    roof = _lit((rng.uniform(96, 140), rng.uniform(60, 84), rng.uniform(52, 70)), light)
    canvas.surface([(x, tall, z[0]), (x, tall, z[1]), (ridge, tall + 2.6, z[1]), (ridge, tall + 2.6, z[0])],
                   roof, object_id)  # fmt: skip
    canvas.surface(_upright(x, z, tall - 0.35, tall), _lit(paint, 1.12))
    _windows(canvas, rng, x, z, floors, light)
    _ground_floor(canvas, rng, x, z, light)


def draw_wall(canvas: Canvas, rng: np.random.Generator, x: float, z: Span, light: float) -> None:
    """A free-standing wall with a coping, something green behind it."""
    _bushes(canvas, rng, x + np.sign(x) * 2.0, z, rng.uniform(3, 6), light)
    object_id, tall = canvas.new_id("wall"), rng.uniform(1.4, 2.6)
    tone = rng.uniform(110, 165)
    canvas.surface(_upright(x, z, 0.0, tall), _lit((tone, tone * 0.95, tone * 0.88), light), object_id)
    canvas.surface(_upright(x, z, tall - 0.18, tall), _lit((tone + 25, tone + 22, tone + 16), light))


def draw_fence(canvas: Canvas, rng: np.random.Generator, x: float, z: Span, light: float) -> None:
    """Slats or bars; what shows through belongs to the fence, as annotators draw it."""
    _bushes(canvas, rng, x + np.sign(x) * 3.0, z, rng.uniform(2, 5), light)
    object_id, tall = canvas.new_id("fence"), rng.uniform(1.1, 1.9)
    dark: Color = (64, 70, 58)
    canvas.surface(_upright(x, z, 0.0, tall), _lit(dark, light), object_id)
    paint = _lit(((150, 120, 86), (190, 190, 186), (70, 90, 80))[rng.integers(3)], light)
    bars = [_upright(x, (float(at), float(at) + 0.14), 0.05, tall) for at in np.arange(z[0], z[1], 0.32)]
    for bar in bars:
        canvas.surface(bar, paint)
    for rail in (0.3, tall - 0.25):
        canvas.surface(_upright(x, z, rail, rail + 0.12), paint)


def draw_hedge(canvas: Canvas, rng: np.random.Generator, x: float, z: Span, light: float) -> None:
    """Bushes up to the front line, taller ones behind."""
    _bushes(canvas, rng, x + np.sign(x) * 4.0, z, rng.uniform(5, 11), light)
    _bushes(canvas, rng, x, z, rng.uniform(1.2, 2.4), light)


def _windows(canvas: Canvas, rng: np.random.Generator, x: float, z: Span, floors: int, light: float) -> None:
    """A regular grid above the ground floor; panes mirror the sky or stay dark."""
    spacing, wide, tall = rng.uniform(2.2, 3.4), rng.uniform(0.9, 1.4), rng.uniform(1.3, 1.8)
    frame = _lit((226, 222, 214), light)
    for floor in range(1, floors):
        low = floor * FLOOR_M + 0.75
        for at in np.arange(z[0] + 0.8, z[1] - wide - 0.3, spacing):
            span = (float(at), float(at) + wide)
            canvas.surface(_upright(x, (span[0] - 0.12, span[1] + 0.12), low - 0.12, low + tall + 0.12), frame)
            shine = rng.uniform(0.7, 1.5) if rng.random() < 0.8 else 2.4
            canvas.surface(_upright(x, span, low, low + tall), _lit((52, 60, 70), shine))


def _ground_floor(canvas: Canvas, rng: np.random.Generator, x: float, z: Span, light: float) -> None:
    """Doors and windows, or shop fronts with a colored band above them."""
    shop = rng.random() < 0.4
    step, wide, low, high = (4.4, 3.6, 0.35, 2.5) if shop else (3.0, 1.2, 0.9, 2.4)
    for at in np.arange(z[0] + 0.5, z[1] - wide, step):
        door = not shop and rng.random() < 0.2
        span = (float(at), float(at) + wide)
        pane: Color = (70, 48, 36) if door else (44, 50, 58)
        canvas.surface(_upright(x, span, 0.0 if door else low, high), _lit(pane, rng.uniform(0.8, 1.3)))
    if shop:
        band = ((150, 40, 40), (40, 80, 130), (210, 180, 60), (50, 100, 70), (230, 226, 216))[rng.integers(5)]
        canvas.surface(_upright(x, z, 2.65, 3.25), _lit(band, light))


def _bushes(canvas: Canvas, rng: np.random.Generator, x: float, z: Span, tall: float, light: float) -> None:
    """A bank of leaf clumps, upper ones lighter."""
    plant = canvas.new_id("vegetation")
    green = np.array([rng.uniform(52, 84), rng.uniform(84, 112), rng.uniform(36, 56)]) * light
    r, g, b = 0.7 * green
    canvas.surface(_upright(x, z, 0.0, 0.8 * tall), (r, g, b), plant)
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for at in np.sort(rng.uniform(z[0], z[1], int(8 * (z[1] - z[0]) / 3)))[::-1]:
        up, size = tall * rng.uniform(0.25, 0.92), tall * rng.uniform(0.1, 0.2)
        r, g, b = green * (0.65 + 0.5 * up / tall)
        ring = [(x, up + size * float(np.sin(a)), float(at) + 1.2 * size * float(np.cos(a))) for a in turn]
        canvas.surface(ring, (r, g, b), plant)


def _upright(x: float, z: Span, low: float, high: float) -> list[tuple[float, float, float]]:
    return [(x, low, z[0]), (x, low, z[1]), (x, high, z[1]), (x, high, z[0])]


def _pieces(z: Span) -> list[Span]:
    """The span cut so that a bending street shows, and haze changes along it."""
    edges = np.linspace(z[0], z[1], 4)
    return [(float(near), float(far)) for near, far in itertools.pairwise(edges)]


def _lit(color: Color, light: float) -> Color:
    r, g, b = color
    return (r * light, g * light, b * light)
