"""Validation of HMSA networks: mean IoU of the arg-max, at the scales that are trained, without flip."""

import numpy as np
import torch
from numpy.typing import NDArray

from hmsa_label.labelers.confusion import by_name, count_pairs, iou_by_class, mean_iou
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.training import Score

SCORE = "mIoU"


class MeanIoU:
    """Counts by the path that labels are made by, so that the figure is theirs (`labelers.training.Validation`).

    Attributes:
        counts: [K, K] int64 pixels by label and prediction.
    """

    def __init__(self, net: InferenceNet, scales: tuple[float, ...], fusion: str, classes: ClassTable) -> None:
        self.net, self.scales, self.fusion, self.classes = net, scales, fusion, classes
        self.counts: NDArray[np.int64] = np.zeros((classes.num_classes, classes.num_classes), np.int64)

    def add(self, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Counts one image [H, W, 3] uint8 RGB with its labels [H, W] uint8 trainIds, 255 ignored."""
        top1 = self.net.top1(torch.from_numpy(image), self.scales, self.fusion, flip=False).cpu().numpy()
        self.counts += count_pairs(labels, top1, self.classes.num_classes)

    def score(self) -> Score:
        """Mean IoU over the classes that occur, and the IoU of each."""
        iou = iou_by_class(self.counts)
        return Score(name=SCORE, value=mean_iou(iou), parts={"iou": by_name(self.classes.names, iou)})
