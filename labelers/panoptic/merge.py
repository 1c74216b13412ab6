"""Semantic classes and groups of pixels to a panoptic map, by majority vote (arXiv 1911.10194, section 3.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.taxonomy import IGNORE_INDEX


class Merged(NamedTuple):
    """What every pixel of one image belongs to.

    Attributes:
        top1: [H, W] int64 trainIds, 255 is void.
        instance: [H, W] int64, 0 for stuff and void, else 1..M in the order of the groups.
        classes: [M] int64 trainId of each instance. groups: [M] int64, which group each one was.
    """

    top1: Tensor
    instance: Tensor
    classes: Tensor
    groups: Tensor

    def panoptic_map(self) -> Tensor:
        """[H, W] int32 trainId * DIVISOR + instance, where instances are numbered from 1 within each class."""
        same_class = self.classes[:, None] == self.classes
        numbers = same_class.tril().sum(1)  # how many of the class there are up to this one
        numbers = torch.cat([numbers.new_zeros(1), numbers])
        return (self.top1 * DIVISOR + numbers[self.instance]).int()


def is_thing(semantic: Tensor, things: Sequence[int]) -> Tensor:
    """[H, W] bool, whether each pixel's trainId is that of a thing class."""
    table = torch.zeros(IGNORE_INDEX + 1, dtype=torch.bool, device=semantic.device)
    table[list(things)] = True
    return table[semantic.long()]


def merge(semantic: Tensor, groups: Tensor, things: Sequence[int], num_classes: int, stuff_area: int = 2048) -> Merged:
    """Gives each group of thing pixels the class that most of them have, and drops small stuff.

    Of classes with equally many pixels the lowest is taken. A thing pixel without a group is void, and so is a stuff
    pixel with one. A stuff class is void where it has fewer than `stuff_area` pixels in the whole image.

    Args:
        semantic: [H, W] integer trainIds, 255 is void.
        groups: [H, W] integers, 0 for none; only those of thing pixels count.
        things: trainIds of thing classes.
    """
    semantic, groups = semantic.long(), groups.long()
    thing = is_thing(semantic, things)
    grouped = thing & (groups > 0)
    classes, used = _majority(semantic[grouped], groups[grouped], num_classes)
    number = torch.zeros(int(used[-1]) + 1 if len(used) else 1, dtype=torch.int64, device=semantic.device)
    number[used] = torch.arange(1, len(used) + 1, device=semantic.device)
    instance = torch.zeros_like(semantic)
    instance[grouped] = number[groups[grouped]]
    stuff = torch.where(thing | (groups > 0), IGNORE_INDEX, semantic)
    area = torch.bincount(stuff.flatten(), minlength=IGNORE_INDEX + 1)
    kept = torch.where(area >= stuff_area, torch.arange(len(area), device=area.device), IGNORE_INDEX)
    of_instance = torch.cat([classes.new_full((1,), IGNORE_INDEX), classes])
    return Merged(torch.where(grouped, of_instance[instance], kept[stuff]), instance, classes, used)


def _majority(semantic: Tensor, groups: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """(class, group) of every group that has pixels, both [M] int64, ascending by group; 1-d pixels in."""
    if not len(groups):
        return groups, groups
    votes = torch.bincount(groups * num_classes + semantic, minlength=(int(groups.max()) + 1) * num_classes)
    votes = votes.view(-1, num_classes)
    used = votes.sum(1).nonzero()[:, 0]
    return votes[used].argmax(1), used
