"""The Cityscapes folder tree, as unpacked from the official archives in any of the usual ways."""

from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.layouts import shown, way_out
from hmsa_label.stores.images.source import ImageRef, TreeSource, image_stem, insert_once, safe_key

SPLITS = ("train", "val", "test", "train_extra")
IMAGE_TYPE = "leftImg8bit"
# Where a type's splits can lie: the archives hold `<type>/<split>`, and people unpack them side by side,
# into a folder of the type's name, or into one folder per archive.
NESTINGS = ("{type}", "{type}/{type}", "{type}_trainvaltest/{type}", "{type}_trainextra/{type}")


class CityscapesSource(TreeSource):
    """Images `leftImg8bit/<split>/<city>/*_leftImg8bit.png|jpg` with labels of any types beside them.

    Labels of a type such as gtFine or gtCoarse are `<type>/<split>/<city>/*_<type>_labelIds.png`. A key is
    `<split>/<city>/<city>_<sequence>_<frame>`. Each listing asks the storage once per possible folder, never once per
    file.
    """

    def list_split(self, split: str, labels: str | None, coarse: str | None) -> list[ImageRef]:
        """The images of one split; see `list`."""
        images = self._images(split, labeled=labels is not None)
        found = {kind: self._labels(kind, split) for kind in {coarse, labels} if kind is not None}
        asked, instances = found[labels] if labels is not None else ({}, {})
        polygons = found[coarse][0] if coarse is not None else {}
        if labels is not None and not asked:
            raise NotAStore(self._nothing(labels, split, f"*_{labels}_labelIds.png"))
        return [
            ImageRef(
                key=safe_key(key),
                image=path,
                labels=asked.get(key),
                coarse=polygons.get(key),
                instances=instances.get(key),
            )
            for key, path in sorted(images.items())
        ]

    def splits(self, kind: str = IMAGE_TYPE) -> tuple[str, ...]:
        """Names of the splits that exist for a type."""
        names = {name for folder in self._folders(kind) for name in self.files.list_names(folder)}
        return tuple(sorted(name for name in names if name != kind and not name.startswith(".")))

    def has_label_type(self, kind: str) -> bool:
        """Whether labels of a type are there for any split."""
        _require_label_type(kind)
        return bool(self.splits(kind))

    def _images(self, split: str, *, labeled: bool) -> dict[str, str]:
        (images,) = self._collect(IMAGE_TYPE, split, f"_{IMAGE_TYPE}")
        if not images:
            raise NotAStore(self._nothing(IMAGE_TYPE, split, f"*_{IMAGE_TYPE}.png or .jpg", labeled=labeled))
        return images

    def _labels(self, kind: str, split: str) -> tuple[dict[str, str], dict[str, str]]:
        """Key -> path of the files with class ids, and of those with instance ids."""
        _require_label_type(kind)
        ids, instances = (
            {key: path for key, path in table.items() if path.endswith(".png")}
            for table in self._collect(kind, split, f"_{kind}_labelIds", f"_{kind}_instanceIds")
        )
        return ids, instances

    def _collect(self, kind: str, split: str, *endings: str) -> list[dict[str, str]]:
        """For each ending: key -> path of everything named `*<ending>.<image suffix>` in the split, folders included.

        A folder named like an image is no image, but it must show up as one that fails and not vanish.
        """
        _require_plain(split)
        tables: dict[str, dict[str, str]] = {ending: {} for ending in endings}
        for parent in self._folders(kind):
            folder = f"{parent}/{split}"
            for entry in self.files.list_tree(folder):
                stem = image_stem(entry.path) or ""
                for ending in filter(stem.endswith, endings):
                    insert_once(tables[ending], split + stem[len(folder) : -len(ending)], entry.path)
        return list(tables.values())

    def _folders(self, kind: str) -> tuple[str, ...]:
        """Where the type's splits can lie, given what is at the root; saves requests for absent nestings."""
        present = set(self.files.list_names())
        folders = [nesting.format(type=kind) for nesting in NESTINGS]
        return tuple(folder for folder in folders if folder.partition("/")[0] in present)

    def _nothing(self, kind: str, split: str, pattern: str, *, labeled: bool = False) -> str:
        there = self.splits(kind)
        if split in there:
            return f"no file named {pattern} in {kind}/{split} below {self.root}"
        missing = f"no folder {kind}/{split} below {self.root}"
        if there:
            return f"{missing}; splits found for {kind}: {', '.join(there)}; give one with --split"
        way = way_out(self.files, "cityscapes", labeled=labeled) if kind == IMAGE_TYPE else ""
        return f"{missing}; there is no {kind} folder; found: {shown(self.files.list_names())}{way}"


def _require_label_type(kind: str) -> None:
    if not kind or "/" in kind or kind.startswith(".") or kind == IMAGE_TYPE:
        raise ValueError(f"a label type is a folder name such as gtFine, gtCoarse; got {kind!r}")


def _require_plain(split: str) -> None:
    if not split or "/" in split or split.startswith("."):
        raise ValueError(f"split must be a folder name such as {', '.join(SPLITS)}; got {split!r}")
