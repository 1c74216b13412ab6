"""Images that cannot be labeled: how many a run puts up with, and which ones need not be tried again."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hmsa_label.pipeline.engine.retry import patient_reader
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.errors import StoreError
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.layout import RUNS
from hmsa_label.stores.images.changed_files import SourceState, changed_sources
from hmsa_label.stores.images.source import ImageRef
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.runs.record import read_outcomes

THREADS = 8  # reading is waiting


@dataclass(frozen=True, kw_only=True)
class FailurePolicy:
    """What ends a run; `EngineConfig` explains the fields."""

    on_error: str = "skip"
    max_failures: int | None = None

    def check(self, failures: Sequence[Failure]) -> None:
        """Looks at all failures of a run so far, those of earlier attempts included.

        Raises:
            EngineError: if the newest one is one too many.
        """
        if not failures:
            return
        last = failures[-1]
        if self.on_error == "fail":
            raise EngineError(
                f"{last.key} cannot be labeled: {last.reason}. --on-error fail ends the run here; what is finished is "
                "kept, and the same command goes on once the image is repaired or gone"
            )
        if self.max_failures is not None and len(failures) > self.max_failures:
            raise EngineError(
                f"{len(failures)} images cannot be labeled, --max-failures allows {self.max_failures}; the last one "
                f"is {last.key}: {last.reason}. What is finished is kept, and the same command goes on from here"
            )


def known_failures(store: FileRoot, data: FileRoot, images: Iterable[ImageRef]) -> dict[str, Failure]:
    """Failures of earlier attempts that another try cannot cure, by key: the file is still the one that did not decode.

    Failures that a file's bytes do not explain, such as a worker that was lost, are not among them.

    Raises:
        OSError: if a storage fails.
    """
    paths = {image.key: image.image for image in images}
    found = {key: failure for key, failure in _recorded(store).items() if key in paths and failure.source_sha256}
    states = [
        SourceState(key=key, path=paths[key], size_bytes=failure.source_bytes, sha256=failure.source_sha256)
        for key, failure in found.items()
    ]
    changed = changed_sources(data, states, patient_reader(data)) if states else set()
    return {key: found[key] for key in sorted(found.keys() - changed)}


def _recorded(store: FileRoot) -> dict[str, Failure]:
    """The newest failure of each image in the outcomes of all runs."""

    def outcomes_of(run_id: str) -> list[dict[str, object]]:
        with contextlib.suppress(StoreError):  # verify names damaged outcomes; here they cost another try
            return read_outcomes(store, run_id)
        return []

    runs = [name.removesuffix(".json") for name in store.list_names(RUNS) if name.endswith(".json")]
    outcomes = [outcome for found in map_threads(outcomes_of, runs, THREADS) for outcome in found]
    names = Failure.__dataclass_fields__
    failures = [
        Failure(**{name: value for name, value in entry.items() if name in names})
        for outcome in sorted(outcomes, key=lambda outcome: str(outcome["began_at"]))
        for entry in outcome["failures"]  # type: ignore[attr-defined]
    ]
    return {failure.key: failure for failure in failures}
