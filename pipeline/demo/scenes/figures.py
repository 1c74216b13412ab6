"""Thin and small things on upright boards: people, cycles, poles, lights, signs, trees."""

import numpy as np

from hmsa_label.pipeline.demo.scenes.canvas import Board, Canvas, Color

SKIN: tuple[Color, ...] = ((224, 178, 148), (190, 140, 108), (120, 82, 60), (236, 196, 170))
CLOTHES: tuple[Color, ...] = (
    (36, 40, 60),
    (150, 30, 40),
    (210, 205, 195),
    (60, 90, 60),
    (200, 150, 40),
    (40, 100, 150),
    (24, 24, 26),
    (120, 70, 110),
)
METAL: Color = (112, 116, 118)


def draw_person(canvas: Canvas, rng: np.random.Generator, x: float, z: float, ground_m: float = 0.0) -> None:
    """Somebody standing or walking."""
    board, object_id = Board(canvas, x, z, ground_m), canvas.new_id("person")
    tall, step = rng.uniform(1.5, 1.9), rng.uniform(0.0, 0.28)
    coat, legs = _pick(rng, CLOTHES), _pick(rng, CLOTHES[:1] + CLOTHES[5:7])
    board.shadow(0.35)
    hip = 0.48 * tall
    for foot in (-step, step):
        board.fill([(-0.09, hip), (0.09, hip), (foot + 0.07, 0.0), (foot - 0.07, 0.0)], legs, object_id)
    swing = rng.uniform(-0.2, 0.2)
    for side in (-1, 1):
        board.stroke([(side * 0.2, 0.8 * tall), (side * (0.27 + swing * side), 0.5 * tall)], 0.11, coat, object_id)
    _torso(board, rng, hip - 0.05, 0.84 * tall, coat, object_id)
    _head(board, rng, (0.0, 0.92 * tall), object_id)


def draw_cyclist(canvas: Canvas, rng: np.random.Generator, x: float, z: float, kind: str = "bicycle") -> None:
    """A rider on a bicycle or motorcycle, seen from the side or from behind."""
    from_behind = rng.random() < 0.5
    draw_cycle(canvas, rng, x, z, kind, from_behind=from_behind)
    board, object_id = Board(canvas, x, z), canvas.new_id("rider")
    coat, legs = _pick(rng, CLOTHES), _pick(rng, CLOTHES)
    lean = 0.0 if from_behind else rng.choice([-0.28, 0.28])
    for side in (-1, 1):
        knee = (side * 0.18, 0.62) if from_behind else (lean * 0.9, 0.62 + 0.1 * side)
        board.stroke([(-lean * 0.3, 0.95), knee, (knee[0] * 0.7, 0.32)], 0.14, legs, object_id)
    shoulder = (lean * 0.8, 1.42)
    board.fill([(-0.2 - lean * 0.4, 0.9), (0.18 - lean * 0.4, 0.9), (shoulder[0] + 0.22, 1.42),
                (shoulder[0] - 0.2, 1.45)], coat, object_id)  # fmt: skip
    board.stroke([shoulder, (lean * 1.6 + 0.15 * (lean == 0), 1.08)], 0.1, coat, object_id)
    _head(board, rng, (shoulder[0] + lean * 0.2, 1.62), object_id)


def draw_cycle(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, kind: str = "bicycle", *, from_behind: bool = False
) -> None:
    """A bicycle or motorcycle by itself."""
    board, object_id = Board(canvas, x, z), canvas.new_id(kind)
    paint = _pick(rng, CLOTHES)
    heavy = 2.2 if kind == "motorcycle" else 1.0
    board.shadow(0.3 if from_behind else 0.8, 0.3)
    if from_behind:
        board.stroke([(0, 0.02), (0, 0.7)], 0.09 * heavy, (28, 28, 30), object_id)
        board.stroke([(0, 0.6), (0, 1.0)], 0.12 * heavy, paint, object_id)
        board.stroke([(-0.3, 1.05), (0.3, 1.05)], 0.06, (40, 40, 42), object_id)
        return
    for wheel in (-0.52, 0.52):
        turn = np.linspace(0, 2 * np.pi, 19)
        ring = [(wheel + 0.33 * float(np.cos(a)), 0.34 + 0.33 * float(np.sin(a))) for a in turn]
        board.stroke(ring, 0.06 * heavy, (26, 26, 28), object_id)
        board.disc((wheel, 0.34), (0.06 * heavy, 0.06 * heavy), METAL, object_id)
    frame = [(-0.52, 0.34), (-0.12, 0.36), (0.36, 0.82), (-0.22, 0.8), (-0.52, 0.34)]
    board.stroke(frame, 0.07 * heavy, paint, object_id)
    board.stroke([(-0.12, 0.36), (-0.25, 0.95)], 0.06 * heavy, paint, object_id)
    board.stroke([(0.52, 0.34), (0.36, 0.98), (0.26, 1.02)], 0.06, paint, object_id)
    if kind == "motorcycle":
        board.fill([(-0.5, 0.5), (0.4, 0.42), (0.42, 0.85), (-0.55, 0.8)], paint, object_id)


def draw_lamp(canvas: Canvas, rng: np.random.Generator, x: float, z: float, ground_m: float) -> None:
    """A street lamp with its arm over the road."""
    board, tall = Board(canvas, x, z, ground_m), rng.uniform(5.5, 8.5)
    pole, arm = canvas.new_id("pole"), -np.sign(x) * rng.uniform(0.8, 1.8)
    board.stroke([(0, 0), (0, tall), (arm * 0.5, tall + 0.35), (arm, tall + 0.4)], 0.12, METAL, pole)
    board.fill([(arm, tall + 0.5), (arm * 1.45, tall + 0.42), (arm * 1.45, tall + 0.3), (arm, tall + 0.32)],
               (205, 205, 198), pole)  # fmt: skip


