"""One street: where things stand along it, and the order and light in which they are painted."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.demo.scenes.canvas import OVERSAMPLING, Camera, Canvas, Color
from hmsa_label.pipeline.demo.scenes.figures import (
    draw_cycle,
    draw_cyclist,
    draw_lamp,
    draw_person,
    draw_sign,
    draw_traffic_light,
    draw_tree,
)
from hmsa_label.pipeline.demo.scenes.houses import draw_lot
from hmsa_label.pipeline.demo.scenes.light import finish_picture, texture_ground
from hmsa_label.pipeline.demo.scenes.vehicles import Pose, draw_bus, draw_car, draw_truck
from hmsa_label.pipeline.records import U8

CURB_M = 0.14
FAR_M = 160.0
DEPTHS_M = (2.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0, 28.0, 40.0, 60.0, 90.0, 130.0, 200.0)
Thing = tuple[float, Callable[[], None]]


@dataclass(frozen=True, kw_only=True)
class Street:
    """The cross-section, x in meters from the camera's lane; `left` values are negative.

    Attributes:
        road: left and right curb. walk: outer edges of the sidewalks. front: house fronts.
        green: whether the strip between sidewalk and houses is grass.
        sun: brightness of what faces right (houses on the left) and what faces left.
    """

    road: tuple[float, float]
    walk: tuple[float, float]
    front: tuple[float, float]
    green: tuple[bool, bool]
    sun: tuple[float, float]
    overcast: bool


def draw_street(size: tuple[int, int], rng: np.random.Generator) -> tuple[U8, NDArray[np.int32]]:
    """A random street: [H, W, 3] uint8 RGB and [H, W] int32 ids (raw id, or raw id * 1000 + number for things)."""
    street = _random_street(rng)
    canvas = Canvas(size, _random_camera(size, rng, street))
    _sky(canvas, rng, street)
    _skyline(canvas, rng)
    _ground(canvas, rng, street)
    texture_ground(canvas, rng)
    _markings(canvas, rng, street)
    _house_shadow(canvas, rng, street)
    things = [*_lots(canvas, rng, street), *_furniture(canvas, rng, street), *_traffic(canvas, rng, street)]
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw()
    if rng.random() < 0.7:
        _hood(canvas, rng)
    return finish_picture(canvas, rng)


def _random_street(rng: np.random.Generator) -> Street:
    road = (-float(rng.uniform(5.2, 8.8)), float(rng.uniform(2.4, 5.2)))
    walk = (road[0] - float(rng.uniform(1.8, 4.0)), road[1] + float(rng.uniform(1.8, 4.0)))
    setback = [float(rng.choice([0.0, rng.uniform(1.5, 6.0)])) for _ in range(2)]
    overcast = bool(rng.random() < 0.4)
    bright, dark = (0.95, 0.8) if overcast else (1.12, 0.62)
    return Street(
        road=road,
        walk=walk,
        front=(walk[0] - setback[0], walk[1] + setback[1]),
        green=(bool(rng.random() < 0.8), bool(rng.random() < 0.8)),
        sun=(bright, dark) if rng.random() < 0.5 else (dark, bright),
        overcast=overcast,
    )


def _random_camera(size: tuple[int, int], rng: np.random.Generator, street: Street) -> Camera:
    height, width = (OVERSAMPLING * side for side in size)
    gray = rng.uniform(190, 225)
    haze = (gray, gray + 2, gray + 6) if street.overcast else (gray - 12, gray, gray + 18)
    return Camera(
        focal_px=width * float(rng.uniform(0.85, 1.05)),
        center_px=(height * float(rng.uniform(0.40, 0.48)), width * float(rng.uniform(0.44, 0.56))),
        height_m=float(rng.uniform(1.25, 1.6)),
        bend_per_m=float(rng.normal(0, 0.0012)),
        haze=haze,
        visibility_m=float(rng.uniform(140, 420)),
    )


def _sky(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """A gradient down to the haze, with clouds."""
    height, width = canvas.ids.shape
    top = np.array([168, 178, 190] if street.overcast else [70, 120, 190], np.float32) + rng.normal(0, 10, 3)
    horizon = max(1.0, canvas.camera.center_px[0])
    share = np.clip(np.arange(height) / horizon, 0, 1)[:, None, None] ** 0.8
    sky = top * (1 - share) + np.array(canvas.camera.haze) * share
    canvas.color[:] = np.clip(np.broadcast_to(sky, (height, width, 3)), 0, 255).astype(np.uint8)
    canvas.ids[:] = canvas.new_id("sky")


def _skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """What closes the street far away: roofs and tree tops in the haze."""
    for label, color, reach in (("building", (120, 112, 108), (6, 22)), ("vegetation", (66, 84, 56), (3, 9))):
        object_id = canvas.new_id(label)
        edges = np.cumsum(rng.uniform(4, 16, 60)) - 300
        for left, right in itertools.pairwise(edges):
            top = rng.uniform(*reach)
            shade = rng.uniform(0.85, 1.15)
            r, g, b = (channel * shade for channel in color)
            corners = [(left, 0, FAR_M), (right + 0.5, 0, FAR_M), (right + 0.5, top, FAR_M), (left, top, FAR_M)]
            canvas.surface(corners, (r, g, b), object_id)


def _ground(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Strips along the street, from the outside inwards."""
    gray = rng.uniform(72, 112)
    asphalt: Color = (gray, gray, gray + rng.uniform(-2, 7))
    paving = gray + rng.uniform(18, 60)
    stone: Color = (paving + rng.uniform(0, 12), paving, paving - rng.uniform(0, 10))
    grass: Color = (rng.uniform(84, 120), rng.uniform(112, 142), rng.uniform(56, 76))
    for side, index in ((-1, 0), (1, 1)):
        behind = "terrain" if street.green[index] else "sidewalk"
        color = grass if street.green[index] else stone
        _strip(canvas, (street.walk[index], side * 80.0), CURB_M, color, behind)
        _strip(canvas, (street.road[index], street.walk[index]), CURB_M, stone, "sidewalk")
    _strip(canvas, street.road, 0.0, asphalt, "road")
    for edge, side in ((street.road[0], -1), (street.road[1], 1)):
        _curb(canvas, edge, side, stone)


