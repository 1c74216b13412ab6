"""The verbs of hmsa-label, and all that the command line may see of it.

    images -> decode -> teacher (chain of scales, flip) -> threshold -> label store
    stores/   decode.py     teacher.py, labelers/         threshold.py     stores/
              \\______________ worker.py, one per device ______________/       ^
                                     |  one small receipt per image            |
    dispatch.py, ray_executor.py, executor.py -> label_run.py -> manifest -----+

Names are imported when they are first used, so that asking for help loads neither torch nor ray.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmsa_label.pipeline.audit import (
        audit_card,
        audit_diff,
        audit_log,
        audit_show,
        audit_verify,
        collect_garbage,
        export_labels,
        picture_of_label,
        rethreshold_labels,
        roll_back,
        tag_version,
    )
    from hmsa_label.pipeline.card import render_card
    from hmsa_label.pipeline.compare import compare as compare_students
    from hmsa_label.pipeline.config import (
        DATASETS,
        EXECUTORS,
        FUSIONS,
        ON_ERROR,
        PRECISIONS,
        DataConfig,
        EngineConfig,
        EvaluateConfig,
        ExplainConfig,
        LabelConfig,
        StoreConfig,
        TeacherConfig,
        TraceConfig,
        to_dict,
    )
    from hmsa_label.pipeline.croissant import render_croissant
    from hmsa_label.pipeline.demo import run_demo
    from hmsa_label.pipeline.evaluate import evaluate as evaluate_teacher
    from hmsa_label.pipeline.executor import EngineError
    from hmsa_label.pipeline.explain import explain_image
    from hmsa_label.pipeline.interrupt import threads_left
    from hmsa_label.pipeline.label_run import label_images
    from hmsa_label.pipeline.plan import plan_labels
    from hmsa_label.pipeline.progress import open_display
    from hmsa_label.pipeline.ray_train import train_on_ray
    from hmsa_label.pipeline.run_states import list_runs, run_status
    from hmsa_label.pipeline.trace import trace_checkpoint
    from hmsa_label.pipeline.train import train_student, train_teacher
    from hmsa_label.pipeline.train_config import (
        AUX_LOSSES,
        LOSSES,
        OPTIMIZERS,
        AugmentConfig,
        AutoLabels,
        CoarseLabels,
        CompareConfig,
        ModelConfig,
        RayTrainConfig,
        TrainConfig,
    )
    from hmsa_label.pipeline.train_progress import open_training_display
    from hmsa_label.stores.credentials import hide_in_text, missing_credentials
    from hmsa_label.stores.errors import StoreError, is_network_trouble

_CONFIG = (
    "DATASETS EXECUTORS FUSIONS ON_ERROR PRECISIONS DataConfig EngineConfig EvaluateConfig ExplainConfig "
    "LabelConfig StoreConfig TeacherConfig TraceConfig to_dict"
)

_TRAIN_CONFIG = (
    "AUX_LOSSES LOSSES OPTIMIZERS AugmentConfig AutoLabels CoarseLabels CompareConfig ModelConfig "
    "RayTrainConfig TrainConfig"
)

_AUDIT = (
    "audit_card audit_diff audit_log audit_show audit_verify collect_garbage export_labels "
    "picture_of_label rethreshold_labels roll_back tag_version"
)

# Name -> the module that holds it, and its name there where it differs (a module of the same name would hide it here).
_PLACES = {
    **dict.fromkeys(_CONFIG.split(), "hmsa_label.pipeline.config"),
    **dict.fromkeys(_TRAIN_CONFIG.split(), "hmsa_label.pipeline.train_config"),
    **dict.fromkeys(_AUDIT.split(), "hmsa_label.pipeline.audit"),
    "render_card": "hmsa_label.pipeline.card",
    "render_croissant": "hmsa_label.pipeline.croissant",
    "EngineError": "hmsa_label.pipeline.executor",
    "compare_students": "hmsa_label.pipeline.compare:compare",
    "StoreError": "hmsa_label.stores.errors",
    "is_network_trouble": "hmsa_label.stores.errors",
    "hide_in_text": "hmsa_label.stores.credentials",
    "missing_credentials": "hmsa_label.stores.credentials",
    "evaluate_teacher": "hmsa_label.pipeline.evaluate:evaluate",
    "explain_image": "hmsa_label.pipeline.explain",
    "label_images": "hmsa_label.pipeline.label_run",
    "list_runs": "hmsa_label.pipeline.run_states",
    "run_status": "hmsa_label.pipeline.run_states",
    "open_display": "hmsa_label.pipeline.progress",
    "plan_labels": "hmsa_label.pipeline.plan",
    "run_demo": "hmsa_label.pipeline.demo",
    "trace_checkpoint": "hmsa_label.pipeline.trace",
    "threads_left": "hmsa_label.pipeline.interrupt",
    "train_on_ray": "hmsa_label.pipeline.ray_train",
    "train_student": "hmsa_label.pipeline.train",
    "train_teacher": "hmsa_label.pipeline.train",
    "open_training_display": "hmsa_label.pipeline.train_progress",
}

__all__ = [
    "AUX_LOSSES",
    "DATASETS",
    "EXECUTORS",
    "FUSIONS",
    "LOSSES",
    "ON_ERROR",
    "OPTIMIZERS",
    "PRECISIONS",
    "AugmentConfig",
    "AutoLabels",
    "CoarseLabels",
    "CompareConfig",
    "DataConfig",
    "EngineConfig",
    "EngineError",
    "EvaluateConfig",
    "ExplainConfig",
    "LabelConfig",
    "ModelConfig",
    "RayTrainConfig",
    "StoreConfig",
    "StoreError",
    "TeacherConfig",
    "TraceConfig",
    "TrainConfig",
    "audit_card",
    "audit_diff",
    "audit_log",
    "audit_show",
    "audit_verify",
    "collect_garbage",
    "compare_students",
    "evaluate_teacher",
    "explain_image",
    "export_labels",
    "hide_in_text",
    "is_network_trouble",
    "label_images",
    "list_runs",
    "missing_credentials",
    "open_display",
    "open_training_display",
    "picture_of_label",
    "plan_labels",
    "render_card",
    "render_croissant",
    "rethreshold_labels",
    "roll_back",
    "run_demo",
    "run_status",
    "tag_version",
    "threads_left",
    "to_dict",
    "trace_checkpoint",
    "train_on_ray",
    "train_student",
    "train_teacher",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)
