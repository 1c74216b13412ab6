"""What a model brings to its training: the loss of a batch, how it is scored, and what its checkpoints say.

The loop, the data, the optimizer and the files are the pipeline's. It finds a model by name (`model_registry.py`) and
knows it by `TrainableModel` alone, so a network with other losses and another score trains without a change there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:  # settings are checked where torch is not loaded
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from hmsa_label.labelers.image_classes import ImageClasses
    from hmsa_label.labelers.taxonomy import ClassTable

    Classes = ClassTable | ImageClasses


SEMANTIC, PANOPTIC, IMAGE = "semantic", "panoptic", "image"  # what labels a model learns from


@dataclass(frozen=True, kw_only=True)
class StepTotal:
    """What a training step holds over all its passes and processes, so that the parts of its loss add up to the whole.

    Attributes:
        labeled_px: pixels of its crops that have a label.
        images: its crops.
        instance_px: of the labeled pixels, those of an instance; crowd_px: those of a thing class whose instances
            nobody told apart. Both are 0 where labels are trainIds.
    """

    labeled_px: int
    images: int
    instance_px: int = 0
    crowd_px: int = 0


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a validation found.

    Attributes:
        name: of the figure that picks the best checkpoint, such as mIoU.
        value: that figure, 0..1; higher is better.
        parts: further figures for the log, JSON-able, by key, such as the IoU of every class.
    """

    name: str
    value: float
    parts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, Any]:
        """All figures by key, as the log has them; the one that picks the best checkpoint comes first."""
        return {score_key(self.name): self.value, **self.parts}


def score_key(name: str) -> str:
    """A score's name as JSON keys have it: mIoU is `miou` in the log, `val_miou` in a checkpoint."""
    return name.lower()


def wrong_field(info: Mapping[str, Any], name: str, expected: str) -> ValueError:
    """The error for a checkpoint whose metadata `info` has something else for `name` than `expected`, in words."""
    found = f"says {info[name]!r:.80}" if info.get(name) is not None else "has none"
    return ValueError(f"its metadata {found} for {name}; expected {expected}: was the file written by hmsa-label?")


class LossSettings(Protocol):
    """Settings of a model's loss: a frozen dataclass whose fields all have defaults.

    They are saved with the training, beside its other settings, so no field may have the name of one of those.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def check_pixel_weights(self) -> None:
        """Raises ValueError if the loss cannot weight single pixels."""


class Objective(Protocol):
    """A network and its loss, as one module, so that several processes can share its backward pass."""

    net: "nn.Module"

    def __call__(
        self,
        images: "Tensor",
        labels: "Tensor",
        seeds: "Tensor | None" = None,
        weights: "Tensor | None" = None,
        *,
        step: StepTotal | None = None,
    ) -> "Tensor":
        """The loss, a scalar: the part that these images have in that of their step.

        Args:
            images: [N, H, W, 3] uint8 RGB.
            labels: [N, H, W] int64 trainIds, 255 ignored; or panoptic maps (`labelers.panoptic.ids`), or [N] classes of
                the images, if the model asks for them.
            seeds: [N] int64, of what is drawn for each image, such as dropout; None uses torch's own generator.
            weights: [N, H, W] float32 factors of the pixels, or None.
            step: all that the step holds; None if it is these images.
        """


class Validation(Protocol):
    """Counts what a network says of labeled images.

    Attributes:
        counts: numbers that add up over images, and over processes that each see some of them; zeros at first.
    """

    counts: "NDArray[Any]"

    def add(self, image: "NDArray[Any]", labels: "NDArray[Any]") -> None:
        """Counts one image [H, W, 3] uint8 RGB with its labels.

        Args:
            labels: [H, W] uint8 trainIds, 255 ignored; or an int32 panoptic map, or the class of the image, if the
                model asks for it.
        """

    def score(self) -> Score:
        """The score of all that `counts` holds."""


class TrainableModel(Protocol):
    """A network that can be trained, known by a name.

    Attributes:
        score: name of the score that picks the best checkpoint; that of `Validation.score`.
        settings: dataclass of the settings of its loss (`LossSettings`).
        labeler: name of the labeler that reads its checkpoints (`registry.py`), or `module:Class`.

    A model may have `labels`, too: `PANOPTIC` if it learns from panoptic maps, `IMAGE` if from classes of whole images;
    `SEMANTIC`, trainIds, holds where it has none.
    """

    score: str
    settings: type[Any]
    labeler: str

    def describe(self, settings: Any) -> dict[str, Any]:
        """What a checkpoint must say, beside its name and classes, for `build` to make the network again; JSON-able."""

    def check(self, info: Mapping[str, Any]) -> None:
        """Holds that a checkpoint says what `describe` gives; called before anything is built from it.

        Raises:
            ValueError: naming the field, what was expected and what the file says (`wrong_field`).
        """

    def build(self, num_classes: int, info: Mapping[str, Any]) -> "nn.Module":
        """The network with fresh weights, drawn from torch's own generator, in training mode.

        Args:
            num_classes: K, classes of the data.
            info: what `describe` gave, or a checkpoint says.
        """

    def load_start(
        self, net: "nn.Module", data: bytes, source: str, *, classes: "Classes", new_class_heads: bool
    ) -> None:
        """Gives a network the start values of a weights file.

        Args:
            source: name of the file, for messages.
            classes: those of the training.
            new_class_heads: the layers that give the classes stay fresh, so that the file may know other classes.

        Raises:
            ValueError: the file cannot be used; the message names it.
        """

    def objective(self, net: "nn.Module", settings: Any, classes: "Classes", dtype: "torch.dtype") -> Objective:
        """The loss of a network; an `nn.Module`.

        Args:
            dtype: of the forward pass: float32, or what autocast computes in.
        """

    def validation(
        self, net: "nn.Module", settings: Any, classes: "Classes", device: "torch.device", dtype: "torch.dtype"
    ) -> Validation:
        """What scores a network as it is trained; it is not changed."""

    def labeler_options(self, net: "nn.Module", settings: Any) -> dict[str, Any]:
        """Options of the labeler with which it predicts as `validation` does."""


def labels_of(model: TrainableModel) -> str:
    """`SEMANTIC`, `PANOPTIC` or `IMAGE`: what labels a model learns from.

    Raises:
        ValueError: it asks for something else.
    """
    wanted = getattr(model, "labels", SEMANTIC)
    if wanted not in (SEMANTIC, PANOPTIC, IMAGE):
        known = ", ".join((SEMANTIC, PANOPTIC, IMAGE))
        raise ValueError(f"{type(model).__name__}.labels must be one of {known}; got {wanted!r}")
    return str(wanted)
