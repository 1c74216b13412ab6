"""Which teacher labels, and how: what decides the bytes of its labels, told without loading it."""

import hashlib
import json
from typing import Any

from hmsa_label.labelers.registry import identity_of
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.teacher.user_code import code_identity
from hmsa_label.stores.files import open_filesystem, read_bytes
from hmsa_label.stores.location import Location


def teacher_settings(
    config: TeacherConfig, weights_sha256: str | None, semantics_sha256: str | None = None
) -> dict[str, Any]:
    """What decides the bytes of a teacher's labels beside its precision, as the record of a run holds it.

    Args:
        weights_sha256: hex digest of its weights file, None if the teacher has none. Then one of its code and its
            settings stands for it.
        semantics_sha256: that of the teacher that tells the classes, if this is another one.

    Raises:
        ValueError: the teacher's class cannot be imported.
    """
    named = settings_of_options(config)
    if semantics_sha256 is not None:
        named["semantics_sha256"] = semantics_sha256
    if weights_sha256 is None:
        weights_sha256 = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return {"teacher_sha256": weights_sha256, **named}


def readable_settings(config: TeacherConfig) -> dict[str, Any]:
    """`teacher_settings` as far as they can be told from here: without the digest of weights that cannot be read."""
    try:
        digests = [None if weights is None else _sha256(weights) for weights in (config.weights, config.semantic_from)]
    except OSError:
        return settings_of_options(config)
    return teacher_settings(config, *digests)


def settings_of_options(config: TeacherConfig) -> dict[str, Any]:
    """`teacher_settings` without the digests of weights."""
    code, identity = code_identity(config.teacher), identity_of(config.teacher, config.options)
    told = {"teacher": code, **identity} if code else identity
    if (semantics := config.semantics) is not None:
        # The name is part of it: records hold that of a teacher of this package nowhere else.
        told["semantics"] = {"name": semantics.teacher, **settings_of_options(semantics)}
    return told


def _sha256(weights: Location) -> str:
    return hashlib.sha256(read_bytes(*open_filesystem(weights))).hexdigest()
