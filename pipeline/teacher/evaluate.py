"""Scores a teacher, or a student, on a split with labels."""

from dataclasses import replace

from hmsa_label.labelers.taxonomy import class_difference
from hmsa_label.pipeline.config import EvaluateConfig
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.scores import Evaluation, confusion_of, labeled_images
from hmsa_label.stores.images.open import open_images


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Scores a teacher (or student) on a split with labels.

    Raises:
        ValueError: unusable weights or data; the teacher's classes are not those of the data.
    """
    from hmsa_label.pipeline.teacher.semantic import Teacher

    source = open_images(config.data.dataset, config.data.root, config.data.storage_options)
    refs = labeled_images(source, config.data.split, config.labels, config.data.limit)
    teacher, classes = Teacher(config.teacher), classes_of(source)
    if difference := class_difference(teacher.classes, classes):
        raise ValueError(f"{difference}, so it cannot be scored there; correct --weights, --data or --dataset")
    scores = confusion_of(source, refs, classes, teacher.top1).scores()
    return replace(scores, images_trained_on=sum(ref.key in teacher.trained_on for ref in refs))
