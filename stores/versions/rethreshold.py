"""Another rule without the teacher: new labels from the stored evidence, as a new version."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreConflict
from hmsa_label.stores.format.arrays import ARRAYS, CODE, INSTANCE, POLYGON, TOP1
from hmsa_label.stores.format.cut import Cut, needs
from hmsa_label.stores.format.evidence import level_of
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.masks import mask_of, put_mask
from hmsa_label.stores.format.receipt import ImageFacts, Receipt
from hmsa_label.stores.format.rule import MEAN_CONFIDENCE, MaskOf, Rule
from hmsa_label.stores.manifest.table import RETHRESHOLD
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.runs.claims import Claims
from hmsa_label.stores.runs.presence import BEAT_SECONDS
from hmsa_label.stores.runs.record import Run, read_run
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.recut import recut
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


RuleOf = Callable[[Rule, LabelStore], Rule]


def rethreshold(
    uri: str,
    rule: Rule | RuleOf | float,
    *,
    mask: U8 | None = None,
    before_finish: Callable[[RunWriter], None] | None = None,
    provenance: dict[str, Any] | None = None,
    on_image: Callable[[int, int], None] | None = None,
    threads: int = 4,
    storage_options: dict[str, Any] | None = None,
) -> Rethresholded:
    """Labels of the last finished version by another rule, as a new version.

    Only what follows the rule is written; `evidence_segment` and `evidence_row` go on pointing at the old arrays.
    Nothing is visible before all images are done; killed or interrupted midway, the same call goes on where it
    stopped. If it fails, its run is closed.

    Args:
        rule: the new one; or what makes it of that of the run that made the labels, and of the store; or a number, the
            threshold, which changes alone.
        mask: [H, W] uint8 pixels of the rule's mask, if the store does not have them yet.
        before_finish: called when all images are done and nothing is visible yet; an error ends the run without them.
        provenance: joined to the run's record (command, host, ...).
        on_image: called with (images done, images in all) after each image.

    Raises:
        ThresholdNotStored: if a threshold or a margin is not on the grid of every image.
        ValueError: if a value is none that the rule takes, the rule is about other classes, or images do not have what
            it needs; before anything is written.
        StoreConflict: if an unfinished run holds the store.
        LabelCorrupt: if evidence is damaged or gone, naming the images and the command that labels them again.
    """
    rule_of = _rule_of(rule)
    store = LabelStore.open(uri, storage_options=storage_options)
    receipts = [Receipt.from_row(row) for row in store.table().to_pylist()]
    if not receipts:
        return _result(store, None, 0, 0)
    base, old = read_run(store.root, str(store.commit.run)), rule_of_labels(store)
    assert old is not None
    rule = rule_of(old, store)
    todo = [receipt for receipt in receipts if receipt.label_rule != rule]
    _refuse_not_stored(store, todo, rule, mask)
    if not todo:
        if mask is not None and mask_of(mask) == rule.mask:
            put_mask(store.root, mask)  # a lost one is put back
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
        segment = SegmentWriter(uri, writer.run_id, None, rule, max(1, len(todo)), storage_options, mask=mask)
        damaged: dict[str, str] = {}

        def relabel(receipt: Receipt) -> Receipt | None:
            try:
                made = recut(store, receipt.key, rule)
            except (LabelMissing, LabelCorrupt) as error:
                damaged[receipt.key] = str(error)
            if damaged:  # nothing comes of it any more, but all damage is to be named
                return None
            return segment.write(_facts(receipt, made), made.arrays, evidence_of=receipt)

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
        if before_finish is not None:
            before_finish(writer)
        writer.finish()
    claims.dissolve()
    return _result(LabelStore.open(uri, storage_options=storage_options), rule, len(receipts), len(todo))


def rule_of_labels(store: LabelStore) -> Rule | None:
    """The rule of the run that made the labels, which a change of the rule goes over; None if there are no labels."""
    if not len(store):
        return None
    settings = read_run(store.root, str(store.commit.run)).settings
    return Rule.from_settings(settings) or store.rule(next(iter(store)))


def _rule_of(rule: Rule | RuleOf | float) -> RuleOf:
    """What makes the new rule of the old one."""
    if isinstance(rule, Rule):
        return lambda old, store: rule
    if callable(rule):
        return rule
    if not isinstance(rule, Real) or isinstance(rule, bool):
        raise ValueError(f"the threshold must be a number such as 0.9; got {rule!r}")
    return lambda old, store: replace(old, threshold=float(rule))


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


def _refuse_not_stored(store: LabelStore, receipts: list[Receipt], rule: Rule, mask: U8 | None) -> None:
    """Refuses images without what the rule needs, and thresholds that the evidence of some segment does not know."""
    if fault := rule.fault(store.classes["names"]):
        raise ValueError(fault)
    lacking: dict[str, list[str]] = {}
    for receipt in receipts:
        names = {array.name for array in receipt.arrays}
        for name in needs(rule, polygons=POLYGON in names):
            if name not in names:
                lacking.setdefault(name, []).append(receipt.key)
    for name in (INSTANCE, *ARRAYS):  # a teacher of another kind is what would take longest
        if keys := lacking.get(name):
            raise ValueError(_lack(name, rule, f"{len(keys)} of {len(receipts)} images of {store.uri}", keys[0]))
    unsure = [receipt.key for receipt in receipts if receipt.mean_confidence is None]
    if rule.best_by == MEAN_CONFIDENCE and unsure:
        raise ValueError(
            f"{len(unsure)} of {len(receipts)} images of {store.uri} have no mean confidence (such as {unsure[0]}); "
            "choose the best by their kept_share"
        )
    if rule.mask is not None:
        _refuse_other_sizes(receipts, rule.mask)
        if mask is None:
            store.mask(rule.mask)
        elif (given := mask_of(mask)) != rule.mask:
            raise ValueError(f"the mask is {given}, the rule has {rule.mask}")
    for segment in {str(receipt.evidence_segment) for receipt in receipts}:
        for threshold in rule.thresholds:
            level_of(threshold, store.grid(segment))
        level_of(rule.margin, store.grids(segment).margins or (), "margin")


def _lack(name: str, rule: Rule, images: str, key: str) -> str:
    """What to tell of images, such as that of a key, that do not have an array."""
    if name == INSTANCE:
        field = rule.of_instances[0].replace("_", " ")
        return (
            f"the {field} needs instances, and {images} tell none apart (such as {key}); "
            "label them with a panoptic teacher"
        )
    way = f"label them again with --evidence {ARRAYS[name].kind} --relabel"
    if name in (TOP1, CODE):
        return f"{images} have no stored evidence (such as {key}); {way}"
    return f"the rule ({rule}) needs {name}, and {images} keep none (such as {key}); {way}"


def _refuse_other_sizes(receipts: list[Receipt], mask: MaskOf) -> None:
    others = [receipt for receipt in receipts if (receipt.height, receipt.width) != (mask.height, mask.width)]
    if others:
        raise ValueError(
            f"{len(others)} of {len(receipts)} images have another size than the mask, {mask.height} x {mask.width} "
            f"(such as {others[0].key}, {others[0].height} x {others[0].width})"
        )


def _record(store: LabelStore, base: Run, rule: Rule, provenance: dict[str, Any] | None) -> dict[str, Any]:
    """The record of the run that made the labels, with the new rule; so the teacher's next run may add to them."""
    inherited: dict[str, Any] = {
        name: base.record[name] for name in ("teacher", "data", "classes", "note") if name in base.record
    }
    settings = {name: value for name, value in base.settings.items() if name != "rule"} | rule.settings
    return {**inherited, **(provenance or {}), "settings": settings, "base_run": base.id, "base_version": store.version}


def _facts(receipt: Receipt, made: Cut) -> ImageFacts:
    """What stays true of an image, and what its new label says."""
    return ImageFacts(
        key=receipt.key,
        source=receipt.source,
        source_sha256=receipt.source_sha256,
        source_bytes=receipt.source_bytes,
        converted=receipt.converted,
        device=receipt.device,
        mean_confidence=receipt.mean_confidence,
        instances=receipt.instances,
        **made.facts,
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
