"""Who said a pixel's label: the codes of the array `origin`."""

import numpy as np

from hmsa_label.stores.format.layout import IGNORE_INDEX, U8

NONE, TEACHER, POLYGON, GROWN, HUMAN = range(5)
# By code. A human's own correction of a label; nothing writes it yet.
NAMES = ("none", "teacher", "polygon", "grown", "human")


def teacher_alone(label: U8) -> U8:
    """[H, W] uint8 origins of a label [H, W] in which only the teacher spoke."""
    return np.where(label != IGNORE_INDEX, np.uint8(TEACHER), np.uint8(NONE))
