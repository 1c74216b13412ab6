"""The verbs of hmsa-label, and all that the command line may see of it.

    images -> decode -> teacher (chain of scales, flip) -> threshold -> label store
    stores/   data/     teacher/, labelers/                teacher/     stores/
              \\_______ label/worker.py, one per device ____________/       ^
                                |  one small receipt per image             |
                             engine/ -> label/run.py -> manifest ----------+

Names are imported when they are first used, so that asking for help loads neither torch nor ray.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmsa_label.pipeline.audit.card import render_card
    from hmsa_label.pipeline.audit.croissant import render_croissant
    from hmsa_label.pipeline.audit.store import (
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
    from hmsa_label.pipeline.audit.trace import trace_checkpoint
    from hmsa_label.pipeline.compare.comparison import compare as compare_students
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
    from hmsa_label.pipeline.demo.flow import run_demo
    from hmsa_label.pipeline.errors import EngineError
    from hmsa_label.pipeline.interrupt import threads_left
    from hmsa_label.pipeline.label.plan import plan_labels
    from hmsa_label.pipeline.label.run import label_images
    from hmsa_label.pipeline.monitor.progress import open_display
    from hmsa_label.pipeline.monitor.run_states import list_runs, run_status
    from hmsa_label.pipeline.teacher.evaluate import evaluate as evaluate_teacher
    from hmsa_label.pipeline.teacher.explain import explain_image
    from hmsa_label.pipeline.training.config import (
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
    from hmsa_label.pipeline.training.loop import train_student, train_teacher
    from hmsa_label.pipeline.training.progress import open_training_display
    from hmsa_label.pipeline.training.ray_train import train_on_ray
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
    **dict.fromkeys(_TRAIN_CONFIG.split(), "hmsa_label.pipeline.training.config"),
    **dict.fromkeys(_AUDIT.split(), "hmsa_label.pipeline.audit.store"),
    "render_card": "hmsa_label.pipeline.audit.card",
    "render_croissant": "hmsa_label.pipeline.audit.croissant",
    "EngineError": "hmsa_label.pipeline.engine.executor",
    "compare_students": "hmsa_label.pipeline.compare.comparison:compare",
    "StoreError": "hmsa_label.stores.errors",
    "is_network_trouble": "hmsa_label.stores.errors",
    "hide_in_text": "hmsa_label.stores.credentials",
    "missing_credentials": "hmsa_label.stores.credentials",
    "evaluate_teacher": "hmsa_label.pipeline.teacher.evaluate:evaluate",
    "explain_image": "hmsa_label.pipeline.teacher.explain",
    "label_images": "hmsa_label.pipeline.label.run",
    "list_runs": "hmsa_label.pipeline.monitor.run_states",
    "run_status": "hmsa_label.pipeline.monitor.run_states",
    "open_display": "hmsa_label.pipeline.monitor.progress",
    "plan_labels": "hmsa_label.pipeline.label.plan",
    "run_demo": "hmsa_label.pipeline.demo.flow",
    "trace_checkpoint": "hmsa_label.pipeline.audit.trace",
    "threads_left": "hmsa_label.pipeline.interrupt",
    "train_on_ray": "hmsa_label.pipeline.training.ray_train",
    "train_student": "hmsa_label.pipeline.training.loop",
    "train_teacher": "hmsa_label.pipeline.training.loop",
    "open_training_display": "hmsa_label.pipeline.training.progress",
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
