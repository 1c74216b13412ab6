"""From the maps of a panoptic network to labels: centers, grouping, merging, and the scores of instances."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hmsa_label.labelers.base import Instance, Panoptic
from hmsa_label.labelers.panoptic.centers import find_centers
from hmsa_label.labelers.panoptic.grouping import group_pixels
from hmsa_label.labelers.panoptic.merge import Merged, is_thing, merge
from hmsa_label.labelers.panoptic.settings import PostProcessing
from hmsa_label.labelers.taxonomy import IGNORE_INDEX

# Confidences are added up as multiples of 1 / this: the sums are exact, so they do not depend on order or device.
_CONFIDENCE_STEPS = 2**30


def predict(
    probabilities: Tensor,
    center: Tensor,
    offset: Tensor,
    things: Sequence[int],
    settings: PostProcessing | None = None,
    ignored: Tensor | None = None,
) -> Panoptic:
    """The panoptic labels of a batch; each image is labeled as it would be alone.

    Args:
        probabilities: [N, K, H, W] float32 of the semantic classes, at full size; from this network or another one.
        center: [N, 1, H, W] float heat map. offset: [N, 2, H, W] float (dy, dx), px of full size.
        things: trainIds of thing classes.
        settings: None is the published ones.
        ignored: [N, H, W] bool, pixels that are known to show nothing of the classes, such as the hood of the car that
            carries the camera; they are void and take part in no instance.
    """
    settings = settings or PostProcessing()
    images = [
        _predict_one(
            probabilities[i], center[i, 0], offset[i], things, settings, None if ignored is None else ignored[i]
        )
        for i in range(len(probabilities))
    ]
    top1, confidence, instance, instances = zip(*images, strict=True)
    return Panoptic(torch.stack(top1), torch.stack(confidence), torch.stack(instance), list(instances))


def _predict_one(
    probabilities: Tensor,
    heatmap: Tensor,
    offset: Tensor,
    things: Sequence[int],
    settings: PostProcessing,
    ignored: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, list[Instance]]:
    """(top1 uint8, confidence float32, instance int32, all [H, W], and the instances) of one image."""
    highest, semantic = probabilities.max(0)
    if ignored is not None:
        semantic = semantic.masked_fill(ignored, IGNORE_INDEX)
    points, scores = find_centers(heatmap.float(), settings.peak_threshold, settings.kernel_px, settings.top_k)
    groups = group_pixels(points, offset, is_thing(semantic, things))
    merged = merge(semantic, groups, things, len(probabilities), settings.stuff_area_px)
    confidence = _confidence(probabilities, highest, semantic, merged)
    instances = _describe(merged, confidence, scores[merged.groups - 1])
    return merged.top1.to(torch.uint8), confidence, merged.instance.int(), instances


def _confidence(probabilities: Tensor, highest: Tensor, semantic: Tensor, merged: Merged) -> Tensor:
    """[H, W] float32 probability of the class that each pixel was given; 0 where void."""
    confidence = torch.where(merged.top1 == IGNORE_INDEX, 0.0, highest.float())
    outvoted = (merged.instance > 0) & (merged.top1 != semantic)
    y, x = outvoted.nonzero().unbind(1)
    confidence[y, x] = probabilities[merged.top1[y, x], y, x].float()
    return confidence


def _describe(merged: Merged, confidence: Tensor, center_scores: Tensor) -> list[Instance]:
    """The instances of an image with their scores, areas and boxes."""
    count = len(merged.classes)
    y, x = merged.instance.nonzero().unbind(1)
    number = merged.instance[y, x] - 1
    area = torch.bincount(number, minlength=count)
    steps = (confidence[y, x].double() * _CONFIDENCE_STEPS).round()
    mean = torch.bincount(number, steps, minlength=count) / _CONFIDENCE_STEPS / area
    top, bottom = _extent(number, y, count, merged.instance.shape[0])
    left, right = _extent(number, x, count, merged.instance.shape[1])
    boxes = torch.stack([left, top, right - left + 1, bottom - top + 1], dim=1).tolist()
    rows = zip(
        merged.classes.tolist(), center_scores.clamp(0, 1).tolist(), mean.tolist(), area.tolist(), boxes, strict=True
    )
    return [Instance(*row[:4], (*row[4],)) for row in rows]


def _extent(number: Tensor, position: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest position of the pixels of each instance, [M] int64; every instance has a pixel."""
    seen = torch.bincount(number * size + position, minlength=count * size).view(count, size) > 0
    seen = seen.byte()
    return seen.argmax(1), size - 1 - seen.flip(1).argmax(1)
