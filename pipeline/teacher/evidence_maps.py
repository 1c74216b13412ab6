"""The evidence of a batch of images, gathered from the parts in which a labeler predicts them."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hmsa_label.labelers.base import Part
from hmsa_label.pipeline.records import Wanted
from hmsa_label.pipeline.teacher.forms import Form
from hmsa_label.pipeline.teacher.threshold import code_of_confidence


class EvidenceMaps:
    """Gathers the parts of a batch of N images of one size, on one device."""

    def __init__(self, size: tuple[int, int, int], device: torch.device, form: Form, wanted: Wanted) -> None:
        """Nothing yet.

        Args:
            size: (N, H, W). form: in which the labeler gives what it predicts.
        """
        names = ["top1", "code", *(["top2", "margin"] if wanted.margins is not None else [])]
        names += ["disagreement"] if wanted.disagreement else []
        self._maps = {name: torch.empty(size, dtype=torch.uint8, device=device) for name in names}
        if wanted.confidence:
            self._maps["confidence"] = torch.empty(size, device=device)
        self._form, self._wanted = form, wanted
        self._confidence = [0.0] * size[0]

    def take(self, part: Part) -> None:
        """A part; it has views if disagreement is wanted."""
        place = part.images, part.rows, part.columns
        top1, confidence = self._take_best(part, place)
        self._maps["top1"][place] = top1.to(torch.uint8)
        self._maps["code"][place] = code_of_confidence(confidence, self._wanted.thresholds)
        if self._wanted.disagreement:
            self._maps["disagreement"][place] = disagreement_of(top1, part.views)
        if self._wanted.confidence:
            self._maps["confidence"][place] = confidence
        pixels = self._maps["top1"][0].numel()
        for index, one in zip(range(len(self._confidence))[part.images], confidence, strict=True):
            self._confidence[index] += float(one[None].mean(dim=(1, 2))) * one.numel() / pixels

    def _take_best(self, part: Part, place: tuple[slice, slice, slice]) -> tuple[Tensor, Tensor]:
        """(arg-max, confidence) of a part, whose runner-up and margin are taken if they are wanted."""
        if self._wanted.margins is None:
            return self._form.best(part.values)
        assert self._form.two_best is not None, "a teacher that cannot tell is refused before"
        top1, confidence, top2, margin = self._form.two_best(part.values)
        self._maps["top2"][place] = top2.to(torch.uint8)
        self._maps["margin"][place] = code_of_confidence(margin, self._wanted.margins)
        return top1, confidence

    def arrays(self) -> list[dict[str, NDArray[Any]]]:
        """The maps [H, W] of each image, by name."""
        whole = {name: values.cpu().numpy() for name, values in self._maps.items()}
        return [{name: values[index] for name, values in whole.items()} for index in range(len(self._confidence))]

    def mean_confidence(self, index: int) -> float:
        """That of all pixels of an image."""
        return self._confidence[index]


def disagreement_of(top1: Tensor, views: Sequence[Tensor]) -> Tensor:
    """[N, R, C] uint8 number of views whose class is not `top1`; all of them where `top1` is void.

    Args:
        top1: [N, R, C] integer trainIds. views: the same of each view alone, on any device.
    """
    count = torch.zeros_like(top1, dtype=torch.uint8)
    for view in views:
        count += view.to(top1.device) != top1
    return count
