"""Validation of panoptic networks: panoptic quality over whole images, without their mirror images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab
from hmsa_label.labelers.axial_deeplab.training.settings import PanopticLoss
from hmsa_label.labelers.base import Panoptic
from hmsa_label.labelers.confusion import by_name, count_pairs, iou_by_class, mean_iou
from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.panoptic.predict import predict
from hmsa_label.labelers.panoptic.quality import PanopticQuality, Quality
from hmsa_label.labelers.panoptic.scales import average_over_scales
from hmsa_label.labelers.panoptic.settings import PostProcessing
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.training import Score

SCORE = "PQ"
NOTHING = Quality(0.0, 0.0, 0.0)


class PanopticScore:
    """Counts regions for PQ, and pixels of the arg-max before merging for mIoU (`labelers.training.Validation`).

    Attributes:
        counts: float64; first [K, 4] of `PanopticQuality`, then [K, K] pixels by label and prediction.
    """

    def __init__(
        self, net: AxialDeepLab, settings: PanopticLoss, classes: ClassTable, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.net, self.classes, self.device, self.dtype = net, classes, device, dtype
        self.scales, self.post = settings.val_scales, PostProcessing(stuff_area_px=settings.stuff_area_px)
        self.counts: NDArray[np.float64] = np.zeros(classes.num_classes * (4 + classes.num_classes))

    def add(self, image: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """Counts one image [H, W, 3] uint8 RGB with its panoptic map [H, W] int32."""
        probabilities, found = self._predict(image)
        quality = PanopticQuality(self.classes)
        quality.add(labels, found.top1[0].long().mul(DIVISOR).add(found.instance[0]).cpu().numpy())
        top1 = probabilities[0].argmax(0).byte().cpu().numpy()
        pixels = count_pairs((labels // DIVISOR).astype(np.uint8), top1, self.classes.num_classes)
        self.counts += np.concatenate([quality.counts.ravel(), pixels.ravel()])

    def score(self) -> Score:
        """PQ over the classes that occur; SQ, RQ, those of things and stuff, PQ of every class, and the mean IoU."""
        num_classes = self.classes.num_classes
        quality = PanopticQuality(self.classes)
        quality.counts = self.counts[: 4 * num_classes].reshape(num_classes, 4)
        pixels = self.counts[4 * num_classes :].astype(np.int64)
        iou = iou_by_class(pixels.reshape(num_classes, num_classes))
        mean = quality.mean() or NOTHING
        parts: dict[str, Any] = {
            "sq": mean.sq,
            "rq": mean.rq,
            "pq_things": (quality.of_things or NOTHING).pq,
            "pq_stuff": (quality.of_stuff or NOTHING).pq,
            "miou": mean_iou(iou),
            "pq_by_class": {name: one and one.pq for name, one in quality.by_class().items()},
            "iou": by_name(self.classes.names, iou),
        }
        return Score(name=SCORE, value=mean.pq, parts=parts)

    def _predict(self, image: NDArray[np.uint8]) -> tuple[torch.Tensor, Panoptic]:
        """([1, K, H, W] float32 probabilities, what is made of them) of an image, with the network as in inference."""
        was_training = self.net.training
        self.net.eval()
        try:
            x = self.net.normalize(torch.from_numpy(image)[None].to(self.device))
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                maps = average_over_scales(self.net, x.contiguous(memory_format=torch.channels_last), self.scales)
        finally:
            self.net.train(was_training)
        return maps.probabilities, predict(*maps, self.classes.things, self.post)
