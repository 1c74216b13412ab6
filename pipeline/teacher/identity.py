"""Which teacher labels, and how: what decides the bytes of its labels, told without loading it."""

import hashlib
import json
from typing import Any

from hmsa_label.labelers.registry import identity_of
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.teacher.user_code import code_identity
from hmsa_label.stores.files import open_filesystem, read_bytes


def teacher_settings(config: TeacherConfig, weights_sha256: str | None) -> dict[str, Any]:
    """What decides the bytes of a teacher's labels beside its precision, as the record of a run holds it.

    Args:
        weights_sha256: hex digest of its weights file, None if the teacher has none. Then one of its code and its
            settings stands for it.

    Raises:
        ValueError: the teacher's class cannot be imported.
    """
    named = settings_of_options(config)
    if weights_sha256 is None:
        weights_sha256 = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return {"teacher_sha256": weights_sha256, **named}


def readable_settings(config: TeacherConfig) -> dict[str, Any]:
    """`teacher_settings` as far as they can be told from here: without the digest of weights that cannot be read."""
    if config.weights is None:
        return teacher_settings(config, None)
    try:
        data = read_bytes(*open_filesystem(config.weights))
    except OSError:
        return settings_of_options(config)
    return teacher_settings(config, hashlib.sha256(data).hexdigest())


def settings_of_options(config: TeacherConfig) -> dict[str, Any]:
    """`teacher_settings` without the digest of its weights."""
    code, identity = code_identity(config.teacher), identity_of(config.teacher, config.options)
    return {"teacher": code, **identity} if code else identity
