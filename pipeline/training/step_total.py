"""How many pixels of each kind the crops of a step have: what the parts of its loss are divided by."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.training import StepTotal

Counts = NDArray[np.int64]  # [3]: pixels with a label, of an instance, of a crowd


def count_labels(labels: Tensor, classes: ClassTable) -> Counts:
    """The counts of a pass with trainIds [N, h, w], which tell no instances."""
    return np.array([int((labels < classes.num_classes).sum()), 0, 0])


def count_instances(labels: Tensor, classes: ClassTable) -> Counts:
    """The counts of a pass with panoptic maps [N, h, w]."""
    train_ids = labels // DIVISOR
    thing = torch.isin(train_ids, torch.tensor(classes.things))
    crowd = thing & (labels % DIVISOR == 0)
    found = (train_ids < classes.num_classes, thing & ~crowd, crowd)
    return np.array([int(pixels.sum()) for pixels in found])


def step_total(counts: Counts, images: int) -> StepTotal:
    """What a step of `images` crops holds, from its counts over all passes and processes."""
    labeled, instance, crowd = counts.tolist()
    return StepTotal(labeled_px=labeled, images=images, instance_px=instance, crowd_px=crowd)
