"""Where each class occurs, tile by tile, so that crops can be drawn by class.

Every class is drawn as often as every other one, then one of the tiles that hold it, then one of its pixels there
(uniform sampling: arXiv 2005.10821, section 4.1). Tiles at the right and bottom edge are smaller, not left out, and
the pixel drawn is one of the class, not a center of mass that may lie beside it.
"""

import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.records import U8
from hmsa_label.stores.parallel import map_threads

READERS = 4


@dataclass(frozen=True, kw_only=True)
class Place:
    """A class in one tile of one image: trainId, position of the image, row and column of the tile."""

    train_id: int
    image: int
    row: int
    column: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassTiles:
    """The tiles that hold each class.

    Attributes:
        tile_px: (height, width) of a tile.
        tiles: trainId -> [n, 3] int32 (position of the image, row, column of the tile); classes without any are left
            out.
    """

    tile_px: tuple[int, int]
    tiles: dict[int, NDArray[np.int32]]

    def draw(self, rng: np.random.Generator) -> Place:
        """A class, uniformly among those present, and one of its tiles, uniformly."""
        train_id = list(self.tiles)[rng.integers(len(self.tiles))]
        places = self.tiles[train_id]
        image, row, column = places[rng.integers(len(places))].tolist()
        return Place(train_id=train_id, image=image, row=row, column=column)

    def pixel(self, label: U8, place: Place, rng: np.random.Generator) -> tuple[int, int]:
        """(y, x) of a pixel of the class in its tile, uniformly.

        Args:
            label: [H, W] uint8 trainIds of the place's image.
        """
        height, width = self.tile_px
        top, left = place.row * height, place.column * width
        tile = label[top : top + height, left : left + width]
        pixels = np.flatnonzero(tile == place.train_id)
        y, x = divmod(int(pixels[rng.integers(len(pixels))]), tile.shape[1])
        return top + y, left + x

    def to_bytes(self) -> bytes:
        """The table as an npz file."""
        content = io.BytesIO()
        arrays: dict[str, Any] = {str(train_id): places for train_id, places in self.tiles.items()}
        np.savez_compressed(content, tile_px=np.array(self.tile_px), **arrays)
        return content.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "ClassTiles":
        """The table that `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            height, width = arrays["tile_px"].tolist()
            tiles = {int(name): arrays[name] for name in arrays.files if name != "tile_px"}
        return ClassTiles(tile_px=(height, width), tiles=tiles)


def find_classes(label: Callable[[int], U8], num_images: int, num_classes: int, tile_px: tuple[int, int]) -> ClassTiles:
    """The tiles of every class over all label maps.

    Args:
        label: position -> [H, W] uint8 trainIds; called from several threads.
        num_classes: values from there on are no class.
    """
    found: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    present = map_threads(lambda image: _present(label(image), num_classes, tile_px), range(num_images), READERS)
    for image, places in enumerate(present):
        for train_id, row, column in places:
            found[train_id].append((image, row, column))
    tiles = {train_id: np.array(found[train_id], np.int32) for train_id in sorted(found)}
    return ClassTiles(tile_px=tile_px, tiles=tiles)


def _present(label: U8, num_classes: int, tile_px: tuple[int, int]) -> list[tuple[int, int, int]]:
    """(trainId, row, column) of every class in every tile."""
    height, width = tile_px
    return [
        (int(train_id), row, column)
        for row, top in enumerate(range(0, label.shape[0], height))
        for column, left in enumerate(range(0, label.shape[1], width))
        for train_id in np.flatnonzero(
            np.bincount(label[top : top + height, left : left + width].ravel(), minlength=256)[:num_classes]
        )
    ]
