"""What a labeler that tells instances apart must give: maps of classes and instances, and a list that fits both."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hmsa_label.labelers.base import Instance, NotFinite, Panoptic
from hmsa_label.labelers.panoptic.merge import is_thing
from hmsa_label.labelers.taxonomy import ClassTable

MOST_INSTANCES = 2**16 - 2  # of one image; a store counts them in 16 bits
SCORE_TOLERANCE = 0.01  # above 1, of what was computed in bfloat16


def panoptic_fault(values: object, counts: tuple[int, int, int], classes: ClassTable) -> str | None:
    """What is wrong with what was given for [N, H, W] pixels of whole images; None if nothing is.

    Raises:
        NotFinite: it holds NaN or infinite confidence.
    """
    if not isinstance(values, Panoptic):
        return f"a Panoptic of three tensors {list(counts)} and a list of instances; it gave a {type(values).__name__}"
    fault = _tensor_fault(values, counts) or _class_fault(values.top1, classes) or _confidence_fault(values, classes)
    return fault or next(_image_faults(values, classes), None)


def _tensor_fault(values: Panoptic, counts: tuple[int, int, int]) -> str | None:
    for name, is_float in (("top1", False), ("confidence", True), ("instance", False)):
        tensor: Tensor = getattr(values, name)
        if tuple(tensor.shape) != counts or tensor.is_floating_point() != is_float:
            kind, found = ("floats" if is_float else "integers"), str(tensor.dtype).removeprefix("torch.")
            return f"a Panoptic with {name} {list(counts)} of {kind}; it gave {list(tensor.shape)} {found}"
    if len(values.instances) != counts[0]:
        return f"a list of instances for each of {counts[0]} images; it gave {len(values.instances)}"
    return None


def _class_fault(top1: Tensor, classes: ClassTable) -> str | None:
    known = ((top1 >= 0) & (top1 < classes.num_classes)) | (top1 == classes.ignore_index)
    if known.all():
        return None
    return (
        f"trainIds from 0 to {classes.num_classes - 1}, or {classes.ignore_index} for void; "
        f"it gave {int(top1[~known][0])}"
    )


def _confidence_fault(values: Panoptic, classes: ClassTable) -> str | None:
    confidence = values.confidence
    if not torch.isfinite(confidence).all():
        raise NotFinite("the network gave NaN or infinite confidence")
    low, high = float(confidence.min()), float(confidence.max())
    if low < 0 or high > 1 + SCORE_TOLERANCE:
        return f"confidence from 0 to 1; it gave {low:g} to {high:g}"
    if (confidence[values.top1 == classes.ignore_index] != 0).any():
        return "confidence 0 where a pixel is void; it gave more"
    return None


def _image_faults(values: Panoptic, classes: ClassTable) -> Iterator[str]:
    """What is wrong with the instances of each image."""
    for top1, instance, listed in zip(values.top1, values.instance, values.instances, strict=True):
        low, high = int(instance.min()), int(instance.max())
        if low < 0 or high > len(listed):
            yield f"instances from 0 to the {len(listed)} that it lists; its map holds {low} to {high}"
        elif len(listed) > MOST_INSTANCES:
            yield f"at most {MOST_INSTANCES} instances of an image; it lists {len(listed)}"
        else:
            if (is_thing(top1, classes.things) != (instance > 0)).any():
                things = ", ".join(classes.names[train_id] for train_id in classes.things) or "none"
                yield f"an instance for every pixel of a thing and for no other; things are: {things}"
            yield from _entry_faults(top1, instance, listed)


def _entry_faults(top1: Tensor, instance: Tensor, listed: Sequence[Instance]) -> Iterator[str]:
    """What is wrong with the list of one image's instances."""
    if strange := [type(entry).__name__ for entry in listed if not isinstance(entry, Instance)]:
        yield f"a list of Instance; it holds a {strange[0]}"
        return
    numbers, count = instance.flatten().long(), len(listed) + 1
    of_entry = torch.tensor([0, *(entry.train_id for entry in listed)], device=numbers.device)[numbers]
    areas = torch.bincount(numbers, minlength=count)[1:].tolist()
    others = torch.bincount(numbers[of_entry != top1.flatten()], minlength=count)[1:].tolist()
    boxes = boxes_of(instance, len(listed))
    for number, (entry, area, box) in enumerate(zip(listed, areas, boxes, strict=True), 1):
        if not area:
            yield f"only instances that have pixels; instance {number} has none"
        elif (entry.area_px, tuple(entry.box)) != (area, box):
            yield (
                f"the area and box (x, y, width, height) that instance {number} has in its map, {area} px and {box}; "
                f"it gave {entry.area_px} px and {tuple(entry.box)}"
            )
        elif others[number - 1]:
            yield f"class {entry.train_id} for all pixels of instance {number}, as its list says; its map holds others"
        elif not (0 <= entry.center_score <= 1 + SCORE_TOLERANCE and 0 <= entry.confidence <= 1 + SCORE_TOLERANCE):
            yield (
                f"scores from 0 to 1; instance {number} has center_score {entry.center_score:g} and "
                f"confidence {entry.confidence:g}"
            )


def boxes_of(instance: Tensor, count: int) -> list[tuple[int, int, int, int]]:
    """(x, y, width, height) px of instances 1 to `count` of a map [H, W]; zeros for one without a pixel."""
    flat, (height, width) = instance.flatten().long(), instance.shape
    rows = torch.arange(height, device=flat.device).repeat_interleave(width)
    columns = torch.arange(width, device=flat.device).repeat(height)
    boxes = []
    for places, length in ((columns, width), (rows, height)):
        first = torch.full((count + 1,), length, device=flat.device).scatter_reduce(0, flat, places, "amin")
        last = torch.full((count + 1,), -1, device=flat.device).scatter_reduce(0, flat, places, "amax")
        boxes.append((first, (last - first + 1).clamp(min=0)))
    (x, width_px), (y, height_px) = boxes
    found = torch.stack([x, y, width_px, height_px], 1)[1:]
    return [tuple(box) if box[2] else (0, 0, 0, 0) for box in found.tolist()]


def whole_images_fault(rows: slice, columns: slice, size_px: tuple[int, int]) -> str | None:
    """Instances of a part of an image mean nothing beside those of another part."""
    if (rows, columns) == (slice(0, size_px[0]), slice(0, size_px[1])):
        return None
    return f"parts of whole images of {size_px[0]} x {size_px[1]} px where it tells instances apart"
