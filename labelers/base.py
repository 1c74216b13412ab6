"""The protocol of every labeler, what it may add to it, and how it says that it cannot label an image.

A labeler predicts. A teacher is a labeler in a run: with weights, on a device, and with a record of both.
"""

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:  # options are checked where torch is not loaded
    import torch
    from torch import Tensor

    from hmsa_label.labelers.taxonomy import ClassTable

VIEWS_METHOD = "a method predict_views(images), or in_parts with an argument views"
LOGITS, PROBABILITIES, TOP_CLASS, PANOPTIC = "logits", "probabilities", "top1", "panoptic"
Result = TypeVar("Result")


class CannotLabel(ValueError):
    """This labeler cannot label this image, such as one that is too small; others may be fine."""


class DoesNotFit(CannotLabel):
    """This image needs more memory than there is, even in the smallest windows."""


class NotFinite(CannotLabel):
    """The network gave NaN or infinite numbers for this image; the text says what would help."""


class LabelerFault(ValueError):
    """A labeler that does not keep to the protocol, whatever the image; the text names it and what was expected."""


class TopClass(NamedTuple):
    """The best class of every pixel, from a labeler that keeps the other classes to itself.

    Attributes:
        top1: [N, H, W] integer trainIds.
        confidence: [N, H, W] float32, 0..1.
    """

    top1: "Tensor"
    confidence: "Tensor"


class Instance(NamedTuple):
    """One thing of one image; the n-th of a list is n in the image's map of instances.

    Attributes:
        train_id: its class.
        center_score: height of the heat map at its center, 0..1.
        confidence: mean confidence over its pixels, 0..1.
        area_px: number of its pixels.
        box: (x, y, width, height) in px, the smallest that holds its pixels.
    """

    train_id: int
    center_score: float
    confidence: float
    area_px: int
    box: tuple[int, int, int, int]


class Panoptic(NamedTuple):
    """What every pixel of whole images belongs to: a class, an instance of it if it is a thing, or nothing (void).

    Attributes:
        top1: [N, H, W] integer trainIds after merging; 255 is void.
        confidence: [N, H, W] float32, 0..1, the probability of that class, which need not be the highest; 0 where void.
        instance: [N, H, W] integers, numbered per image: 0 for stuff and void, else 1.. up to the number of instances.
        instances: those of each image.
    """

    top1: "Tensor"
    confidence: "Tensor"
    instance: "Tensor"
    instances: Sequence[Sequence[Instance]]


class Part(NamedTuple):
    """A part of what is predicted for a batch of images [N, H, W, 3].

    Attributes:
        images, rows, columns: which images of the batch, and which of their pixels.
        values: what the labeler gives of them: [N, K, R, C] logits or probabilities, a `TopClass`, or a `Panoptic` of
            whole images.
        views: [N, R, C] integer arg-max trainIds of each view alone, if they were asked for.
    """

    images: slice
    rows: slice
    columns: slice
    values: "Tensor | TopClass | Panoptic"
    views: "Sequence[Tensor]" = ()


class View(NamedTuple):
    """One of several predictions that a labeler takes its own from.

    Attributes:
        name: as in tables and JSON. title: as in pictures.
        top1: [H, W] uint8 arg-max trainId of this prediction alone.
        share: [H, W] float32, what is taken of it.
    """

    name: str
    title: str
    top1: "Tensor"
    share: "Tensor"


