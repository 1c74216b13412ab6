"""A canvas that paints color and ids at once, and the camera that looks at it.

World points are (x right, y up, z ahead) in meters, the camera stands `height_m` above (0, 0, 0) and looks along z.
Everything is painted twice as large and shrunk at the end, which softens edges as a lens does.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.records import U8

OVERSAMPLING = 2
NEAR_M = 2.0
# Raw ids as the Cityscapes benchmark publishes them; only what scenes contain.
LABEL_IDS = {
    "unlabeled": 0,
    "ego vehicle": 1,
    "static": 4,
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "motorcycle": 32,
    "bicycle": 33,
}
FIRST_THING = 24

Color = tuple[float, float, float]
Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera over a road that may bend; lengths in meters, picture units in oversampled pixels."""

    focal_px: float
    center_px: tuple[float, float]
    height_m: float
    bend_per_m: float
    haze: Color
    visibility_m: float

    def project(self, points: Points) -> Points:
        """[N, 3] world points -> [N, 2] picture (x, y)."""
        z = np.maximum(points[:, 2], NEAR_M)
        x = points[:, 0] + 0.5 * self.bend_per_m * z**2
        return np.stack(
            [
                self.center_px[1] + self.focal_px * x / z,
                self.center_px[0] + self.focal_px * (self.height_m - points[:, 1]) / z,
            ],
            axis=1,
        )

    def through_air(self, color: Color, z: float) -> Color:
        """The color as it looks from a distance of z meters."""
        clear = float(np.exp(-z / self.visibility_m))
        r, g, b = (clear * near + (1 - clear) * far for near, far in zip(color, self.haze, strict=True))
        return (r, g, b)


class Canvas:
    """Color [H, W, 3] uint8 and ids [H, W] int32 (raw id, or raw id * 1000 + number for things), oversampled."""

    def __init__(self, size: tuple[int, int], camera: Camera) -> None:
        height, width = (OVERSAMPLING * side for side in size)
        self.camera = camera
        self.color: U8 = np.zeros((height, width, 3), np.uint8)
        self.ids = np.zeros((height, width), np.int32)
        self._counts: dict[str, int] = {}

    def new_id(self, label: str) -> int:
        """The id for one more object of a class; things are numbered."""
        raw = LABEL_IDS[label]
        if raw < FIRST_THING:
            return raw
        self._counts[label] = self._counts.get(label, -1) + 1
        return raw * 1000 + self._counts[label]

    def polygons(self, shapes: list[Points], color: Color, object_id: int | None = None) -> None:
        """Fills picture polygons; without an id only the color changes (a window, a marking)."""
        corners = [np.rint(shape).clip(-20000, 20000).astype(np.int32) for shape in shapes]
        cv2.fillPoly(self.color, corners, _bounded(color))
        if object_id is not None:
            cv2.fillPoly(self.ids, corners, (object_id,))

    def surface(self, corners: list[tuple[float, float, float]], color: Color, object_id: int | None = None) -> None:
        """Fills a world polygon with a color dulled by its distance."""
        self.surfaces([corners], color, object_id)

    def surfaces(
        self, shapes: list[list[tuple[float, float, float]]], color: Color, object_id: int | None = None
    ) -> None:
        """Fills world polygons that share a color and lie at about one distance."""
        if shapes:
            z = float(np.mean([corner[2] for corner in shapes[0]]))
            pictures = [self.camera.project(np.asarray(shape, np.float64)) for shape in shapes]
            self.polygons(pictures, self.camera.through_air(color, z), object_id)

    def line(self, points: Points, width_px: float, color: Color, object_id: int | None = None) -> None:
        """A polyline in the picture, at least one final pixel wide so that far poles keep their label."""
        corners = [np.rint(points).clip(-20000, 20000).astype(np.int32)]
        width = max(OVERSAMPLING, round(width_px))
        cv2.polylines(self.color, corners, False, _bounded(color), width)
        if object_id is not None:
            cv2.polylines(self.ids, corners, False, (object_id,), width)

    def shade(self, shape: Points, factor: float) -> None:
        """Darkens a picture polygon: a shadow on whatever is there."""
        blur, (height, width) = max(1.0, self.ids.shape[0] / 200), self.ids.shape
        margin = int(4 * blur)
        left, top = np.clip(shape.min(axis=0).astype(int) - margin, 0, (width, height))
        right, bottom = np.clip(shape.max(axis=0).astype(int) + margin, 0, (width, height))
        if right <= left or bottom <= top:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [np.rint(shape - (left, top)).clip(-20000, 20000).astype(np.int32)], (255,))
        mask = cv2.GaussianBlur(mask, (0, 0), blur)
        light = 1 - (1 - factor) * mask[..., None].astype(np.float32) / 255
        window = self.color[top:bottom, left:right]
        window[:] = np.rint(window * light).astype(np.uint8)

    def shrunk(self) -> tuple[U8, NDArray[np.int32]]:
        """Color averaged and ids sampled at the final size."""
        height, width = (side // OVERSAMPLING for side in self.ids.shape)
        color = cv2.resize(self.color, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(color, np.uint8), self.ids[::OVERSAMPLING, ::OVERSAMPLING].copy()


class Board:
    """An upright board in the world, facing the camera, to draw one thin object on; coordinates in meters.

    (0, 0) is the point where the object touches the ground, x goes right, y up.
    """

    def __init__(self, canvas: Canvas, x: float, z: float, ground_m: float = 0.0) -> None:
        self.canvas = canvas
        self.z = z
        self.scale_px = canvas.camera.focal_px / z
        self.foot = canvas.camera.project(np.array([[x, ground_m, z]]))[0]

    def at(self, points: list[tuple[float, float]]) -> Points:
        """[N, 2] picture points of board points."""
        return self.foot + np.asarray(points, np.float64) * (self.scale_px, -self.scale_px)

    def fill(self, points: list[tuple[float, float]], color: Color, object_id: int | None = None) -> None:
        self.canvas.polygons([self.at(points)], self.canvas.camera.through_air(color, self.z), object_id)

    def disc(
        self, center: tuple[float, float], radii: tuple[float, float], color: Color, object_id: int | None = None
    ) -> None:
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ring = zip(center[0] + radii[0] * np.cos(turn), center[1] + radii[1] * np.sin(turn), strict=True)
        self.fill([(float(x), float(y)) for x, y in ring], color, object_id)

    def stroke(
        self, points: list[tuple[float, float]], width_m: float, color: Color, object_id: int | None = None
    ) -> None:
        shown = self.canvas.camera.through_air(color, self.z)
        self.canvas.line(self.at(points), width_m * self.scale_px, shown, object_id)

    def shadow(self, half_width_m: float, depth_m: float = 0.5) -> None:
        """A soft contact shadow on the ground around the foot."""
        turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        flat = depth_m * self.canvas.camera.height_m / self.z
        ring = np.stack([half_width_m * np.cos(turn), flat * np.sin(turn)], axis=1)
        self.canvas.shade(self.foot + ring * self.scale_px, 0.6)


def _bounded(color: Color) -> tuple[int, int, int]:
    r, g, b = (round(min(255.0, max(0.0, channel))) for channel in color)
    return (r, g, b)
