"""Cars, vans, trucks and buses as slanted blocks in the world, seen from wherever the camera stands."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.demo.scenes.canvas import Canvas, Color, Points

GLASS: Color = (38, 46, 54)
TIRE: Color = (22, 22, 24)
SIDES = ("rear", "right", "front", "left")
PAINTS: tuple[Color, ...] = (
    (232, 232, 230),
    (30, 30, 33),
    (120, 124, 128),
    (176, 180, 184),
    (44, 62, 104),
    (140, 28, 30),
    (70, 92, 72),
    (196, 170, 120),
    (88, 60, 48),
)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a vehicle's rear middle touches the ground, in meters, and its heading: 0 along z, turning to the right."""

    x: float
    z: float
    heading: float = 0.0

    def place(self, local: Points) -> Points:
        """[N, 3] local (lateral, up, forward) points -> world points."""
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        return np.stack(
            [
                self.x + cos * local[:, 0] + sin * local[:, 2],
                local[:, 1],
                self.z - sin * local[:, 0] + cos * local[:, 2],
            ],
            axis=1,
        )


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block that may narrow upwards: (left, right, back, front) at the bottom and at the top, meters."""

    low_m: float
    high_m: float
    bottom: tuple[float, float, float, float]
    top: tuple[float, float, float, float]


Faces = dict[str, NDArray[np.float64]]


def draw_car(canvas: Canvas, rng: np.random.Generator, pose: Pose, *, oncoming: bool = False) -> None:
    """A hatchback, saloon or van; `oncoming` shows its front at the near end."""
    object_id, paint = canvas.new_id("car"), PAINTS[rng.integers(len(PAINTS))]
    half, length = rng.uniform(0.82, 0.95), rng.uniform(3.8, 4.7)
    roof, bonnet = rng.choice([1.42, 1.5, 1.85], p=[0.5, 0.35, 0.15]), rng.uniform(0.8, 1.2)
    boot = rng.uniform(0.05, 0.7)
    near, far = (bonnet, boot) if oncoming else (boot, bonnet)
    belt = rng.uniform(0.8, 0.92)
    _ground_shadow(canvas, pose, half, length)
    body = Block(low_m=0.28, high_m=belt, bottom=(-half, half, 0, length), top=(-half, half, 0.08, length - 0.08))
    cabin = Block(
        low_m=belt,
        high_m=roof,
        bottom=(-half + 0.05, half - 0.05, near, length - far),
        top=(-half + 0.2, half - 0.2, near + 0.45, length - far - 0.5),
    )
    _wheels(canvas, pose, half, length, object_id)
    faces = _draw(canvas, pose, body, paint, object_id)
    _lights(canvas, faces, pose, oncoming, object_id)
    for name, face in _draw(canvas, pose, cabin, paint, object_id).items():
        spans = ((0.06, 0.48), (0.54, 0.94)) if name in ("left", "right") else ((0.08, 0.92),)
        _patches(canvas, face, [(*span, 0.12, 0.86) for span in spans], GLASS)


def draw_truck(canvas: Canvas, rng: np.random.Generator, pose: Pose, *, oncoming: bool = False) -> None:
    """A box truck: cargo and cab."""
    object_id, paint = canvas.new_id("truck"), PAINTS[rng.integers(len(PAINTS))]
    half, length, height = rng.uniform(1.1, 1.25), rng.uniform(5.5, 8.0), rng.uniform(2.8, 3.6)
    _ground_shadow(canvas, pose, half, length + 2)
    _wheels(canvas, pose, half, length + 1.5, object_id, 0.48)
    cargo_at, cab_at = (1.9, 0.0) if oncoming else (0.0, length + 0.1)
    cab = _straight(half - 0.05, cab_at, cab_at + 1.8, 0.5, 2.5)
    cargo = _straight(half, cargo_at, cargo_at + length, 0.9, height)
    chassis = _straight(half - 0.2, 0.1, length + 1.5, 0.45, 0.9)
    _draw(canvas, pose, chassis, (48, 48, 50), object_id)
    tarp: Color = paint if rng.random() < 0.5 else (210, 208, 200)
    for block, color in ((cargo, tarp), (cab, paint)) if oncoming else ((cab, paint), (cargo, tarp)):
        faces = _draw(canvas, pose, block, color, object_id)
        if block is cab:
            for face in faces.values():
                _patches(canvas, face, [(0.1, 0.9, 0.5, 0.88)], GLASS)
        elif "rear" in faces and not oncoming:
            _patches(canvas, faces["rear"], [(0.49, 0.51, 0.02, 0.98)], (60, 60, 62))


def draw_bus(canvas: Canvas, rng: np.random.Generator, pose: Pose, *, oncoming: bool = False) -> None:
    """A city bus with a row of windows."""
    object_id = canvas.new_id("bus")
    paints: tuple[Color, ...] = ((190, 40, 36), (222, 190, 60), (226, 226, 220), (48, 110, 70))
    half, length = 1.25, rng.uniform(9.5, 12.0)
    _ground_shadow(canvas, pose, half, length)
    _wheels(canvas, pose, half, length, object_id, 0.46)
    block = _straight(half, 0, length, 0.35, rng.uniform(2.9, 3.2))
    faces = _draw(canvas, pose, block, paints[rng.integers(len(paints))], object_id)
    for name, face in faces.items():
        if name in ("left", "right"):
            starts = np.arange(0.03, 0.93, 0.12)
            _patches(canvas, face, [(start, start + 0.1, 0.42, 0.82) for start in starts], GLASS)
        else:
            _patches(canvas, face, [(0.06, 0.94, 0.4, 0.8)], GLASS)
            _patches(canvas, face, [(0.3, 0.7, 0.86, 0.96)], (240, 160, 40) if oncoming else (30, 30, 30))
    _lights(canvas, faces, pose, oncoming, object_id)


def _straight(half: float, back: float, front: float, low: float, high: float) -> Block:
    sides = (-half, half, back, front)
    return Block(low_m=low, high_m=high, bottom=sides, top=sides)


def _draw(canvas: Canvas, pose: Pose, block: Block, paint: Color, object_id: int) -> Faces:
    """Fills the faces that the camera can see, far ones first; gives their world corners."""
    low, high = _ring(pose, block.bottom, block.low_m), _ring(pose, block.top, block.high_m)
    faces = {
        name: np.stack([low[i], low[(i + 1) % 4], high[(i + 1) % 4], high[i]])
        for i, name in enumerate(SIDES)
        if _seen(canvas, low[i], low[(i + 1) % 4])
    }
    light = {"rear": 1.0, "right": 0.78, "front": 1.0, "left": 0.86}
    for name, face in sorted(faces.items(), key=lambda item: -item[1][:, 2].mean()):
        _fill(canvas, face, _scaled(paint, light[name]), object_id)
    if block.high_m < canvas.camera.height_m:
        _fill(canvas, high, _scaled(paint, 1.18), object_id)
    return faces


def _ring(pose: Pose, sides: tuple[float, float, float, float], up: float) -> Points:
    """The four world corners: back left, back right, front right, front left."""
    left, right, back, front = sides
    return pose.place(np.array([[left, up, back], [right, up, back], [right, up, front], [left, up, front]]))


def _seen(canvas: Canvas, start: Points, end: Points) -> bool:
    """Whether the upright face from start to end, anticlockwise from above, looks at the camera."""
    bend = canvas.camera.bend_per_m
    middle = (start + end) / 2
    outward = np.array([end[2] - start[2], -(end[0] - start[0])])
    to_camera = -np.array([middle[0] + 0.5 * bend * middle[2] ** 2, middle[2]])
    return float(outward @ to_camera) > 0


def _fill(canvas: Canvas, corners: Points, color: Color, object_id: int | None) -> None:
    canvas.surface([(float(x), float(y), float(z)) for x, y, z in corners], color, object_id)


def _patches(canvas: Canvas, face: Points, patches: list[tuple[float, float, float, float]], color: Color) -> None:
    """Fills parts (u0, u1, v0, v1) of a face, 0..1 along its bottom and upwards."""
    for u0, u1, v0, v1 in patches:
        at = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
        corners = [_on(face, u, v) for u, v in at]
        _fill(canvas, np.stack(corners), color, None)


def _on(face: Points, u: float, v: float) -> Points:
    low = face[0] * (1 - u) + face[1] * u
    high = face[3] * (1 - u) + face[2] * u
    return np.asarray(low * (1 - v) + high * v)


def _lights(canvas: Canvas, faces: Faces, pose: Pose, oncoming: bool, object_id: int) -> None:
    for name in ("rear", "front"):
        if name in faces:
            white = oncoming == (name == "rear")
            color: Color = (255, 250, 225) if white else (200, 20, 18)
            _patches(canvas, faces[name], [(0.03, 0.2, 0.55, 0.85), (0.8, 0.97, 0.55, 0.85)], color)
            _patches(canvas, faces[name], [(0.36, 0.64, 0.22, 0.42)], (225, 225, 220))
            _patches(canvas, faces[name], [(0.0, 1.0, 0.0, 0.12)], (52, 52, 54))


def _wheels(canvas: Canvas, pose: Pose, half: float, length: float, object_id: int, radius: float = 0.33) -> None:
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for side in (-half, half):
        for forward in (0.19 * length, 0.81 * length):
            for inset, size, color in ((0.25, 1.0, TIRE), (0.0, 1.0, TIRE), (0.0, 0.55, (120, 122, 126))):
                lateral = np.full_like(turn, side - np.sign(side) * inset)
                up, along = radius * (1 + size * np.sin(turn)), forward + radius * size * np.cos(turn)
                _fill(canvas, pose.place(np.stack([lateral, up, along], axis=1)), color, object_id)


def _ground_shadow(canvas: Canvas, pose: Pose, half: float, length: float) -> None:
    sides = (-half - 0.25, half + 0.25, -0.3, length + 0.2)
    canvas.shade(canvas.camera.project(_ring(pose, sides, 0.0)), 0.45)


def _scaled(color: Color, factor: float) -> Color:
    r, g, b = color
    return (r * factor, g * factor, b * factor)
