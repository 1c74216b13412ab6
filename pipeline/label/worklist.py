"""What earlier runs leave to do: which images the store has, which files changed since, which failed for good."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hmsa_label.pipeline.config import LabelConfig
from hmsa_label.pipeline.engine.retry import patient_reader
from hmsa_label.pipeline.label.failures import known_failures
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.images.changed_files import SourceState, changed_sources
from hmsa_label.stores.images.source import ImageRef
from hmsa_label.stores.versions.label_store import LabelStore

SOURCE_COLUMNS = ["key", "source_bytes", "source_sha256"]


@dataclass(frozen=True, kw_only=True)
class LookBack:
    """What a store tells of the images of a run before it begins.

    Attributes:
        stored: images with a label at the head of the store, unfinished runs included.
        changed: those of them whose files hold other bytes now; looked for with `only_new` alone.
        known: images that did not decode before and whose files are still the same, by key.
        sizes: (height, width) of the images with a label.
    """

    stored: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    known: dict[str, Failure] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def left_out(self, done: Iterable[str]) -> set[str]:
        """Images that need no work or get none, given those that the run itself counts as done."""
        kept = self.stored - self.changed if self.changed else set()
        return {*done, *kept, *self.known}

    def order(self, images: Iterable[ImageRef]) -> list[ImageRef]:
        """Images of equal size side by side where sizes are known, so that batches fill and shapes are reused."""
        return sorted(images, key=lambda image: self.sizes.get(image.key, (0, 0)))


def look_back(config: LabelConfig, images: list[ImageRef]) -> LookBack:
    """What the store tells of the images; nothing if there is no store yet.

    Raises:
        OSError: if the storage of the store or of the images fails.
    """
    try:
        store = LabelStore.open(config.store, "head", storage_options=config.storage_options)
    except NotAStore:
        return LookBack()
    data = FileRoot(str(config.data.root), dict(config.data.storage_options))
    stored = {image.key for image in images} & set(store.keys())
    changed = (
        changed_images(store, data, [image for image in images if image.key in stored]) if config.only_new else set()
    )
    may_fail = [image for image in images if config.relabel or image.key not in stored - changed]
    known = {} if config.retry_failed or not may_fail else known_failures(store.root, data, may_fail)
    return LookBack(
        stored=frozenset(stored),
        changed=frozenset(changed - known.keys()),
        known=known,
        sizes=_sizes(store, stored) if config.relabel or changed else {},
    )


def changed_images(store: LabelStore, data: FileRoot, images: list[ImageRef]) -> set[str]:
    """Keys of labeled images whose files are not those that were labeled."""
    rows = {row["key"]: row for row in store.table(SOURCE_COLUMNS).to_pylist()}

    def state_of(image: ImageRef) -> SourceState:
        row = rows[image.key]
        return SourceState(key=image.key, path=image.image, size_bytes=row["source_bytes"], sha256=row["source_sha256"])

    return changed_sources(data, map(state_of, images), patient_reader(data))


def _sizes(store: LabelStore, keys: set[str]) -> dict[str, tuple[int, int]]:
    rows = store.table(["key", "height", "width"]).to_pylist()
    return {row["key"]: (row["height"], row["width"]) for row in rows if row["key"] in keys}