def draw_traffic_light(canvas: Canvas, rng: np.random.Generator, x: float, z: float, ground_m: float) -> None:
    """A signal box on a pole; one of the three lamps is on."""
    board, tall, pole = Board(canvas, x, z, ground_m), rng.uniform(2.4, 3.0), canvas.new_id("pole")
    board.stroke([(0, 0), (0, tall + 0.6)], 0.12, (70, 74, 76), pole)
    spots = [0.0]
    if rng.random() < 0.5:  # a second box on a mast arm above the lane
        reach = -np.sign(x) * rng.uniform(2.0, 3.2)
        board.stroke([(0, tall), (0, 5.4), (reach, 5.6)], 0.13, (70, 74, 76), pole)
        spots.append(reach)
    lit = rng.integers(3)
    for spot in spots:
        base = tall if spot == 0.0 else 4.9
        box, signal = 0.2, canvas.new_id("traffic light")
        board.fill([(spot - box, base), (spot + box, base), (spot + box, base + 1.0), (spot - box, base + 1.0)],
                   (26, 28, 28), signal)  # fmt: skip
        for place, color in enumerate([(40, 220, 120), (250, 190, 40), (240, 40, 30)]):
            glow: Color = color if place == lit else (58, 52, 48)
            board.disc((spot, base + 0.2 + 0.3 * place), (0.12, 0.12), glow)


def draw_sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float, ground_m: float) -> None:
    """A traffic sign on a thin pole: ring, triangle, square or arrow board."""
    board, pole, sign = Board(canvas, x, z, ground_m), canvas.new_id("pole"), canvas.new_id("traffic sign")
    tall, red, white, blue = rng.uniform(2.1, 2.6), (204, 22, 28), (238, 238, 234), (22, 70, 160)
    board.stroke([(0, 0), (0, tall + 0.4)], 0.08, METAL, pole)
    kind, size = rng.integers(4), rng.uniform(0.3, 0.42)
    if kind == 0:
        board.disc((0, tall + 0.3), (size, size), red, sign)
        board.disc((0, tall + 0.3), (0.72 * size, 0.72 * size), white)
    elif kind == 1:
        board.fill([(-size, tall), (size, tall), (0, tall + 1.7 * size)], red, sign)
        board.fill([(-0.6 * size, tall + 0.2 * size), (0.6 * size, tall + 0.2 * size), (0, tall + 1.25 * size)], white)
    else:
        wide = size if kind == 2 else 1.5 * size
        back: tuple[Color, Color] = (blue, white) if kind == 2 else ((240, 200, 30), (30, 30, 30))
        board.fill(_rectangle(0, tall + 0.3, wide, size if kind == 2 else 0.7 * size), back[0], sign)
        board.fill(_rectangle(0, tall + 0.3, 0.55 * wide, 0.3 * size), back[1])


def draw_tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float, ground_m: float) -> None:
    """A trunk and a crown of leaf clumps, lit from above; all of it is vegetation."""
    board, plant = Board(canvas, x, z, ground_m), canvas.new_id("vegetation")
    trunk, crown = rng.uniform(1.6, 3.0), rng.uniform(1.3, 2.8)
    green = np.array([rng.uniform(50, 96), rng.uniform(86, 124), rng.uniform(34, 62)])
    board.shadow(crown, 2.0)
    board.fill([(-0.16, 0), (0.16, 0), (0.1, trunk + crown), (-0.1, trunk + crown)], (74, 60, 48), plant)
    for clump in range(46):
        angle, reach = rng.uniform(0, 2 * np.pi), crown * np.sqrt(rng.random())
        at = (float(reach * np.cos(angle)), trunk + crown + float(1.1 * reach * np.sin(angle)))
        light = 0.55 + 0.3 * (at[1] - trunk) / (2 * crown) + 0.35 * clump / 46 * rng.uniform(0.6, 1.0)
        r, g, b = light * green
        size = crown * rng.uniform(0.14, 0.34)
        board.disc(at, (size, 0.9 * size), (r, g, b), plant)


def _torso(board: Board, rng: np.random.Generator, low: float, high: float, coat: Color, object_id: int) -> None:
    wide = rng.uniform(0.19, 0.26)
    board.fill([(-0.8 * wide, low), (0.8 * wide, low), (wide, high), (-wide, high)], coat, object_id)


def _head(board: Board, rng: np.random.Generator, at: tuple[float, float], object_id: int) -> None:
    board.disc(at, (0.11, 0.14), _pick(rng, SKIN), object_id)
    hair: Color = _pick(rng, ((40, 30, 24), (90, 66, 40), (24, 22, 22), (150, 140, 130)))
    board.fill([(at[0] - 0.12, at[1]), (at[0] + 0.12, at[1]), (at[0] + 0.1, at[1] + 0.14), (at[0] - 0.1, at[1] + 0.14)],
               hair, object_id)  # fmt: skip


def _rectangle(x: float, y: float, half_wide: float, half_tall: float) -> list[tuple[float, float]]:
    return [
        (x - half_wide, y - half_tall),
        (x + half_wide, y - half_tall),
        (x + half_wide, y + half_tall),
        (x - half_wide, y + half_tall),
    ]


def _pick(rng: np.random.Generator, options: tuple[Color, ...]) -> Color:
    return options[int(rng.integers(len(options)))]
