"""What the numbers of a panoptic map mean. This module imports nothing heavy.

A panoptic map is integer [H, W], trainId * DIVISOR + instance. Instance 0 is stuff, or in labels a crowd: a region of a
thing class whose instances nobody told apart. Instances of things are numbered from 1 within their class.
"""

from hmsa_label.labelers.taxonomy import IGNORE_INDEX

DIVISOR = 1000
VOID = IGNORE_INDEX * DIVISOR  # a pixel that belongs to no class