class WeightsFile(io.BytesIO):
    """All of a weights file, as an open binary file.

    Attributes:
        name: path or URL for messages.
    """

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a labeler computes.

    Attributes:
        precision: `fp32`, `bf16` or `fp16`; dtype: torch's name of it.
        allowed_bytes: asked once the weights are loaded: memory that a prediction may take beside them.
    """

    device: "torch.device"
    precision: str
    dtype: "torch.dtype"
    allowed_bytes: Callable[[], float]


class Labeler(Protocol):
    """All that a labeler must have. It is made as `Class(weights, device, **options)`, unless it has `load`.

    weights is an open `WeightsFile`, or None where the user gave none; device a torch.device. `LabelerBase` lists what
    a labeler may have beside this, and what holds where it has not; a labeler need not inherit from it.

    Attributes:
        classes: what trainIds mean.
    """

    classes: "ClassTable"

    def predict(self, images: "Tensor") -> "Tensor | TopClass | Panoptic":
        """What the labeler gives for every pixel of a batch; called in one thread, in inference mode.

        Args:
            images: [N, H, W, 3] uint8 RGB on the CPU, all of one size.

        Returns:
            [N, K, H, W] float logits or probabilities on any device, a `TopClass` or a `Panoptic`, as `gives` says.

        Raises:
            CannotLabel: if an image of the batch cannot be labeled; each is then tried alone.
        """


class LabelerBase:
    """What a labeler may add to the protocol.

    Attributes:
        gives: `LOGITS`, `PROBABILITIES` (they sum to 1 over the classes), `TOP_CLASS` or `PANOPTIC`.
        precisions: those that it computes in, as `--precision` names them.
        checks_itself: what it gives is finite and well-formed, and need not be looked at again.
        takes_semantics: a panoptic labeler that can take its classes from another one. If it is to, it is made with an
            argument more, `semantics`: a function from images as in `predict` to probabilities [N, K, H, W] float32.
        num_views: how many predictions its own is taken from: one for each scale, mirror image or network. One of two
            or more can be asked where they disagree, see `predict_views`.
        about: JSON-able facts for provenance, such as `trained_on`.
        trained_keys: keys of the images that the weights were trained on; evaluate warns of them.
        warnings: lines for whoever starts a run with it.
    """

    classes: "ClassTable"
    gives: str = LOGITS
    precisions: tuple[str, ...] = ("fp32",)
    checks_itself: bool = False
    takes_semantics: bool = False
    num_views: int = 1
    about: Mapping[str, Any] = {}
    trained_keys: Collection[str] = ()
    warnings: Iterable[str] = ()

    # `load(weights, place, **options)`, a class method, is called in place of the class where there is one. It is given
    # a `Place`, for a labeler that computes in several precisions or keeps to a limit of memory.
    load: Callable[..., "Labeler"] | None = None

    @staticmethod
    def identity(options: Mapping[str, Any]) -> dict[str, Any]:
        """JSON-able settings that decide the bytes of labels, beside weights, precision and threshold; for records."""
        return {"options": dict(options)}

    def predict(self, images: "Tensor") -> "Tensor | TopClass | Panoptic":
        """See `Labeler`."""
        raise NotImplementedError

    def predict_views(self, images: "Tensor") -> "tuple[Tensor | TopClass | Panoptic, Sequence[Tensor]]":
        """What `predict` gives, to the bit, and the arg-max trainIds [N, H, W] of each of `num_views` views alone.

        Called in place of `predict` where the disagreement of the views is asked for, of a labeler that has several.
        """
        raise LabelerFault(f"a labeler with num_views = {self.num_views} needs {VIEWS_METHOD}")

    def in_parts(
        self, images: "Tensor", work: Callable[[Iterator[Part], str | None], Result], views: bool = False
    ) -> Result:
        """What `work` gives for parts that cover a batch once; may call it again, in smaller parts, if memory runs out.

        Args:
            images: as in `predict`.
            work: takes the parts, and in words how the images were cut where this changes their labels.
            views: parts have views, too; passed only to a labeler that has several. The values do not depend on it.
        """
        return in_one_part(self, images, work, views)

    def explain(self, image: "Tensor") -> list[View]:
        """The predictions that the one for an image [H, W, 3] uint8 RGB is taken from; none if there is only one."""
        return []


def in_one_part(
    labeler: Labeler, images: "Tensor", work: Callable[[Iterator[Part], str | None], Result], views: bool = False
) -> Result:
    """`LabelerBase.in_parts` of a labeler that predicts a batch at once."""
    count, height, width = images.shape[:3]
    values, alone = _with_views(labeler, images) if views else (labeler.predict(images), ())
    return work(iter([Part(slice(0, count), slice(0, height), slice(0, width), values, alone)]), None)


def _with_views(labeler: Labeler, images: "Tensor") -> "tuple[Tensor | TopClass | Panoptic, Sequence[Tensor]]":
    predict_views = getattr(labeler, "predict_views", None)
    if predict_views is None:
        raise LabelerFault(f"a labeler with num_views = {getattr(labeler, 'num_views', 1)} needs {VIEWS_METHOD}")
    found: tuple[Tensor | TopClass | Panoptic, Sequence[Tensor]] = predict_views(images)
    return found