def _strip(canvas: Canvas, x: tuple[float, float], up: float, color: Color, label: str) -> None:
    object_id = canvas.new_id(label)
    for near, far in itertools.pairwise(DEPTHS_M):
        corners = [(x[0], up, near), (x[1], up, near), (x[1], up, far), (x[0], up, far)]
        canvas.surface(corners, color, object_id)


def _curb(canvas: Canvas, x: float, side: int, stone: Color) -> None:
    """The upright edge of the sidewalk and its light top line."""
    walk, (r, g, b) = canvas.new_id("sidewalk"), stone
    for near, far in itertools.pairwise(DEPTHS_M):
        face = [(x, 0.0, near), (x, CURB_M, near), (x, CURB_M, far), (x, 0.0, far)]
        canvas.surface(face, (0.6 * r, 0.6 * g, 0.6 * b), walk)
        top = [(x, CURB_M, near), (x + side * 0.2, CURB_M, near), (x + side * 0.2, CURB_M, far), (x, CURB_M, far)]
        canvas.surface(top, (1.12 * r, 1.12 * g, 1.12 * b), walk)


def _markings(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Lane lines, sometimes a crossing and patches of newer asphalt; all of it is road."""
    for _ in range(rng.integers(0, 5)):
        x, z = rng.uniform(*street.road) * 0.8, rng.uniform(5, 30)
        wide, long = rng.uniform(0.4, 1.6), rng.uniform(1, 7)
        tone = rng.uniform(52, 96)
        canvas.surface([(x, 0, z), (x + wide, 0, z), (x + wide, 0, z + long), (x, 0, z + long)], (tone, tone, tone))
    if rng.random() < 0.85:
        start, white = rng.uniform(2, 8), rng.uniform(170, 225)
        dash, gap = (3.0, rng.uniform(3, 7)) if rng.random() < 0.75 else (4.0, 0.0)
        lines = [-1.75] if rng.random() < 0.7 else [-1.75, street.road[1] - 0.35]
        for x in lines:
            for z in np.arange(start, 90, dash + gap):
                _paint(canvas, (x - 0.07, x + 0.07), (float(z), float(z + dash)), white)
    if rng.random() < 0.3:
        z, white = rng.uniform(9, 26), rng.uniform(170, 220)
        for x in np.arange(street.road[0] + 0.3, street.road[1] - 0.5, 1.0):
            _paint(canvas, (float(x), float(x + 0.5)), (z, z + 3.5), white)


def _paint(canvas: Canvas, x: tuple[float, float], z: tuple[float, float], tone: float) -> None:
    canvas.surface([(x[0], 0, z[0]), (x[1], 0, z[0]), (x[1], 0, z[1]), (x[0], 0, z[1])], (tone, tone, tone * 0.97))


def _house_shadow(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """On a sunny day the houses of the dark side throw their shadow across the street."""
    if street.overcast:
        return
    side = int(np.argmin(street.sun))
    x, inward = street.front[side], 1 if side == 0 else -1
    z = float(rng.uniform(6, 14))
    while z < 90:
        long, reach = rng.uniform(8, 20), rng.uniform(2, 11)
        ring = [(x, 0, z), (x + inward * reach, 0, z), (x + inward * reach, 0, z + long), (x, 0, z + long)]
        canvas.shade(canvas.camera.project(np.array(ring, np.float64)), 0.58)
        z += long + rng.uniform(0, 8)


def _lots(canvas: Canvas, rng: np.random.Generator, street: Street) -> list[Thing]:
    """Houses, walls, fences and hedges along both fronts, each sorted by its far end."""
    things: list[Thing] = []
    for index in (0, 1):
        z = float(rng.uniform(2, 6))
        while z < FAR_M - 20:
            long = float(rng.uniform(7, 22))
            draw = partial(draw_lot, canvas, np.random.default_rng(rng.integers(2**32)), street.front[index],
                           (z, z + long), street.sun[index])  # fmt: skip
            things.append((z + long, draw))
            z += long
    return things


def _furniture(canvas: Canvas, rng: np.random.Generator, street: Street) -> list[Thing]:
    """Lamps, signs, signals, trees, parked cycles and people on the sidewalks."""
    things: list[Thing] = []
    kinds = (
        (draw_lamp, 24.0),
        (draw_sign, 22.0),
        (draw_traffic_light, 40.0),
        (draw_tree, rng.choice([9.0, 16.0, 60.0])),
    )
    for index, side in ((0, -1), (1, 1)):
        for draw, spacing in kinds:
            edge = street.walk[index] if draw is draw_tree and rng.random() < 0.5 else street.road[index] + side * 0.45
            for z in np.arange(rng.uniform(6, 6 + spacing), 110, spacing):
                at = float(z * rng.uniform(0.92, 1.08))
                things.append((at, partial(draw, canvas, rng, edge + float(rng.normal(0, 0.1)), at, CURB_M)))
        for _ in range(rng.poisson(5)):
            at, x = _depth(rng, 7, 60), _on_walk(rng, street, index)
            things.append((at, partial(draw_person, canvas, rng, x, at, CURB_M)))
        for _ in range(rng.poisson(1.2)):
            at, x = _depth(rng, 7, 35), _on_walk(rng, street, index)
            things.append((at, partial(draw_cycle, canvas, rng, x, at)))
    return things


def _traffic(canvas: Canvas, rng: np.random.Generator, street: Street) -> list[Thing]:
    """Parked cars at the curbs, vehicles and cycles in the lanes, people crossing."""
    things: list[Thing] = []
    for index, inward, oncoming in ((0, 1, True), (1, -1, False)):
        if street.road[index] * -inward < (6.6 if index == 0 else 3.6):
            continue
        z = float(rng.uniform(5, 12))
        while z < 80:
            pose = Pose(x=street.road[index] + inward * float(rng.uniform(1.0, 1.25)), z=z)
            if rng.random() < 0.7:
                things.append((z, partial(_vehicle, canvas, rng, pose, oncoming, 0.04)))
            z += float(rng.uniform(5.2, 7.5))
    for lane, oncoming, mean in ((0.0, False, 1.1), (-3.4, True, 1.4)):
        z = float(rng.uniform(9, 22))
        for _ in range(rng.poisson(mean)):
            pose = Pose(x=lane + float(rng.normal(0, 0.2)), z=z, heading=float(rng.normal(0, 0.03)))
            things.append((z, partial(_vehicle, canvas, rng, pose, oncoming, 0.3)))
            z += float(rng.uniform(12, 30))
    if rng.random() < 0.25:
        pose = Pose(x=float(rng.uniform(-9, -2)), z=float(rng.uniform(18, 40)), heading=np.pi / 2)
        things.append((pose.z, partial(draw_car, canvas, rng, pose)))
    for _ in range(rng.poisson(1.3)):
        at, kind = _depth(rng, 8, 35), "bicycle" if rng.random() < 0.75 else "motorcycle"
        x = float(rng.choice([street.road[1] - 0.7, street.road[0] + 0.9, rng.uniform(-3, 1)]))
        things.append((at, partial(draw_cyclist, canvas, rng, x, at, kind)))
    for _ in range(rng.poisson(0.7)):
        at = _depth(rng, 10, 45)
        things.append((at, partial(draw_person, canvas, rng, float(rng.uniform(*street.road)), at)))
    return things


def _vehicle(canvas: Canvas, rng: np.random.Generator, pose: Pose, oncoming: bool, large: float) -> None:
    draw = draw_car if rng.random() > large else (draw_truck if rng.random() < 0.5 else draw_bus)
    draw(canvas, rng, pose, oncoming=oncoming)


def _depth(rng: np.random.Generator, near: float, far: float) -> float:
    """A distance drawn so that near ones are more frequent, as they are in pictures."""
    return float(np.exp(rng.uniform(np.log(near), np.log(far))))


def _on_walk(rng: np.random.Generator, street: Street, index: int) -> float:
    return float(street.road[index] + (street.walk[index] - street.road[index]) * rng.uniform(0.2, 1.0))


def _hood(canvas: Canvas, rng: np.random.Generator) -> None:
    """The own car's bonnet at the lower edge, which no class covers."""
    height, width = canvas.ids.shape
    top, tone = height * rng.uniform(0.90, 0.95), rng.uniform(18, 60)
    across = np.linspace(-0.02, 1.02, 24)
    curve = top + height * 0.08 * (2 * np.abs(across - 0.5)) ** 3
    ring = np.concatenate([np.stack([across * width, curve], 1), [[1.02 * width, height], [-0.02 * width, height]]])
    canvas.polygons([ring], (tone, tone, tone + 6), canvas.new_id("ego vehicle"))
    shine = ring.copy()
    shine[:24, 1] += height * 0.012
    canvas.polygons([shine], (tone * 0.8, tone * 0.8, tone * 0.85))
