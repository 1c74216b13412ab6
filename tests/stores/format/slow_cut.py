"""What a rule makes of an image, pixel by pixel in plain Python, as FORMAT.md says it; compared with `cut`."""

from typing import Any

import numpy as np

from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.rule import Rule

f32 = np.float32


def slow_cut(arrays: dict[str, Any], rule: Rule, bounds: Bounds) -> dict[str, Any]:
    """label, origin (None if polygons give no label) and counts of an image."""
    height, width = arrays["top1"].shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    teacher = {at: _said(arrays, at, rule, bounds) for at in pixels}
    hidden = {at: _hidden(arrays, at, rule) for at in pixels}
    teacher = {at: 255 if hidden[at] else teacher[at] for at in pixels}
    label, origin = dict(teacher), {at: 0 if teacher[at] == 255 else 1 for at in pixels}
    polygon, names = arrays.get("polygon"), bounds.names
    modes = {k: rule.class_polygons.get(name, rule.polygons) for k, name in enumerate(names)}
    gives = {k for k in modes if modes[k] in ("trust", "add") or (modes[k] == "seen" and k in teacher.values())}
    if polygon is not None:
        for at in pixels:
            drawn = int(polygon[at])
            mode = modes.get(drawn, "off")
            if mode == "veto" and label[at] not in (255, drawn):
                label[at], origin[at] = 255, 0
            if drawn in gives and (mode != "add" or label[at] == 255):
                label[at], origin[at] = drawn, 2
        for at in pixels if rule.grow_px and set(modes.values()) & {"trust", "add", "seen"} else []:
            near = 0 < arrays["grown_px"][at] <= rule.grow_px
            if label[at] == 255 and not hidden[at] and near and int(arrays["grown"][at]) in gives:
                label[at], origin[at] = int(arrays["grown"][at]), 3
    kept = sum(value != 255 for value in label.values()) / len(pixels)
    score = {None: 1.0, "mean_confidence": bounds.mean_confidence, "kept_share": kept}[rule.best_by]
    if f32(score) < f32(rule.best_from if rule.best_by else 0):
        label, origin = dict.fromkeys(pixels, 255), dict.fromkeys(pixels, 0)
    takes = polygon is not None and any(mode in ("trust", "add", "seen") for mode in modes.values())
    return {
        "label": _map(label, arrays),
        "origin": _map(origin, arrays) if takes else None,
        "predicted_px": [sum(arrays["top1"][at] == k for at in pixels) for k in modes],
        "teacher_px": [sum(teacher[at] == k for at in pixels) for k in modes],
        **({} if polygon is None else _polygon_counts(polygon, teacher, pixels, len(names))),
    }


def _said(arrays: dict[str, Any], at: tuple[int, int], rule: Rule, bounds: Bounds) -> int:
    said = int(arrays["top1"][at])
    named = bounds.names[said] if said != 255 else ""
    threshold = rule.class_thresholds.get(named, rule.threshold)
    # The confidence that a code allows at least; every threshold that is asked for is on the grid.
    confidence = (0.0, *bounds.thresholds)[arrays["code"][at]]
    kept = threshold != "off" and f32(confidence) >= f32(threshold)
    if rule.margin:
        kept = kept and f32((0.0, *bounds.margins)[arrays["margin"][at]]) >= f32(rule.margin)
    if rule.max_disagreement is not None:
        kept = kept and arrays["disagreement"][at] <= rule.max_disagreement
    if "instance" in arrays and arrays["instance"][at]:
        found = (bounds.instances or ())[arrays["instance"][at] - 1]
        kept = kept and f32(found.center_score) >= f32(rule.center_threshold)
        kept = kept and f32(found.confidence) >= f32(rule.instance_threshold)
    return said if kept else 255


def _hidden(arrays: dict[str, Any], at: tuple[int, int], rule: Rule) -> bool:
    (y, x), (height, width) = at, arrays["top1"].shape
    top, right, bottom, left = rule.border_px or (0, 0, 0, 0)
    outside = y < top or y >= height - bottom or x < left or x >= width - right
    return outside or (rule.mask is not None and bool(arrays["mask"][at]))


def _polygon_counts(polygon: Any, teacher: dict[Any, int], pixels: list[Any], num: int) -> dict[str, list[int]]:
    drawn = [(int(polygon[at]), teacher[at]) for at in pixels if polygon[at] != 255]
    return {
        "polygon_px": [sum(one == k for one, _ in drawn) for k in range(num)],
        "polygon_kept_px": [sum(one == k and said != 255 for one, said in drawn) for k in range(num)],
        "polygon_agree_px": [sum(one == k == said for one, said in drawn) for k in range(num)],
    }


def _map(values: dict[tuple[int, int], int], arrays: dict[str, Any]) -> Any:
    return np.array(list(values.values()), np.uint8).reshape(arrays["top1"].shape)
