"""The passes of a panoptic network over a batch: several sizes, mirrored or not, averaged at the size of the images."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from hmsa_label.labelers.axial_deeplab.labeler.options import AxialDeepLabOptions
from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab
from hmsa_label.labelers.base import Place, View
from hmsa_label.labelers.inference.axial import AttentionForm, for_inference
from hmsa_label.labelers.panoptic.scales import FullMaps, average_over_scales

Semantics: TypeAlias = Callable[[Tensor], Tensor]  # images [N, H, W, 3] uint8 -> probabilities [N, K, H, W] float32


class Passes:
    """A network on one device, the sizes at which it looks, and who tells the classes."""

    def __init__(
        self, net: AxialDeepLab, place: Place, options: AxialDeepLabOptions, semantics: Semantics | None
    ) -> None:
        """See `AxialDeepLabLabeler.load`; on the device `meta` it computes shapes alone."""
        self.device, self._options, self._semantics = place.device, options, semantics
        # On `meta` the kernel takes no more than torch does, and there is nothing to run it on.
        form: AttentionForm = "kernel" if options.attention == "kernel" and place.device.type != "meta" else "plain"
        self._net = for_inference(net, place.device, place.dtype, form)

    @property
    def num_views(self) -> int:
        """Each pass of the network, and the other teacher that tells classes."""
        passes = len(self._options.scales) * (2 if self._options.flip else 1)
        return passes + (self._semantics is not None)

    def maps(self, batch: Tensor, views: list[Tensor] | None = None) -> FullMaps:
        """The maps of images [N, H, W, 3] uint8 RGB.

        Args:
            views: gets the arg-max trainIds [N, H, W] uint8 of each view alone, if they are wanted.
        """
        found = self._averaged(batch, self._options.scales, self._options.flip, views)
        if self._semantics is None:
            return found
        share, (own, center, offset) = self._options.semantic_share, found
        del found
        if share == 1:
            del own  # before the other network begins
            return FullMaps(self._others(self._semantics, batch, views), center, offset)
        own *= 1 - share
        return FullMaps(own.add_(self._others(self._semantics, batch, views), alpha=share), center, offset)

    def _others(self, semantics: Semantics, batch: Tensor, views: list[Tensor] | None) -> Tensor:
        """The other teacher's probabilities."""
        probabilities = semantics(batch).to(self.device)
        if views is not None:
            views.append(probabilities.max(1).indices.to(torch.uint8))
        return probabilities

    def views(self, image: Tensor) -> list[View]:
        """What enters the classes of an image [H, W, 3] uint8 RGB, mirror images aside; none if it is of one piece."""
        scales, batch = self._options.scales, image[None]
        if self._semantics is not None:
            own, share = self._averaged(batch, scales, flip=False).probabilities, self._options.semantic_share
            other = _view("other", "other teacher", self._semantics(batch), share)
            return [_view("own", "own classes", own, 1 - share), other]
        if len(scales) == 1:
            return []
        alone = ((scale, self._averaged(batch, (scale,), flip=False).probabilities) for scale in sorted(scales))
        return [_view(f"{scale:g}", f"{scale:g}x", found, 1 / len(scales)) for scale, found in alone]

    def _averaged(
        self, batch: Tensor, scales: Sequence[float], flip: bool, views: list[Tensor] | None = None
    ) -> FullMaps:
        return average_over_scales(self._net, self._net.normalize(batch), scales, flip, views)


def _view(name: str, title: str, probabilities: Tensor, share: float) -> View:
    top1 = probabilities[0].argmax(0).to(torch.uint8)
    return View(name=name, title=title, top1=top1, share=torch.full(top1.shape, share))
