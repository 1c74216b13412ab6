"""The forms in which labelers give what they predict, one row each: what it must look like, and its best class.

Confidence is float32 whatever the labeler computes in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from hmsa_label.labelers.base import (
    LOGITS,
    PANOPTIC,
    PROBABILITIES,
    TOP_CLASS,
    LabelerFault,
    NotFinite,
    Panoptic,
    Part,
    TopClass,
)
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.teacher.panoptic_form import panoptic_fault, whole_images_fault
from hmsa_label.pipeline.teacher.threshold import (
    TwoBest,
    top_class_of,
    two_best_of_logits,
    two_best_of_probabilities,
)

SUM_TOLERANCE = 0.01  # of probabilities that were computed in bfloat16

Values: TypeAlias = Tensor | TopClass | Panoptic
Fault: TypeAlias = Callable[[Values, tuple[int, int, int], ClassTable], str | None]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How to read what a labeler gives.

    Attributes:
        fault: what is wrong with a part of [N, R, C] pixels of a labeler with these classes; None if nothing is.
        best: (arg-max trainIds [N, R, C], confidence [N, R, C] float32).
        arg_max: the arg-max alone, where no confidence is asked for.
        two_best: the best two classes, of [N, R, C] pixels; None if the labeler keeps all but the best to itself.
        probabilities: those of all classes [N, K, R, C] float32; None likewise.
        has_instances: it is a `Panoptic`; its class of a pixel may be void and need not be the arg-max.
    """

    fault: Fault
    best: Callable[[Values], tuple[Tensor, Tensor]]
    arg_max: Callable[[Values], Tensor]
    two_best: Callable[[Values], TwoBest] | None = None
    probabilities: Callable[[Values], Tensor] | None = None
    has_instances: bool = False


def check(part: Part, gives: str, classes: ClassTable, size_px: tuple[int, int], num_views: int = 0) -> None:
    """Holds that a part is what the labeler says it gives.

    Args:
        size_px: (height, width) of the images.
        num_views: how many views it was asked for; 0 if for none.

    Raises:
        LabelerFault: it has another form; the text says what was expected and what came.
        NotFinite: it holds NaN or infinite confidence.
    """
    counts = tuple(kept.stop - kept.start for kept in (part.images, part.rows, part.columns))
    form = FORMS[gives]
    fault = whole_images_fault(part.rows, part.columns, size_px) if form.has_instances else None
    if fault := fault or form.fault(part.values, (counts[0], counts[1], counts[2]), classes):
        raise LabelerFault(f"predict must give {fault}")
    if num_views and (fault := _views_fault(part.views, counts, num_views)):
        raise LabelerFault(f"with views, predict_views or in_parts must give {fault}")


def _views_fault(views: Sequence[Tensor], counts: tuple[int, ...], num_views: int) -> str | None:
    expected = f"a map of trainIds {list(counts)} for each of its {num_views} views"
    if len(views) != num_views:
        return f"{expected}; it gave {len(views)}"
    for view in views:
        if not isinstance(view, Tensor) or tuple(view.shape) != counts or view.is_floating_point():
            found = f"{list(view.shape)} {_dtype(view)}" if isinstance(view, Tensor) else type(view).__name__
            return f"{expected}; one is {found}"
    return None


def _logits_fault(values: Values, counts: tuple[int, int, int], classes: ClassTable) -> str | None:
    if fault := _scores_fault(LOGITS)(values, counts, classes):
        return fault
    assert isinstance(values, Tensor)
    # The highest of a pixel is NaN if any is; -inf alone rules a class out, which a labeler may do.
    highest = values.amax(dim=1)
    if not torch.isfinite(highest).all():
        raise NotFinite("the network gave NaN or infinite logits")
    return None


def _scores_fault(what: str) -> Fault:
    def fault(values: Values, counts: tuple[int, int, int], classes: ClassTable) -> str | None:
        expected = (counts[0], classes.num_classes, *counts[1:])
        if not isinstance(values, Tensor):
            return f"a tensor {list(expected)} of {what}; it gave a {type(values).__name__}"
        if tuple(values.shape) != expected or not values.is_floating_point():
            return (
                f"a tensor {list(expected)} of float {what}, for its {classes.num_classes} classes; "
                f"it gave {list(values.shape)} {_dtype(values)}"
            )
        return None

    return fault


