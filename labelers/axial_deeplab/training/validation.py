"""Validation of panoptic networks: panoptic quality over whole images, without their mirror images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hmsa_label.labelers.axial_deeplab.labeler.options import AxialDeepLabOptions, post_processing
from hmsa_label.labelers.confusion import by_name, count_pairs, iou_by_class, mean_iou
from hmsa_label.labelers.inference.axial import PanopticInferenceNet
from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.panoptic.predict import predict
from hmsa_label.labelers.panoptic.quality import PanopticQuality, Quality
from hmsa_label.labelers.panoptic.scales import average_over_scales
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.training import Score

SCORE = "PQ"
NOTHING = Quality(0.0, 0.0, 0.0)


class PanopticScore:
    """Counts by the path that labels are made by, so that the figure is theirs (`labelers.training.Validation`).

    Attributes:
        counts: float64; first [K, 4] of `PanopticQuality`, then [K + 1, K + 1] pixels by class in labels and after
            merging, where the last one of each is void.
    """

    def __init__(self, net: PanopticInferenceNet, options: AxialDeepLabOptions, classes: ClassTable) -> None:
        self.net, self.options, self.classes = net, options, classes
        self.counts: NDArray[np.float64] = np.zeros(4 * classes.num_classes + (classes.num_classes + 1) ** 2)

    def add(self, image: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """Counts one image [H, W, 3] uint8 RGB with its panoptic map [H, W] int32."""
        x = self.net.normalize(torch.from_numpy(image)[None])
        maps = average_over_scales(self.net, x, self.options.scales, self.options.flip)
        settings = post_processing(self.options, (image.shape[0], image.shape[1]))
        found = predict(*maps, self.classes.things, settings)
        quality = PanopticQuality(self.classes)
        quality.add(labels, (found.top1[0].int() * DIVISOR + found.instance[0]).cpu().numpy())
        num_classes = self.classes.num_classes
        top1 = found.top1[0].clamp(max=num_classes).byte().cpu().numpy()  # void is one more class, which is never right
        pixels = count_pairs((labels // DIVISOR).astype(np.uint8), top1, num_classes + 1)
        self.counts += np.concatenate([quality.counts.ravel(), pixels.ravel()])

    def score(self) -> Score:
        """PQ over the classes that occur; SQ, RQ, those of things and stuff, PQ of every class, and the mean IoU."""
        num_classes = self.classes.num_classes
        quality = PanopticQuality(self.classes)
        quality.counts = self.counts[: 4 * num_classes].reshape(num_classes, 4)
        pixels = self.counts[4 * num_classes :].astype(np.int64)
        iou = iou_by_class(pixels.reshape(num_classes + 1, num_classes + 1))[:num_classes]
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
