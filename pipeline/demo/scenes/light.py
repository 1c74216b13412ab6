"""Surface grain, light and the camera's own faults: what keeps a drawn street from being flat color."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.demo.scenes.canvas import LABEL_IDS, OVERSAMPLING, Canvas
from hmsa_label.pipeline.records import U8

TILE_PX = 512
PX_PER_M = 24.0
GROUND = ("road", "sidewalk", "terrain")
# Share by which brightness varies from place to place on a surface: (fine grain, coarse blotches).
GRAIN = {
    "vegetation": (0.26, 0.16),
    "terrain": (0.14, 0.10),
    "building": (0.04, 0.05),
    "wall": (0.08, 0.06),
    "fence": (0.06, 0.05),
    "road": (0.03, 0.03),
    "sidewalk": (0.03, 0.03),
    "person": (0.08, 0.04),
}
Picture = NDArray[np.float32]


def texture_ground(canvas: Canvas, rng: np.random.Generator) -> None:
    """Grain that lies on the ground in perspective, with joints between paving slabs on sidewalks."""
    camera, (height, width) = canvas.camera, canvas.ids.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    below = np.maximum(rows - camera.center_px[0], 1.0)
    z = camera.focal_px * camera.height_m / below
    x = (columns - camera.center_px[1]) * z / camera.focal_px - 0.5 * camera.bend_per_m * z**2
    across, along = (x * PX_PER_M) % TILE_PX, (z * PX_PER_M) % TILE_PX
    tile = _noise(rng, (TILE_PX, TILE_PX), 1) * 0.5 + _noise(rng, (TILE_PX, TILE_PX), 12) * 0.6
    grain = cv2.remap(tile, across.astype(np.float32), along.astype(np.float32), cv2.INTER_LINEAR)
    near = np.exp(-z / 25.0)
    gain = 1 + 0.12 * grain * near
    slab = float(rng.uniform(0.5, 1.2))
    joint = ((x % slab) < 0.03) | ((z % slab) < 0.04)
    gain -= np.where(joint & (canvas.ids == LABEL_IDS["sidewalk"]) & (z < 14), 0.16 * near, 0)
    ground = np.isin(canvas.ids, [LABEL_IDS[name] for name in GROUND])
    lit = canvas.color.astype(np.float32) * np.where(ground, gain, 1.0)[..., None]
    canvas.color[:] = np.clip(lit, 0, 255).astype(np.uint8)


def finish_picture(canvas: Canvas, rng: np.random.Generator) -> tuple[U8, NDArray[np.int32]]:
    """The canvas at its final size, with grain, clouds, uneven light, white balance, blur and sensor noise."""
    color, ids = canvas.shrunk()
    picture = color.astype(np.float32)
    labels = np.where(ids >= 1000, ids // 1000, ids)
    horizon = canvas.camera.center_px[0] / OVERSAMPLING
    picture *= (1 + _grain(rng, labels) * _nearness(ids.shape, horizon))[..., None]
    picture = _clouds(rng, picture, labels)
    picture *= _uneven_light(rng, ids.shape)[..., None]
    picture *= np.float32(rng.uniform(0.82, 1.14)) * rng.normal(1, 0.02, 3).astype(np.float32)
    gamma = np.float32(rng.uniform(0.88, 1.15))
    picture = np.asarray(255 * np.clip(picture / 255, 0, 1) ** gamma, np.float32)
    picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.35, 0.7)))
    picture += rng.normal(0, rng.uniform(1.0, 4.5), picture.shape).astype(np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), ids


def _grain(rng: np.random.Generator, labels: NDArray[np.int32]) -> Picture:
    fine, coarse = _noise(rng, labels.shape, 1), _noise(rng, labels.shape, max(3, labels.shape[0] // 24))
    fine_of, coarse_of = np.full(256, 0.02, np.float32), np.full(256, 0.02, np.float32)
    for name, (fine_share, coarse_share) in GRAIN.items():
        fine_of[LABEL_IDS[name]], coarse_of[LABEL_IDS[name]] = fine_share, coarse_share
    fine_of[LABEL_IDS["sky"]] = coarse_of[LABEL_IDS["sky"]] = 0.0
    return np.asarray(fine * fine_of[labels] + coarse * coarse_of[labels], np.float32)


def _nearness(shape: tuple[int, ...], horizon_px: float) -> Picture:
    """[H, 1] share of the grain that shows: little at the horizon, where everything is far away."""
    away = np.abs(np.arange(shape[0], dtype=np.float32) - horizon_px) / shape[0]
    return np.asarray(np.clip(away / 0.22, 0.3, 1.0)[:, None], np.float32)


def _clouds(rng: np.random.Generator, picture: Picture, labels: NDArray[np.int32]) -> Picture:
    """Soft white over the sky, so that bright sky and bright walls are not told apart by color alone."""
    height = labels.shape[0]
    cover = _noise(rng, labels.shape, max(4, height // 8)) + 0.5 * _noise(rng, labels.shape, max(3, height // 20))
    share = np.clip(0.35 * (cover + rng.uniform(-1, 1)), 0, 0.85) * (labels == LABEL_IDS["sky"])
    return np.asarray(picture * (1 - share[..., None]) + 238.0 * share[..., None], np.float32)


def _uneven_light(rng: np.random.Generator, shape: tuple[int, ...]) -> Picture:
    """Brighter and darker parts of the picture, darker corners."""
    height, width = shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    corners = 1 - rng.uniform(0.0, 0.14) * (x**2 + y**2)
    slope = 1 + rng.uniform(-0.1, 0.1) * x
    return np.asarray(corners * slope, np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], cell_px: int) -> Picture:
    """[H, W] float32 noise of unit variance or less that changes every `cell_px` pixels."""
    height, width = (-(-side // cell_px) + 1 for side in shape)
    cells = rng.standard_normal((height, width), dtype=np.float32)
    if cell_px == 1:
        return cells[: shape[0], : shape[1]]
    large = cv2.resize(cells, (width * cell_px, height * cell_px), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large[: shape[0], : shape[1]], np.float32)
