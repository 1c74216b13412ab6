"""The second step of a run whose rule looks at the whole set: settle the rule, and make the labels by it.

The first step is a run as any other, by a rule that needs no other image (`policy.first_rule`). The second one changes
the rule of all labels from their evidence, as `rethreshold` does. So there are two versions, and no image is predicted
twice.

The second step is done once, whoever comes by. It is done where a change of the rule to the asked one made the last
version: every such version was settled over all of its images. Else the same call does it, whether the
first step was its own or an earlier one's, and goes on with one that was left midway. Of several drivers of a run one
does it; the others wait for it, and take over if it dies.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hmsa_label.pipeline.config import LabelConfig
from hmsa_label.pipeline.engine.events import OnEvent, Settling, Warned
from hmsa_label.pipeline.label.cautions import figures_of
from hmsa_label.pipeline.label.guard import Guard
from hmsa_label.pipeline.label.keeping import Keeping
from hmsa_label.pipeline.label.policy import first_rule, settle, unsettled
from hmsa_label.pipeline.label.provenance import this_call
from hmsa_label.pipeline.records import LabelSummary
from hmsa_label.stores.errors import NotAStore, RunIsLive, StoreConflict
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.location import location_text
from hmsa_label.stores.manifest.table import RETHRESHOLD
from hmsa_label.stores.runs.record import read_run
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold, rule_of_labels

LOOK_SECONDS = 1.0  # between looks at what another driver does
WAY_OUT = "What is labeled is kept: the same command with --guard warn makes the version and labels no image again"

LabelBy = Callable[[LabelConfig, Keeping, Guard | None, OnEvent | None], LabelSummary]


def label_whole_set(
    config: LabelConfig, keeping: Keeping, guard: Guard, on_event: OnEvent | None, label_by: LabelBy, *, join: bool
) -> LabelSummary:
    """Both steps; the summary of the second one, with what the first one did.

    Args:
        keeping: with the rule that is asked for. label_by: labels by a rule that needs no other image.
        join: whether other drivers may be at the run.

    Raises:
        ValueError: no evidence is to be kept; else as `run.label_images` and `rethreshold`.
    """
    if not keeping.keeps_evidence:
        raise ValueError("a share of the classes or images goes by stored evidence; leave --evidence none away")
    started, uri, asked = time.monotonic(), location_text(config.store), keeping.rule
    how: dict[str, Any] = {"join": join, "storage_options": config.storage_options, "provenance": this_call()}
    if _is_left_midway(uri, asked, config.storage_options):
        settle_labels(uri, asked, **how)
    first = first_rule(asked, _rule_there(uri, config.storage_options))
    grid = grid_with(first.thresholds, keeping.thresholds) if keeping.thresholds else ()
    made = label_by(config, replace(keeping, rule=first, thresholds=grid, leads_to=asked), None, on_event)
    if made.interrupted:
        return made
    if on_event is not None and not is_settled(LabelStore.open(uri, storage_options=config.storage_options), asked):
        on_event(Settling(images=made.images_total))
    version = settle_labels(uri, asked, before_finish=lambda run: guard.check(run, WAY_OUT), **how)
    store = LabelStore.open(uri, version, storage_options=config.storage_options)
    own = rule_of_labels(store) or asked
    figures, warnings = figures_of(store, own, guard) if len(store) else ({}, [])
    if on_event is not None:
        for text in warnings:
            on_event(Warned(text=text))
    return replace(
        made,
        version=store.version,
        digest=store.digest,
        threshold=own.threshold,
        rule=own.more or None,
        warnings=[*made.warnings, *warnings],
        seconds=time.monotonic() - started,
        **figures,
    )


def settle_labels(uri: str, asked: Rule, *, join: bool = False, **how: Any) -> int:
    """Makes the version whose labels are by the settled rule, unless the last one is; its number.

    Args:
        join: whether another driver may be at it; then its end is waited for.
        how: further arguments of `rethreshold`: storage_options, provenance, on_image, before_finish.

    Raises:
        StoreConflict: another driver is at it and `join` is not given, or an unfinished run of another kind is there.
        ValueError, LabelCorrupt, LabelMissing: as `rethreshold`.
    """
    options = {"storage_options": how.get("storage_options")}
    while True:
        store = LabelStore.open(uri, **options)
        if not len(store) or is_settled(store, asked):
            return store.version
        try:
            return rethreshold(uri, lambda old, store: settle(asked, store), **how).version
        except RunIsLive:
            if not join:
                raise
            _wait()
        except StoreConflict:
            if not join or LabelStore.open(uri, **options).version == store.version:
                raise  # not because another driver was faster


def _wait() -> None:
    time.sleep(LOOK_SECONDS)


def is_settled(store: LabelStore, asked: Rule) -> bool:
    """Whether a version's labels are by a rule of the whole set, settled over all of its images."""
    own = rule_of_labels(store)
    if own is None or not own.of_whole_set or unsettled(own) != unsettled(asked):
        return False
    rows = store.table(["threshold", "rule"])
    rules = set(zip(rows["threshold"].to_pylist(), rows["rule"].to_pylist(), strict=True))
    return store.commit.kind == RETHRESHOLD and rules == {(own.threshold, own.text)}


def _is_left_midway(uri: str, asked: Rule, options: dict[str, Any]) -> bool:
    """Whether a second step was begun and not ended. Its run must end before images can be added."""
    try:
        head = LabelStore.open(uri, "head", storage_options=options)
    except NotAStore:
        return False
    runs = [read_run(head.root, run) for run in head.commit.open_runs]
    rules = [Rule.from_settings(run.settings) for run in runs if run.kind == RETHRESHOLD]
    return any(rule is not None and unsettled(rule) == unsettled(asked) for rule in rules)


def _rule_there(uri: str, options: dict[str, Any]) -> Rule | None:
    """The rule of the store's labels; None if there are none."""
    try:
        return rule_of_labels(LabelStore.open(uri, storage_options=options))
    except NotAStore:
        return None
