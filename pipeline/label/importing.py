"""Labels made elsewhere become a version of a store, by a run that reads files instead of asking a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from hmsa_label.pipeline.config import LabelConfig
from hmsa_label.pipeline.engine.events import OnEvent, Warned
from hmsa_label.pipeline.engine.retry import with_retries
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.imports.identity import info_of
from hmsa_label.pipeline.label.plan import find_imported
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.records import LabelSummary
from hmsa_label.stores.files import public_uri


@dataclass(frozen=True, kw_only=True)
class ImportSummary(LabelSummary):
    """What one `import_labels` call did; the JSON object of `hmsa-label import --json`.

    `images_without_labels` images of the data have no labels and are left out; they are not counted where only some
    images are asked for. `labels_without_image` labels belong to no image. `imported` says what was read and how.
    """

    images_without_labels: int = 0
    labels_without_image: int = 0
    imported: Mapping[str, Any] | None = None


def import_labels(config: LabelConfig, on_event: OnEvent | None = None) -> ImportSummary:
    """Imports the labels of all images of the data that the store does not hold yet, and finishes a version of it.

    Killed or interrupted, the same call goes on where it stopped.

    Args:
        config: of a run whose teacher is an `ImportConfig`.
        on_event: as for `label_images`.

    Raises:
        NotAStore: there is nothing at the place of the labels, or no folder at the data root.
        ValueError: no image has labels, or the files cannot be what they are taken for.
        Exception: as `label_images` does.
    """
    labels = config.teacher
    if not isinstance(labels, ImportConfig):
        raise ValueError("import_labels takes an ImportConfig as its teacher; label_images labels with a teacher")
    found = with_retries("reading the labels", lambda: find_imported(config))
    if config.keys or config.data.limit is not None:
        found = replace(found, without_labels=[], without_image=[])
    warnings = [*found.about_unmatched(public_uri(labels.labels)), *found.warnings]
    for text in warnings:
        if on_event is not None:
            on_event(Warned(text=text))
    labels = replace(labels, sha256=found.sha256)
    summary = label_images(replace(config, teacher=labels), on_event)
    own = {field.name: getattr(summary, field.name) for field in fields(summary)}
    return ImportSummary(
        **{**own, "warnings": [*warnings, *summary.warnings]},
        images_without_labels=len(found.without_labels),
        labels_without_image=len(found.without_image),
        imported=info_of(labels)["imported"],
    )
