"""Confusion matrices of arg-max classes, and intersection over union from them, as Cityscapes defines it."""

import numpy as np
from numpy.typing import NDArray


def count_pairs(labels: NDArray[np.uint8], predicted: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """[K, K] int64 pixels by label and prediction of one image; pixels whose label is not a class are left out.

    Args:
        labels: [H, W] uint8 trainIds, 255 ignored.
        predicted: [H, W] uint8 trainIds, every one a class.

    Raises:
        ValueError: the shapes differ.
    """
    if labels.shape != predicted.shape:
        raise ValueError(f"labels have shape {labels.shape}, the prediction {predicted.shape}")
    known = labels < num_classes
    pairs = labels[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(pairs, minlength=num_classes * num_classes).reshape(num_classes, num_classes)


def iou_by_class(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K] float64 TP / (TP + FP + FN) of a confusion matrix [K, K]; NaN for a class in neither of its axes."""
    hits = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - hits
    return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)


def mean_iou(iou: NDArray[np.float64]) -> float:
    """Mean over the classes that occur, 0..1; 0 if none does."""
    return 0.0 if np.isnan(iou).all() else float(np.nanmean(iou))


def by_name(names: tuple[str, ...], iou: NDArray[np.float64]) -> dict[str, float | None]:
    """IoU by class name, 0..1; None for a class that does not occur."""
    return {name: None if np.isnan(value) else float(value) for name, value in zip(names, iou, strict=True)}
