"""Labels a set of images: the visible chain from a listing to a version of the store.

    list images -> look back -> start workers -> open store and run -> adopt lost receipts -> label the rest -> finish
                   (all done: say so)                                                         (committing)

Interrupted at any point, the same call continues: only images without a receipt are left to do.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hmsa_label.pipeline.config import EngineConfig, LabelConfig
from hmsa_label.pipeline.data.label_checks import about_held_out
from hmsa_label.pipeline.engine.crew import Limits
from hmsa_label.pipeline.engine.dispatch import Dispatcher
from hmsa_label.pipeline.engine.events import (
    Event,
    FailuresKnown,
    OnEvent,
    RunEnded,
    RunStarted,
    Tick,
    Warned,
    WorkersStarting,
    WorkerStarted,
)
from hmsa_label.pipeline.engine.retry import with_retries
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.interrupt import drain_on_signals
from hmsa_label.pipeline.label.cautions import LittleKept, figures_of, warnings_of_teacher
from hmsa_label.pipeline.label.failures import FailurePolicy
from hmsa_label.pipeline.label.guard import Guard, guard_of
from hmsa_label.pipeline.label.keeping import (
    Keeping,
    keeping_of,
    refuse_rule_on_instances,
    refuse_without_polygons,
)
from hmsa_label.pipeline.label.nothing_left import finished_store
from hmsa_label.pipeline.label.open_executor import open_executor
from hmsa_label.pipeline.label.plan import (
    LabelPlan,
    check_here,
    cluster_address,
    find_images,
    images_in_flight,
    plan_labels,
)
from hmsa_label.pipeline.label.provenance import known_absent, known_record, run_record, teacher_identity
from hmsa_label.pipeline.label.receipts import ReceiptCommitter
from hmsa_label.pipeline.label.shared_work import SharedWork
from hmsa_label.pipeline.label.whole_set import label_whole_set
from hmsa_label.pipeline.label.worklist import LookBack, look_back
from hmsa_label.pipeline.monitor.run_log import RunLog
from hmsa_label.pipeline.records import LabelSummary
from hmsa_label.pipeline.rules import refuse_unknown_classes
from hmsa_label.pipeline.teacher.evidence_kinds import refuse_evidence
from hmsa_label.stores.credentials import secret_values
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.source import ImageRef
from hmsa_label.stores.runs.claims import Claims
from hmsa_label.stores.runs.may_begin import check_known_settings
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.creation import check_place
from hmsa_label.stores.versions.label_store import LabelStore

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in the driver of a submitted job
GUARD_WAY_OUT = (
    "What is labeled is kept: the same command with --guard warn finishes the version and labels no image again"
)

__all__ = ["LabelPlan", "label_images", "plan_labels"]


def label_images(config: LabelConfig, on_event: OnEvent | None = None) -> LabelSummary:
    """Labels all images of the data that have no label yet, and finishes a version of the store.

    A rule that looks at the whole set makes a second version of it, see `whole_set.py`.

    The first Ctrl-C or SIGTERM finishes what is on the devices and returns with `interrupted` set; the second one
    raises KeyboardInterrupt at once.

    Args:
        on_event: called in this thread with everything that happens; `monitor.progress.open_display` shows it.

    Raises:
        NotAStore: there is no folder at the data root.
        ValueError: no images, a device that is not there, or weights that cannot be used.
        FileNotFoundError: there is no such weights file.
        StoreConflict: the store holds labels made otherwise; the message says the ways out.
        UnsafeStorage: the store's storage lets two writers destroy each other's work.
        EngineError: the storage stays away, or the workers cannot be kept alive. What is finished is kept.
        ClassesLost: the guard is strict, and classes are all but lost; what is done is kept.
    """
    keeping, guard = keeping_of(config), guard_of(config.guard)
    if keeping.rule.of_whole_set:
        return label_whole_set(config, keeping, guard, on_event, label_by, join=_shares(config))
    return label_by(config, keeping, guard, on_event)


def label_by(config: LabelConfig, keeping: Keeping, guard: Guard | None, on_event: OnEvent | None) -> LabelSummary:
    """As `label_images`, by a rule that looks at one image at a time.

    Args:
        guard: None if the version is not the last one of the call; then its figures are not warned of either.
    """
    started = time.monotonic()
    policy = FailurePolicy(on_error=config.engine.on_error, max_failures=config.engine.max_failures)
    source, images = with_retries("listing the images", lambda: find_images(config))
    refuse_without_polygons(keeping, images, source.root)
    before = with_retries("reading the store", lambda: look_back(config, images))
    policy.check(list(before.known.values()))
    watch = _Watch(on_event, keeping.rule)
    if not before.changed and (finished := _find_finished(config, keeping, images, before)) is not None:
        return _nothing_to_do(keeping, finished, guard, len(images), before, watch, started)
    with_retries("reading the store", lambda: _check_may_begin(config, keeping, images, before))
    with open_executor(config, keeping) as pool, drain_on_signals() as stop:
        watch(WorkersStarting(workers=pool.workers, where=cluster_address(config.engine) or config.engine.executor))
        dispatcher = Dispatcher(pool, _limits(config.engine), stop, watch)
        first = dispatcher.wait_for_worker()
        if first is None:
            raise KeyboardInterrupt  # nothing is begun yet
        if (text := about_held_out(config.data.split, first.info)) is not None:
            watch.warn([text])
        refuse_rule_on_instances(keeping.rule, first.info)
        refuse_evidence(keeping.kinds_asked, first.info)
        refuse_unknown_classes(keeping.rule, first.info["classes"]["names"])
        run = _begin_run(config, keeping, first.info, images, before)
        with _taking_part(run, config) as claims, RunLog(run.root, run.run_id, run.attempt, _secrets(config)) as log:
            with_retries("adopting receipts", run.adopt)
            left_out = before.left_out(with_retries("reading the store", run.done_keys))
            todo = [image for image in before.order(images) if image.key not in left_out]
            done = len(images) - len(todo) - len(before.known)
            receipts = watch.receipts = ReceiptCommitter(run, watch, policy, total=len(images), done_before=done)
            watch.keep(log)
            work = SharedWork(claims, run, receipts, todo, watch)
            version = _label(dispatcher, work, receipts, before, lambda: _look(guard, run))
        if not receipts.interrupted:
            claims.dissolve()
    return with_retries(
        "reading the store", lambda: _summarize(config, keeping, version, guard, receipts, watch, started)
    )


def _find_finished(
    config: LabelConfig, keeping: Keeping, images: list[ImageRef], before: LookBack
) -> LabelStore | None:
    return with_retries("reading the store", lambda: finished_store(config, keeping, images, before.known))


def _check_may_begin(config: LabelConfig, keeping: Keeping, images: list[ImageRef], before: LookBack) -> None:
    """Refuses what the store or a worker would refuse once a teacher is loaded, which may take minutes."""
    check_here(config)
    check_place(str(config.store), single_writer=config.single_writer, storage_options=config.storage_options)
    only_new = bool(before.changed)
    check_known_settings(
        str(config.store),
        known_record(config, keeping, images, only_new=only_new),
        absent=known_absent(config, keeping),
        relabel=config.relabel or only_new,
        join=_shares(config),
        storage_options=config.storage_options,
    )


def _limits(engine: EngineConfig) -> Limits:
    return Limits(
        in_flight=images_in_flight(engine),
        item_seconds=engine.item_timeout,
        start_seconds=engine.start_timeout,
        worker_seconds=engine.worker_timeout,
    )


def _shares(config: LabelConfig) -> bool:
    """Whether the run may be one that others are at; a job that Ray started twice always may."""
    return config.join or JOB_CONFIG in os.environ


def _begin_run(
    config: LabelConfig, keeping: Keeping, teacher: dict[str, Any], images: list[ImageRef], before: LookBack
) -> RunWriter:
    """The run, begun or resumed.

    Images that changed are replaced, so their run is one that commits everything at its end.
    """
    only_new, options = bool(before.changed), config.storage_options
    record = run_record(config, keeping, teacher, images, only_new=only_new)

    def create() -> LabelStore:
        classes, single = teacher["classes"], config.single_writer
        return LabelStore.create(config.store, classes, storage_options=options, single_writer=single)

    def begin() -> RunWriter:
        return RunWriter(str(config.store), record, relabel=config.relabel or only_new, storage_options=options)

    with_retries("opening the store", create)
    return with_retries("beginning the run", begin)


@contextmanager
def _taking_part(run: RunWriter, config: LabelConfig) -> Iterator[Claims]:
    """This attempt's part in the claims of the run.

    Raises:
        StoreConflict: if somebody is at the run, and its work is not to be shared.
    """
    join = _shares(config)
    claims = with_retries("joining the run", lambda: Claims.enrol(run.root, run.run_id, run.attempt, join=join))
    run.resumed = run.resumed or bool(claims.others())
    try:
        yield claims
    finally:
        claims.leave()


def _label(
    dispatcher: Dispatcher,
    work: SharedWork,
    receipts: ReceiptCommitter,
    before: LookBack,
    look: Callable[[], None],
) -> int:
    """Labels what is left and ends the attempt; the version that holds its work.

    Args:
        look: at all that the version would hold; an error leaves the run open.
    """
    try:
        receipts.begin(list(before.known.values()))
        dispatcher.run(work, receipts.take)
        if dispatcher.left:
            work.keep_open()
        else:
            receipts.check_end()
            receipts.commit()
            look()
    except Exception as error:
        try:
            receipts.finish(interrupted=True, attempts=1)  # the storage may be what failed, after many tries
        except Exception as second:
            error.add_note(f"the last receipts could not be committed either ({second}); the next run adopts them")
        raise
    return receipts.finish(interrupted=dispatcher.left > 0)


def _look(guard: Guard | None, run: RunWriter) -> None:
    if guard is not None:
        with_retries("reading the store", lambda: guard.check(run, GUARD_WAY_OUT))


def _nothing_to_do(
    keeping: Keeping,
    store: LabelStore,
    guard: Guard | None,
    images: int,
    before: LookBack,
    watch: "_Watch",
    started: float,
) -> LabelSummary:
    run, failed = store.commit.run or "", list(before.known.values())
    done = images - len(failed)
    watch(RunStarted(store=store.uri, run_id=run, images_total=images, images_done_before=done))
    if failed:
        watch(FailuresKnown(failures=failed))
    watch(RunEnded(images_labelled=0, images_failed=len(failed), interrupted=False))
    return LabelSummary(
        store=store.uri,
        version=store.version,
        digest=store.digest,
        threshold=keeping.rule.threshold,
        rule=keeping.rule.more or None,
        images_total=images,
        images_done_before=done,
        images_labelled=0,
        images_failed=len(failed),
        images_not_retried=len(failed),
        failed=failed,
        **_figures(keeping.rule, store, guard, watch),
        seconds=time.monotonic() - started,
    )


def _summarize(
    config: LabelConfig,
    keeping: Keeping,
    version: int,
    guard: Guard | None,
    receipts: ReceiptCommitter,
    watch: "_Watch",
    started: float,
) -> LabelSummary:
    store = LabelStore.open(config.store, version, storage_options=config.storage_options)
    return LabelSummary(
        store=store.uri,
        version=store.version,
        digest=store.digest,
        threshold=keeping.rule.threshold,
        rule=keeping.rule.more or None,
        images_total=receipts.total,
        images_done_before=receipts.done_before,
        images_labelled=receipts.labeled,
        images_failed=len(receipts.failures),
        images_not_retried=receipts.not_retried,
        images_labelled_elsewhere=receipts.labelled_elsewhere,
        failed=sorted(receipts.failures, key=lambda failure: failure.key),
        **_figures(keeping.rule, store, None if receipts.interrupted else guard, watch),
        images_per_second=receipts.labeled / receipts.seconds if receipts.labeled else None,
        seconds=time.monotonic() - started,
        interrupted=receipts.interrupted,
    )


def _figures(rule: Rule, store: LabelStore, guard: Guard | None, watch: "_Watch") -> dict[str, Any]:
    """Fields of a summary that tell of the labels of a version, after its warnings were shown.

    Args:
        guard: None if the version is not to be warned of: others follow.
    """
    if not len(store):
        return {"warnings": watch.warnings}
    figures, warnings = figures_of(store, rule, guard)
    watch.warn(warnings)
    return {**figures, "warnings": watch.warnings}


def _secrets(config: LabelConfig) -> frozenset[str]:
    return secret_values(config.storage_options) | secret_values(config.data.storage_options)


class _Watch:
    """Passes events on, after doing what the run itself must do about them."""

    def __init__(self, on_event: OnEvent | None, rule: Rule) -> None:
        self.receipts: ReceiptCommitter | None = None
        self.warnings: list[str] = []
        self._little_kept = LittleKept(rule)
        self._on_event = on_event
        self._teacher: dict[str, Any] = {}
        self._early: list[Event] = []  # what happened before there was a run to log it for
        self._tick: Tick | None = None  # of these the last one says all
        self._log: RunLog | None = None

    def keep(self, log: RunLog) -> None:
        """From now on events go into the log too, the earlier ones first."""
        self._log = log
        for event in [*self._early, *([self._tick] if self._tick else [])]:
            log(event)

    def __call__(self, event: Event) -> None:
        if isinstance(event, WorkerStarted):
            self._check_teacher(event)
        elif isinstance(event, Tick) and self.receipts is not None:
            self.receipts.commit_if_due()
        if self._log is not None:
            self._log(event)
        elif isinstance(event, Tick):
            self._tick = event
        else:
            self._early.append(event)
        if self._on_event is not None:
            self._on_event(event)
        if text := self._little_kept(event):
            self.warn([text])

    def warn(self, texts: list[str]) -> None:
        """Shows warnings and keeps them for the summary."""
        self.warnings += texts
        for text in texts:
            self(Warned(text=text))

    def _check_teacher(self, event: WorkerStarted) -> None:
        """Refuses workers that would label differently: another file at the same path, a GPU without bf16."""
        identity = teacher_identity(event.info)
        if not self._teacher:
            self.warn(warnings_of_teacher(event.info))
        self._teacher = self._teacher or identity
        differing = [
            f"{name} {self._teacher[name]} and {identity[name]}"
            for name in identity
            if identity[name] != self._teacher[name]
        ]
        if differing:
            raise EngineError(
                f"worker {event.worker} on {event.info.get('host')} has another teacher than the first one: "
                f"{'; '.join(differing)}. Give all hosts the same weights, and name --precision"
            )
