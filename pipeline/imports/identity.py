"""What records say of imported labels: where they are from, and what decides the bytes that an import makes of them."""

from typing import Any

from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.stores.files import public_uri

MODEL = "imported labels"  # stands where records name the model of a teacher


def import_settings(config: ImportConfig) -> dict[str, Any]:
    """The part of a run's settings that says which labels were imported, and how their files were read."""
    about = {"format": config.format, "ids": config.ids, "confidence": config.has_confidence}
    return {"teacher_sha256": config.sha256, "model": MODEL, "imported": about}


def info_of(config: ImportConfig) -> dict[str, Any]:
    """The provenance of imported labels, as a worker tells it of a teacher."""
    settings = import_settings(config)
    place = {"labels": public_uri(config.labels)} | ({"made_by": config.made_by} if config.made_by else {})
    return {
        "model": MODEL,
        "weights_sha256": config.sha256,
        "imported": {**settings["imported"], **place, "sha256": config.sha256},
        "trained_on": None,
        "device": "imported",
        "settings": settings,
        "warnings": [],
        "gives": "labels",
        "views": 1,
    }
