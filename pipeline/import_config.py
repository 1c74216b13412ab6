"""What is asked of an import: which files hold labels that were made elsewhere, and what is in them."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hmsa_label.stores.credentials import refuse_in_url
from hmsa_label.stores.location import Location, keep_as_text

NVIDIA, PADDLESEG, MAPS, MASKS = "nvidia", "paddleseg", "maps", "masks"
IMPORT_FORMATS = (NVIDIA, PADDLESEG, MAPS, MASKS)
RAW_IDS, TRAIN_IDS = "raw", "train"
IDS = (RAW_IDS, TRAIN_IDS)
NAME = "{name}"
# Names of the files with classes and with confidences, and what the classes are numbered by.
FILES = {
    NVIDIA: ("{name}.png", "{name}_prob.png", RAW_IDS),
    PADDLESEG: ("{name}.png", None, TRAIN_IDS),
    MAPS: ("{name}.png", None, RAW_IDS),
    MASKS: (None, None, RAW_IDS),
}


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Labels that were made elsewhere; a run takes them in place of a teacher.

    Attributes:
        labels: folder or URL of their files; of masks in COCO's form the JSON file.
        format: `nvidia`: the auto labels of its released code, class map and `*_prob.png`, in one folder or in folders
            of cities. `paddleseg`: what its conversion makes of these, class maps of trainIds alone. `maps`: any class
            maps, with or without confidences. `masks`: masks with a class and a score, as COCO results or as a folder
            of PNG files per image.
        label_files, confidence_files: where the files of an image are below `labels`, `{name}` for its name, such as
            `conf/{name}.npy`; None is what the format says. Without confidences, labels have none.
        ids: what the numbers in class maps are: `raw` label ids of the data set, or `train` ids; None is what the
            format says.
        classes: `cityscapes`, or path or URL of a JSON file; None are those of the data.
        images_json: path or URL of a COCO JSON file with the images and categories that results name by their ids.
        made_by: what is known of where the labels come from; recorded as it is.
        sha256: of all files; found by the import itself.
    """

    labels: Location
    format: str = MAPS
    label_files: str | None = None
    confidence_files: str | None = None
    ids: str | None = None
    classes: Location | None = None
    images_json: Location | None = None
    made_by: str | None = None
    sha256: str | None = field(default=None, metadata={"found": True})
    device: ClassVar[str] = "cpu"  # files are read on no GPU
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_as_text(self, "labels", "classes", "images_json")
        if not self.labels:
            raise ValueError("LABELS is empty; give a folder, a JSON file or a URL of them")
        for place in (self.labels, self.classes, self.images_json):
            refuse_in_url(str(place or ""))
        _one_of("--format", self.format, IMPORT_FORMATS)
        labels, confidences, ids = FILES[self.format]
        if self.format == MASKS and (self.label_files or self.confidence_files):
            raise ValueError("--label-files and --confidence-files are about class maps; masks are found without them")
        if self.format != MASKS and self.images_json is not None:
            raise ValueError("--images-json is about masks; class maps are found by their names")
        for name, default in (("label_files", labels), ("confidence_files", confidences), ("ids", ids)):
            object.__setattr__(self, name, getattr(self, name) or default)
        _one_of("--ids", str(self.ids), IDS)
        for option, pattern in (("--label-files", self.label_files), ("--confidence-files", self.confidence_files)):
            if pattern is not None:
                _check_pattern(option, pattern)
        if self.label_files is not None and self.label_files == self.confidence_files:
            raise ValueError(f"--label-files and --confidence-files are both {self.label_files!r}; one file is one map")

    @property
    def has_confidence(self) -> bool:
        """Whether the labels come with a confidence of every pixel."""
        return self.format == MASKS or self.confidence_files is not None

    @property
    def is_results(self) -> bool:
        """Whether the labels are masks in one JSON file."""
        return self.format == MASKS and str(self.labels).endswith(".json")


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(allowed)}; got {value!r}")


def _check_pattern(option: str, pattern: str) -> None:
    if pattern.count(NAME) != 1 or NAME not in pattern.rpartition("/")[2]:
        raise ValueError(
            f"{option} must hold {NAME} once, in the name of the file, such as {NAME}_conf.png; got {pattern!r}"
        )
