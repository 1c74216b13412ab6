"""Where the images of a label store are: where they were labeled, or where somebody says that they are now."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.audit.origins import origins_of
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import ImageSource
from hmsa_label.stores.location import Location
from hmsa_label.stores.versions.label_store import LabelStore


@dataclass(frozen=True, kw_only=True)
class ImageRoot:
    """A root of images, a path or URL; how it is laid out, None as it was recorded; fsspec options of its storage."""

    root: Location
    dataset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


class AutoImages:
    """The image files of a store's version, by the position of their keys; each is checked to be the one labeled.

    Attributes:
        sources: the roots, as opened. places: the same as they are to be recorded: root without credentials, dataset.
    """

    def __init__(
        self,
        store: LabelStore,
        given: ImageRoot | None,
        *,
        options: dict[str, Any] | None = None,
        near: ImageRoot | None = None,
    ) -> None:
        """Finds the images.

        Args:
            given: where all of them are; None looks at `near`, then where each run of the store found its own.
            options: fsspec options for what the runs recorded.
            near: where they may be too, such as beside fine labels.

        Raises:
            ValueError: images are in none of these places; the message names one, and what to do.
        """
        table = store.table(["source", "source_sha256"])
        self._keys, self._paths, self._digests = store.keys(), table["source"], table["source_sha256"]
        self.sources: list[ImageSource] = []
        self.places: list[dict[str, str]] = []
        origins, self._origin_of = origins_of(store)
        self._source_of: list[int] = []
        for number, origin in enumerate(origins):
            recorded = None if origin.root is None else ImageRoot(root=origin.root, options=options or {})
            places = [given] if given else [place for place in (near, recorded) if place is not None]
            self._source_of.append(self._find(np.flatnonzero(self._origin_of == number), origin.dataset, places))

    def source(self, index: int) -> ImageSource:
        """The tree that an image is in."""
        return self.sources[self._source_of[self._origin_of[index]]]

    def read(self, index: int) -> bytes:
        """The file of an image.

        Raises:
            ValueError: it is not the file that was labeled.
        """
        data = self.source(index).read(self._paths[index].as_py())
        recorded = self._digests[index].as_py()
        if recorded is not None and hashlib.sha256(data).hexdigest() != recorded:
            path, root = self._paths[index].as_py(), self.source(index).root
            hint = "was it replaced? 'hmsa-label run --only-new' labels such images again"
            raise ValueError(f"{self._keys[index]}: {path} below {root} is not the file that was labeled; {hint}")
        return data

    def _find(self, images: NDArray[np.int64], dataset: str | None, places: list[ImageRoot]) -> int:
        """Number of the source that holds some of the images of one origin, and with them all of these."""
        sample = [int(images[place]) for place in sorted({0, len(images) // 2, len(images) - 1})]
        for place in places:
            laid_out = place.dataset or dataset or "cityscapes"
            # No such root or file; and storages that were only recorded raise errors of their own kinds.
            with suppress(Exception):
                source = open_images(laid_out, place.root, place.options)
                if all(self._is_in(source, index) for index in sample):
                    return self._number_of(source, laid_out)
        looked = " or ".join(public_uri(place.root) for place in places) or "any place that was recorded"
        first = f"{self._keys[sample[0]]} ({self._paths[sample[0]].as_py()})"
        raise ValueError(
            f"images such as {first} are not in {looked} as they were when they were labeled; --auto-data says where "
            "the images of the store are now"
        )

    def _is_in(self, source: ImageSource, index: int) -> bool:
        recorded = self._digests[index].as_py()
        return recorded in (None, hashlib.sha256(source.read(self._paths[index].as_py())).hexdigest())

    def _number_of(self, source: ImageSource, dataset: str) -> int:
        described = {"root": source.root, "dataset": dataset}
        if described not in self.places:
            self.sources.append(source)
            self.places.append(described)
        return self.places.index(described)