def _probabilities_fault(values: Values, counts: tuple[int, int, int], classes: ClassTable) -> str | None:
    if fault := _scores_fault(PROBABILITIES)(values, counts, classes):
        return fault
    assert isinstance(values, Tensor)
    total, least = values.sum(dim=1, dtype=torch.float32), float(values.min())
    low, high = float(total.min()), float(total.max())
    if not torch.isfinite(total).all():
        raise NotFinite("the network gave NaN or infinite probabilities")
    if least < 0 or low < 1 - SUM_TOLERANCE or high > 1 + SUM_TOLERANCE:
        return (
            "probabilities that are at least 0 and sum to 1 over the classes (or say gives = 'logits'); "
            f"the least is {least:g}, the sums lie between {low:g} and {high:g}"
        )
    return None


def _top_class_fault(values: Values, counts: tuple[int, int, int], classes: ClassTable) -> str | None:
    if not isinstance(values, TopClass):
        return f"a TopClass of two tensors {list(counts)}; it gave a {type(values).__name__}"
    top1, confidence = values
    for name, tensor, fits in (
        ("top1", top1, not top1.is_floating_point()),
        ("confidence", confidence, confidence.is_floating_point()),
    ):
        if tuple(tensor.shape) != counts or not fits:
            kind = "integers" if name == "top1" else "floats"
            return f"a TopClass with {name} {list(counts)} of {kind}; it gave {list(tensor.shape)} {_dtype(tensor)}"
    if int(top1.max()) >= classes.num_classes or int(top1.min()) < 0:
        return f"trainIds from 0 to {classes.num_classes - 1}; it gave {int(top1.min())} to {int(top1.max())}"
    if not torch.isfinite(confidence).all():
        raise NotFinite("the network gave NaN or infinite confidence")
    if float(confidence.min()) < 0 or float(confidence.max()) > 1 + SUM_TOLERANCE:
        return f"confidence from 0 to 1; it gave {float(confidence.min()):g} to {float(confidence.max()):g}"
    return None


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _best_of_probabilities(values: Values) -> tuple[Tensor, Tensor]:
    assert isinstance(values, Tensor)
    confidence, top1 = values.float().max(dim=1)
    return top1, confidence


def _best_of_logits(values: Values) -> tuple[Tensor, Tensor]:
    assert isinstance(values, Tensor)
    return top_class_of(values)


def _best_of_top_class(values: Values) -> tuple[Tensor, Tensor]:
    assert isinstance(values, TopClass | Panoptic)
    return values.top1, values.confidence.float()


def _arg_max(values: Values) -> Tensor:
    assert isinstance(values, Tensor)
    return values.argmax(dim=1)


def _two_best_of_logits(values: Values) -> TwoBest:
    assert isinstance(values, Tensor)
    return two_best_of_logits(values)


def _two_best_of_probabilities(values: Values) -> TwoBest:
    assert isinstance(values, Tensor)
    return two_best_of_probabilities(values)


def _as_float(values: Values) -> Tensor:
    assert isinstance(values, Tensor)
    return values.float()


FORMS = {
    LOGITS: Form(
        fault=_logits_fault,
        best=_best_of_logits,
        arg_max=_arg_max,
        two_best=_two_best_of_logits,
        probabilities=lambda values: _as_float(values).softmax(1),
    ),
    PROBABILITIES: Form(
        fault=_probabilities_fault,
        best=_best_of_probabilities,
        arg_max=_arg_max,
        two_best=_two_best_of_probabilities,
        probabilities=_as_float,
    ),
    TOP_CLASS: Form(
        fault=_top_class_fault, best=_best_of_top_class, arg_max=lambda values: _best_of_top_class(values)[0]
    ),
    PANOPTIC: Form(
        fault=panoptic_fault,
        best=_best_of_top_class,
        arg_max=lambda values: _best_of_top_class(values)[0],
        has_instances=True,
    ),
}
