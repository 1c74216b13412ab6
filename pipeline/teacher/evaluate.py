"""Scores a teacher, or a student, on a split with labels."""

from dataclasses import replace

from hmsa_label.labelers.taxonomy import class_difference
from hmsa_label.pipeline.config import EvaluateConfig
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.panoptic_labels import images_with_instances
from hmsa_label.pipeline.data.panoptic_scores import PanopticEvaluation, scores_of
from hmsa_label.pipeline.data.scores import Evaluation, confusion_of, labeled_images
from hmsa_label.stores.images.open import open_images


def evaluate(config: EvaluateConfig) -> Evaluation | PanopticEvaluation:
    """Scores a teacher (or student) on a split with labels; on one with instances if it tells instances apart.

    Raises:
        ValueError: unusable weights or data; the teacher's classes are not those of the data; it tells instances apart
            and the labels have none.
    """
    from hmsa_label.pipeline.teacher.teacher import Teacher

    data = config.data
    source = open_images(data.dataset, data.root, data.storage_options)
    labeled = labeled_images(source, data.split, config.labels, data.limit)
    teacher, classes = Teacher(config.teacher), classes_of(source)
    if difference := class_difference(teacher.classes, classes):
        raise ValueError(f"{difference}, so it cannot be scored there; correct --weights, --data or --dataset")
    if teacher.has_instances:
        refs = images_with_instances(source, data.split, config.labels, data.limit)
        scores: Evaluation = scores_of(source, refs, classes, teacher.predict).scores()
    else:
        refs, scores = labeled, confusion_of(source, labeled, classes, teacher.top1).scores()
    return replace(scores, images_trained_on=sum(ref.key in teacher.trained_on for ref in refs))
