"""Another rule without the teacher: new labels from the stored evidence, as a new version."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreConflict
from hmsa_label.stores.format.arrays import ARRAYS, INSTANCE, Pixels, derivations
from hmsa_label.stores.format.evidence import level_of
from hmsa_label.stores.format.receipt import ImageFacts, Receipt
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.manifest.table import RETHRESHOLD
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.runs.claims import Claims
from hmsa_label.stores.runs.presence import BEAT_SECONDS
from hmsa_label.stores.runs.record import Run, read_run
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.repair import repair_command, some_of


@dataclass(frozen=True, kw_only=True)
class Rethresholded:
    """What a change of the rule did.

    Attributes:
        version, digest: the new version; the old one if every label was by this rule already.
        rule: the one that all labels are by now; None if there are none.
        images_done_before: finished by an earlier, interrupted attempt, or by the rule already.
        images_labelled: by this attempt.
    """

    version: int
    digest: str
    rule: Rule | None
    images_total: int
    images_done_before: int
    images_labelled: int


def rethreshold(
    uri: str,
    threshold: float | None = None,
    *,
    center_threshold: float | None = None,
    instance_threshold: float | None = None,
    provenance: dict[str, Any] | None = None,
    on_image: Callable[[int, int], None] | None = None,
    threads: int = 4,
    storage_options: dict[str, Any] | None = None,
) -> Rethresholded:
    """Labels of the last finished version by another rule, as a new version.

    Only labels are written; `evidence_segment` and `evidence_row` go on pointing at the old arrays. Nothing is visible
    before all images are done; killed or interrupted midway, the same call goes on where it stopped. If it fails, its
    run is closed.

    Args:
        threshold, center_threshold, instance_threshold: as in `Rule`; what is left out stays as it was in the run that
            made the labels.
        provenance: joined to the run's record (command, host, ...).
        on_image: called with (images done, images in all) after each image.

    Raises:
        ThresholdNotStored: if the threshold is not on the grid of every image.
        ValueError: if nothing is asked for, a value is no number within its bounds, or images have no evidence or no
            instances that the rule needs; before anything is written.
        StoreConflict: if an unfinished run holds the store.
        LabelCorrupt: if evidence is damaged or gone, naming the images and the command that labels them again.
    """
    asked = _checked(
        {"threshold": threshold, "center_threshold": center_threshold, "instance_threshold": instance_threshold}
    )
    store = LabelStore.open(uri, storage_options=storage_options)
    receipts = [Receipt.from_row(row) for row in store.table().to_pylist()]
    if not receipts:
        return _result(store, None, 0, 0)
    base = read_run(store.root, str(store.commit.run))
    rule = replace(Rule.from_settings(base.settings) or receipts[0].label_rule, **asked)
    todo = [receipt for receipt in receipts if receipt.label_rule != rule]
    _refuse_not_stored(store, todo, rule)
    if not todo:
        return _result(store, rule, len(receipts), 0)
    record = _record(store, base, rule, provenance)
    writer = RunWriter(uri, record, kind=RETHRESHOLD, storage_options=storage_options)
    claims = Claims.enrol(writer.root, writer.run_id, writer.attempt, way_out="Wait for its end")
    with _ending(writer, claims):
        if writer.base.finished != store.version:
            raise StoreConflict(f"version {writer.base.finished} of {store.uri} was made in the meantime; start again")
        writer.adopt()
        done = writer.done_keys()
        todo = [receipt for receipt in todo if receipt.key not in done]
        segment = SegmentWriter(uri, writer.run_id, None, rule, max(1, len(todo)), storage_options)
        damaged: dict[str, str] = {}

        def relabel(receipt: Receipt) -> Receipt | None:
            try:
                arrays = _arrays_at(store, receipt, rule)
            except (LabelMissing, LabelCorrupt) as error:
                damaged[receipt.key] = str(error)
            if damaged:  # nothing comes of it any more, but all damage is to be named
                return None
            return segment.write(_facts(receipt), arrays, evidence_of=receipt)

        finished, beat_at = len(receipts) - len(todo), time.monotonic() + BEAT_SECONDS
        for made in map_threads(relabel, todo, threads):
            if made is None:
                continue
            writer.append([made])
            finished += 1
            if time.monotonic() >= beat_at:
                claims.beat()
                beat_at = time.monotonic() + BEAT_SECONDS
            if on_image:
                on_image(finished, len(receipts))
        if damaged:
            raise LabelCorrupt(_damaged(damaged, len(receipts)))
        writer.finish()
    claims.dissolve()
    return _result(LabelStore.open(uri, storage_options=storage_options), rule, len(receipts), len(todo))


def _checked(asked: dict[str, Any]) -> dict[str, float]:
    """What is asked of the rule, by field."""
    given = {name: value for name, value in asked.items() if value is not None}
    if not given:
        raise ValueError(f"say what is to change; give at least one of {', '.join(asked)}")
    return {name: _number(name, value) for name, value in given.items()}


def _number(name: str, value: Any) -> float:
    said = f"the {name.replace('_', ' ')} must"
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ValueError(f"{said} be a number such as 0.9; got {value!r}")
    number = float(value)
    if name == "threshold" and not 0 < number < 1:
        raise ValueError(f"{said} lie between 0 and 1, both excluded; got {value}")
    if not 0 <= number <= 1:
        raise ValueError(f"{said} lie between 0 and 1; got {value}")
    return number


@contextmanager
def _ending(writer: RunWriter, claims: Claims) -> Iterator[None]:
    """Leaves no run behind that nobody is at: closed after an error, and ready to go on after an interruption."""
    try:
        yield
    except BaseException as error:
        try:
            if isinstance(error, Exception):
                writer.abandon()
                claims.dissolve()
            else:
                writer.finish(interrupted=True)
        except Exception as second:
            error.add_note(f"run {writer.run_id} could not be closed either ({second}); the same call goes on with it")
        raise
    finally:
        claims.leave()


def _damaged(damaged: dict[str, str], total: int) -> str:
    keys = sorted(damaged)
    return (
        f"{len(keys)} of {total} images have damaged evidence: {some_of(keys)} ({damaged[keys[0]]}); the labels stay "
        f"as they are. `{repair_command(keys)}`, with the other options of their run, labels them again"
    )


def _arrays_at(store: LabelStore, receipt: Receipt, rule: Rule) -> dict[str, Pixels]:
    """The arrays of an image that depend on the rule, made from its evidence."""
    key, made, names = receipt.key, {}, [array.name for array in receipt.arrays]
    bounds = store.bounds(key)
    for name, derived in derivations().items():
        evidence = {source: store.read_array(key, source) for source in derived.needs(names)}
        for source, pixels in evidence.items():
            if fault := ARRAYS[source].values.fault(pixels, bounds):
                raise LabelCorrupt(f"{key}: {source} of version {store.version}: {fault}")
        made[name] = derived.make(evidence, rule, bounds)
    return made


def _refuse_not_stored(store: LabelStore, receipts: list[Receipt], rule: Rule) -> None:
    """Refuses images without what the rule needs, and a threshold that the evidence of some segment does not know."""
    plain = [receipt.key for receipt in receipts if receipt.array(INSTANCE) is None]
    if rule.of_instances and plain:
        raise ValueError(
            f"the {rule.of_instances[0].replace('_', ' ')} needs instances, and {len(plain)} of {len(receipts)} images "
            f"of {store.uri} tell none apart (such as {plain[0]}); label them with a panoptic teacher"
        )
    sources = {source for derived in derivations().values() for source in derived.sources}
    without = [receipt.key for receipt in receipts if not sources <= {array.name for array in receipt.arrays}]
    if without:
        raise ValueError(
            f"{len(without)} of {len(receipts)} images of {store.uri} have no stored evidence (such as {without[0]}); "
            "label them again with --evidence --relabel"
        )
    for segment in {str(receipt.evidence_segment) for receipt in receipts}:
        level_of(rule.threshold, store.grid(segment))


def _record(store: LabelStore, base: Run, rule: Rule, provenance: dict[str, Any] | None) -> dict[str, Any]:
    """The record of the run that made the labels, with the new rule; so the teacher's next run may add to them."""
    inherited: dict[str, Any] = {
        name: base.record[name] for name in ("teacher", "data", "classes") if name in base.record
    }
    settings = {name: value for name, value in base.settings.items() if name != "rule"} | rule.settings
    return {**inherited, **(provenance or {}), "settings": settings, "base_run": base.id, "base_version": store.version}


def _facts(receipt: Receipt) -> ImageFacts:
    """What stays true of an image; agreement with the coarse label does not, because it depends on what is kept."""
    return ImageFacts(
        key=receipt.key,
        source=receipt.source,
        source_sha256=receipt.source_sha256,
        source_bytes=receipt.source_bytes,
        converted=receipt.converted,
        device=receipt.device,
        mean_confidence=receipt.mean_confidence,
        instances=receipt.instances,
    )


def _result(store: LabelStore, rule: Rule | None, total: int, labeled: int) -> Rethresholded:
    return Rethresholded(
        version=store.version,
        digest=store.digest,
        rule=rule,
        images_total=total,
        images_done_before=total - labeled,
        images_labelled=labeled,
    )
