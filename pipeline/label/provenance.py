"""The immutable record of a run: what was decided, by which teacher, on what data, with which software, where.

No credentials: storage options are left out, and user names, passwords and query strings are cut from URLs.
"""

import hashlib
import platform
import socket
import sys
from typing import Any

from hmsa_label.pipeline.config import LabelConfig, TeacherConfig, to_dict
from hmsa_label.pipeline.label.forward_thread import Rule
from hmsa_label.pipeline.label.plan import cluster_address
from hmsa_label.pipeline.software import git_state, library_versions, package_version
from hmsa_label.pipeline.teacher.fake import fake_sha256, is_fake
from hmsa_label.stores.credentials import hide_in_arguments, hide_in_text
from hmsa_label.stores.files import open_filesystem, public_uri, read_bytes
from hmsa_label.stores.images.source import ImageRef, safe_key

# Part of a worker's info in which all workers of a run must agree: it decides the bytes of their labels.
TEACHER_IDENTITY = ("model", "weights_sha256", "scales", "flip", "fusion", "precision", "classes")


def run_record(
    config: LabelConfig, rule: Rule, teacher: dict[str, Any], images: list[ImageRef], *, only_new: bool = False
) -> dict[str, Any]:
    """The JSON-able record that the store keeps for a run; `settings` is what its fingerprint is taken from.

    Args:
        teacher: a worker's info: the teacher's provenance with its class table, host and process.
        images: all images of the run, done ones included.
        only_new: whether the run replaces labels of changed images alone; such a run resumes no other.
    """
    settings = to_dict(config)
    settings["store"], settings["data"]["root"] = public_uri(config.store), public_uri(config.data.root)
    settings["teacher"]["weights"] = hide_in_text(config.teacher.weights)
    about = {name: value for name, value in teacher.items() if name not in ("host", "pid", "classes")}
    return {
        "settings": {
            "teacher_sha256": teacher["weights_sha256"],
            **{name: teacher[name] for name in ("model", "scales", "flip", "fusion", "precision")},
            "classes": teacher["classes"]["names"],
            "threshold": rule.threshold,
        },
        "data": _data(config, images, only_new),
        "grid": list(rule.thresholds) if rule.keep_evidence else None,
        "teacher": about,
        "classes": teacher["classes"],
        "images": {"count": len(images), "sha256": list_digest(images)},
        "config": settings,
        "package": {"name": "hmsa-label", "version": package_version(), "git": git_state()},
        "libraries": library_versions(),
        "command": hide_in_arguments(sys.argv),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def known_record(config: LabelConfig, images: list[ImageRef], *, only_new: bool = False) -> dict[str, Any]:
    """The part of `run_record` that decides whether a run may begin and is known before a teacher is loaded.

    The digest of the weights is among it if they are a file here that the workers read too.
    """
    teacher = config.teacher
    settings: dict[str, Any] = {
        "scales": sorted(teacher.scales),
        "flip": teacher.flip,
        "fusion": teacher.fusion,
        "threshold": config.threshold,
    }
    if teacher.precision != "auto" and not is_fake(teacher.weights):
        settings["precision"] = teacher.precision
    is_here = cluster_address(config.engine) is None and "://" not in teacher.weights
    if is_here and (sha256 := weights_sha256(teacher)) is not None:
        settings["teacher_sha256"] = sha256
    return {"settings": settings, "data": _data(config, images, only_new)}


def _data(config: LabelConfig, images: list[ImageRef], only_new: bool) -> dict[str, Any]:
    return {
        "dataset": config.data.dataset,
        "root": public_uri(config.data.root),
        "split": config.data.split,
        **({"only_new": True} if only_new else {}),
        **({"keys": list_digest(images)} if config.keys else {}),
    }


def weights_sha256(teacher: TeacherConfig) -> str | None:
    """Hex digest of the weights as the teacher itself would state it; None if they cannot be read here."""
    if is_fake(teacher.weights):
        return fake_sha256(teacher.weights)
    try:
        return hashlib.sha256(read_bytes(*open_filesystem(teacher.weights))).hexdigest()
    except OSError:
        return None


def teacher_identity(teacher: dict[str, Any]) -> dict[str, Any]:
    """The part of a worker's info in which all workers of a run must agree."""
    return {name: teacher[name] for name in TEACHER_IDENTITY}


def list_digest(images: list[ImageRef]) -> str:
    """Hex sha256 over "key<TAB>path<LF>" lines in the order of the keys."""
    digest = hashlib.sha256()
    for image in sorted(images, key=lambda image: image.key):
        digest.update(f"{image.key}\t{safe_key(image.image)}\n".encode())
    return digest.hexdigest()
