"""The immutable record of a run: what was decided, by which teacher, on what data, with which software, where.

No credentials: storage options are left out, and user names, passwords and query strings are cut from URLs.
"""

import hashlib
import platform
import socket
import sys
from typing import Any

from hmsa_label.labelers.registry import is_built_in
from hmsa_label.pipeline.config import COARSE_LABELS, LabelConfig, TeacherConfig, to_dict
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.imports.identity import import_settings
from hmsa_label.pipeline.label.keeping import Keeping
from hmsa_label.pipeline.label.plan import cluster_address
from hmsa_label.pipeline.software import git_state, library_versions, package_version
from hmsa_label.pipeline.teacher.identity import readable_settings, settings_of_options
from hmsa_label.stores.credentials import hide_in_arguments, hide_in_text
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.images.source import ImageRef, safe_key

NOT_RECORDED = (
    "host",
    "pid",
    "classes",
    "settings",
    "warnings",
    "gives",
    "views",
)  # of a worker's info; records have them elsewhere


def run_record(
    config: LabelConfig, keeping: Keeping, teacher: dict[str, Any], images: list[ImageRef], *, only_new: bool = False
) -> dict[str, Any]:
    """The JSON-able record that the store keeps for a run; `settings` is what its fingerprint is taken from.

    Args:
        teacher: a worker's info: the teacher's provenance with its class table, host and process.
        images: all images of the run, done ones included.
        only_new: whether the run replaces labels of changed images alone; such a run resumes no other.
    """
    settings = to_dict(config)
    settings["store"], settings["data"]["root"] = public_uri(config.store), public_uri(config.data.root)
    settings["teacher"] = teacher_as_asked(config.teacher)
    about = {name: value for name, value in teacher.items() if name not in NOT_RECORDED}
    return {
        "settings": {
            **teacher["settings"],
            "classes": teacher["classes"]["names"],
            **keeping.settings,
            **coarse_labels_of(config),
        },
        "data": _data(config, images, only_new),
        "grid": list(keeping.thresholds) if keeping.keeps_evidence else None,
        "teacher": about,
        **_note(about),
        "classes": teacher["classes"],
        "images": {"count": len(images), "sha256": list_digest(images)},
        "config": settings,
        **this_call(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def this_call() -> dict[str, Any]:
    """Software, command and host, as the record of a run that needs no teacher has them."""
    return {
        "package": {"name": "hmsa-label", "version": package_version(), "git": git_state()},
        "libraries": library_versions(),
        "command": hide_in_arguments(sys.argv),
        "host": socket.gethostname(),
    }


def _note(about: dict[str, Any]) -> dict[str, str]:
    """What the log says of a version of imported labels."""
    imported = about.get("imported")
    return {} if imported is None else {"note": f"imported ({imported['format']})"}


def known_record(
    config: LabelConfig, keeping: Keeping, images: list[ImageRef], *, only_new: bool = False
) -> dict[str, Any]:
    """The part of `run_record` that decides whether a run may begin and is known before a teacher is loaded.

    The digest of the weights is among it if they are a file here that the workers read too.
    """
    settings = {**_known_of_teacher(config), **keeping.settings, **coarse_labels_of(config)}
    leads_to = {} if keeping.leads_to is None else {"leads_to": keeping.leads_to.settings}
    return {"settings": settings, "data": _data(config, images, only_new), **leads_to}


def _known_of_teacher(config: LabelConfig) -> dict[str, Any]:
    teacher = config.teacher
    if isinstance(teacher, ImportConfig):
        return import_settings(teacher)
    weights = [place for place in (teacher.weights, teacher.semantic_from) if place is not None]
    is_here = not weights or (cluster_address(config.engine) is None and "://" not in "".join(map(str, weights)))
    told = readable_settings(teacher) if is_here else settings_of_options(teacher)
    return told if teacher.precision == "auto" else {**told, "precision": teacher.precision}


def known_absent(config: LabelConfig, keeping: Keeping) -> set[str]:
    """Settings that the run's record will surely not have, although those of other runs may."""
    more = set() if keeping.rule.more else {"rule"}
    more |= set() if coarse_labels_of(config) else {"coarse_labels"}
    if isinstance(config.teacher, ImportConfig):
        return more | {"semantics", "semantics_sha256", "precision"}
    return {*more, "imported"} | (set() if config.teacher.semantic_from else {"semantics", "semantics_sha256"})


def told_settings(teacher: TeacherConfig | ImportConfig) -> dict[str, Any]:
    """What decides the bytes of labels, as far as it can be told from here without a teacher."""
    return import_settings(teacher) if isinstance(teacher, ImportConfig) else readable_settings(teacher)


def coarse_labels_of(config: LabelConfig) -> dict[str, Any]:
    """The setting that says which polygons labels may be taken from, where they are not the usual ones."""
    return {} if config.coarse_labels == COARSE_LABELS else {"coarse_labels": config.coarse_labels}


def _data(config: LabelConfig, images: list[ImageRef], only_new: bool) -> dict[str, Any]:
    return {
        "dataset": config.data.dataset,
        "root": public_uri(config.data.root),
        "split": config.data.split,
        **({"only_new": True} if only_new else {}),
        **({"keys": list_digest(images)} if config.keys else {}),
    }


def teacher_as_asked(config: TeacherConfig | ImportConfig) -> dict[str, Any]:
    """What was asked of a teacher, as records hold it: options of one of this package stand beside the others."""
    document = to_dict(config)
    if isinstance(config, ImportConfig):
        places = ("labels", "classes", "images_json")
        return document | {name: hide_in_text(document[name]) for name in places if document[name] is not None}
    document["weights"] = None if config.weights is None else hide_in_text(str(config.weights))
    if config.semantic_from is None:
        for name in ("semantic_from", "semantic_teacher", "semantic_settings"):
            del document[name]
    else:
        document["semantic_from"] = hide_in_text(str(config.semantic_from))
    if is_built_in(config.teacher):
        options = document.pop("options")
        del document["teacher"]
        return {"weights": document.pop("weights"), **options, **document}
    return document


def teacher_identity(teacher: dict[str, Any]) -> dict[str, Any]:
    """The part of a worker's info in which all workers of a run must agree."""
    return {**teacher["settings"], "classes": teacher["classes"]}


def list_digest(images: list[ImageRef]) -> str:
    """Hex sha256 over "key<TAB>path<LF>" lines in the order of the keys."""
    digest = hashlib.sha256()
    for image in sorted(images, key=lambda image: image.key):
        digest.update(f"{image.key}\t{safe_key(image.image)}\n".encode())
    return digest.hexdigest()
