"""hmsa-label: weakly labelled driving images into versioned, auditable training data.

The names below are the public library; each is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmsa_label.labelers import build_labeler
    from hmsa_label.pipeline.config import DataConfig, EngineConfig, EvaluateConfig, LabelConfig, TeacherConfig
    from hmsa_label.pipeline.data.datasets import AutoLabelDataset, FineLabelDataset
    from hmsa_label.pipeline.data.sampler import MixedBatchSampler
    from hmsa_label.pipeline.label.plan import plan_labels
    from hmsa_label.pipeline.label.run import label_images
    from hmsa_label.pipeline.training.config import AutoLabels, TrainConfig
    from hmsa_label.pipeline.training.loop import train_student, train_teacher
    from hmsa_label.stores.errors import StoreError
    from hmsa_label.stores.versions.label_store import LabelStore

    __version__: str

_PLACES = {
    "AutoLabelDataset": "hmsa_label.pipeline.data.datasets",
    "AutoLabels": "hmsa_label.pipeline.training.config",
    "DataConfig": "hmsa_label.pipeline.config",
    "EngineConfig": "hmsa_label.pipeline.config",
    "EvaluateConfig": "hmsa_label.pipeline.config",
    "FineLabelDataset": "hmsa_label.pipeline.data.datasets",
    "LabelConfig": "hmsa_label.pipeline.config",
    "LabelStore": "hmsa_label.stores.versions.label_store",
    "MixedBatchSampler": "hmsa_label.pipeline.data.sampler",
    "StoreError": "hmsa_label.stores.errors",
    "TeacherConfig": "hmsa_label.pipeline.config",
    "TrainConfig": "hmsa_label.pipeline.training.config",
    "build_labeler": "hmsa_label.labelers",
    "label_images": "hmsa_label.pipeline.label.run",
    "plan_labels": "hmsa_label.pipeline.label.plan",
    "train_student": "hmsa_label.pipeline.training.loop",
    "train_teacher": "hmsa_label.pipeline.training.loop",
}

__all__ = [
    "AutoLabelDataset",
    "AutoLabels",
    "DataConfig",
    "EngineConfig",
    "EvaluateConfig",
    "FineLabelDataset",
    "LabelConfig",
    "LabelStore",
    "MixedBatchSampler",
    "StoreError",
    "TeacherConfig",
    "TrainConfig",
    "__version__",
    "build_labeler",
    "label_images",
    "plan_labels",
    "train_student",
    "train_teacher",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from hmsa_label.pipeline.software import package_version

        return package_version()
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
