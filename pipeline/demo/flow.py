"""The whole flow on drawn streets: draw, train a small teacher, label, verify, report; needs nothing but this package.

Everything lands in one folder. Called again with the same seed it goes on where it stopped, or finds all of it done.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.config import (
    COARSE_LABELS,
    DataConfig,
    EngineConfig,
    EvaluateConfig,
    LabelConfig,
    TeacherConfig,
)
from hmsa_label.pipeline.data.scores import Evaluation
from hmsa_label.pipeline.demo.scenes.tree import DEFAULT_COUNTS, DEFAULT_SIZE, draw_tree
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.monitor.progress import open_display
from hmsa_label.pipeline.records import LabelSummary
from hmsa_label.pipeline.report.of_store import report_version
from hmsa_label.pipeline.report.pictures import write_report
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.pipeline.training.config import AugmentConfig, ModelConfig, TrainConfig
from hmsa_label.pipeline.training.log import TrainEvent
from hmsa_label.pipeline.training.loop import TrainSummary, train_teacher
from hmsa_label.pipeline.training.model import labeler_of
from hmsa_label.pipeline.wording import counted
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore

LINE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How large the demonstration is; the defaults take about three minutes on two cores.

    Attributes:
        counts: images to draw per split. size: their (height, width), pixels.
        pictures: images that the report shows.
        cpu_threads: torch threads of the training on a CPU; None is one per core.
    """

    output: str
    seed: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_COUNTS))
    size: tuple[int, int] = DEFAULT_SIZE
    model: str = "hrnet_s_ocr"
    max_steps: int = 360
    crop_px: tuple[int, int] = (128, 256)
    threshold: float = 0.9
    executor: str = "ray"
    pictures: int = 8
    cpu_threads: int | None = None

    @property
    def streets(self) -> str:
        return str(Path(self.output).resolve() / "streets")

    @property
    def teacher(self) -> str:
        return str(Path(self.output).resolve() / "teacher")

    @property
    def labels(self) -> str:
        return str(Path(self.output).resolve() / "labels")


@dataclass(frozen=True, kw_only=True)
class DemoSummary(Result):
    """What the demonstration made and measured.

    Attributes:
        report: the page to open. checkpoint: the teacher. store: the labels, at `version` with `digest`.
        teacher_miou: on drawn validation images, predicted as labels are, 0..1.
        kept_share: share of pixels that are labeled; coarse_agreement: share of those inside coarse polygons that
            have the polygon's class, 0..1.
        problems: what verification found; 0 is as it should be.
        seconds: wall time of each stage.
    """

    report: str
    checkpoint: str
    store: str
    version: int
    digest: str
    images_labelled: int
    teacher_miou: float
    kept_share: float | None
    coarse_agreement: float | None
    problems: int
    seconds: dict[str, float]


def run_demo(output: str | Path, seed: int = 0, say: Callable[[str], None] | None = None) -> DemoSummary:
    """Runs the demonstration of the default size into a folder; see `demonstrate`."""
    return demonstrate(DemoConfig(output=str(output), seed=seed), say)


def demonstrate(config: DemoConfig, say: Callable[[str], None] | None = None) -> DemoSummary:
    """Draws streets, trains a teacher on them, labels the extra ones, verifies the store, writes a report.

    Args:
        say: takes lines for whoever watches; the default writes them to stderr.

    Raises:
        ValueError: if the folder holds a demonstration with other settings.
        KeyboardInterrupt: after a Ctrl-C or SIGTERM; the same call goes on where it stopped.
    """
    clock = _Clock(say or _to_stderr)
    clock.begin("draw", f"drawing {sum(config.counts.values())} street scenes into {config.streets}")
    draw_tree(config.streets, config.counts, config.size, config.seed)
    clock.begin("train", f"training {config.model} on {config.counts['train']} of them, {config.max_steps} steps")
    trained = train_teacher(_training(config), _Watcher(clock.say))
    _leave_if(trained.interrupted)
    teacher = _teacher(config, trained)
    clock.begin("evaluate", f"scoring it on {config.counts['val']} scenes it has not seen")
    scores = evaluate(EvaluateConfig(data=_data(config, "val"), teacher=teacher))
    clock.begin("label", f"labeling {config.counts['train_extra']} scenes that have coarse polygons only")
    labeled = label_images(_labeling(config, teacher), open_display())
    _leave_if(labeled.interrupted)
    clock.begin("verify", "verifying every label in the store")
    problems = verify(labeled.store, labeled.version)
    clock.begin("report", "writing the report")
    page, agreement = _write_page(config, trained, scores, labeled, len(problems))
    clock.end()
    clock.say(f"open {page}")
    return DemoSummary(
        report=str(page),
        checkpoint=trained.checkpoint,
        store=labeled.store,
        version=labeled.version,
        digest=labeled.digest,
        images_labelled=labeled.images_done_before + labeled.images_labelled,
        teacher_miou=scores.miou,
        kept_share=labeled.kept_share,
        coarse_agreement=agreement,
        problems=len(problems),
        seconds=clock.seconds,
    )


def _leave_if(interrupted: bool) -> None:
    """Ends the demonstration where a stage was stopped: the stages after it would show half of its work."""
    if interrupted:
        raise KeyboardInterrupt


def _data(config: DemoConfig, split: str) -> DataConfig:
    return DataConfig(root=config.streets, split=split)


def _training(config: DemoConfig) -> TrainConfig:
    """A schedule for minutes on a CPU: small crops and AdamW; the objective as in full size."""
    return TrainConfig(
        data=_data(config, "train"),
        output=config.teacher,
        model=ModelConfig(name=config.model),
        augment=AugmentConfig(crop_px=config.crop_px, scale_range=(0.75, 1.5), colour_jitter=0.1),
        optimizer="adamw",
        learning_rate=4e-3,
        weight_decay=0.01,
        poly_power=1.0,
        warmup_steps=min(20, config.max_steps // 4),
        max_steps=config.max_steps,
        batch_size=4,
        validate_every=config.max_steps,
        save_every=50,
        cpu_threads=config.cpu_threads,
        seed=config.seed,
        resume=True,
    )


def _teacher(config: DemoConfig, trained: TrainSummary) -> TeacherConfig:
    """The trained teacher, predicting as it was validated: more needs larger crops to be worth it."""
    labeler, options = labeler_of(_training(config), CITYSCAPES.num_classes)
    return TeacherConfig(weights=trained.checkpoint, teacher=labeler, options=options)


def _labeling(config: DemoConfig, teacher: TeacherConfig) -> LabelConfig:
    return LabelConfig(
        data=_data(config, "train_extra"),
        teacher=teacher,
        store=config.labels,
        rule=RuleConfig(threshold=config.threshold),
        engine=EngineConfig(executor=config.executor),
    )


def _write_page(
    config: DemoConfig, trained: TrainSummary, scores: Evaluation, labeled: LabelSummary, problems: int
) -> tuple[Path, float | None]:
    """The report's path, and the agreement of all labels with the coarse polygons, 0..1."""
    store = LabelStore.open(labeled.store, labeled.version)
    source = open_images("cityscapes", config.streets)
    images = source.list("train_extra", coarse=COARSE_LABELS)
    report = report_version(store, source, images, threshold=config.threshold, pictures=config.pictures)
    agreement = next((row.agreement for row in report.thresholds if row.threshold == config.threshold), None)
    report = replace(
        report,
        title="hmsa-label: labels of drawn streets",
        facts=_facts(config, trained, scores, labeled, agreement, problems),
        iou=scores.iou,
        failed=labeled.failed,
    )
    return write_report(Path(config.output).resolve(), report), agreement


def _facts(
    config: DemoConfig,
    trained: TrainSummary,
    scores: Evaluation,
    labeled: LabelSummary,
    agreement: float | None,
    problems: int,
) -> list[tuple[str, str]]:
    return [
        ("Images labeled", str(labeled.images_done_before + labeled.images_labelled)),
        ("Images failed", str(labeled.images_failed)),
        ("Threshold", f"{config.threshold}"),
        ("Pixels kept", _percent(labeled.kept_share)),
        ("Agreement with coarse polygons", _percent(agreement)),
        ("Teacher mIoU on val", f"{scores.miou:.3f}"),
        ("Teacher pixel accuracy on val", _percent(scores.pixel_accuracy)),
        ("Teacher", f"{config.model}, {counted(trained.steps, 'step')}"),
        *((name.capitalize(), _shown(value)) for name, value in _teacher(config, trained).options.items()),
        ("Verification", "no problems" if problems == 0 else counted(problems, "problem")),
        ("Store", f"{labeled.store}, version {labeled.version}"),
        ("Content digest", labeled.digest),
    ]


def _shown(value: object) -> str:
    """An option of the teacher as a person reads it: `0.5, 1`, `no`."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.1f} %"


class _Watcher:
    """Tells how a training goes: every ten seconds the mean loss since the last line, and the time left."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._told = say, time.monotonic()
        self._losses: list[float] = []

    def __call__(self, event: TrainEvent) -> None:
        now = time.monotonic()
        self._losses += [] if event.loss is None else [event.loss]
        if self._losses and now - self._told >= LINE_SECONDS:
            left = (now - self._told) / len(self._losses) * (event.total_steps - event.step)
            mean = sum(self._losses) / len(self._losses)
            self._say(f"  step {event.step} of {event.total_steps}, loss {mean:.2f}, about {left:.0f} s left")
            self._told, self._losses = now, []


class _Clock:
    """Announces stages and keeps how long each took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.seconds: dict[str, float] = {}
        self._stage, self._started = "", 0.0

    def begin(self, stage: str, text: str) -> None:
        self.end()
        self._stage, self._started = stage, time.monotonic()
        self.say(text)

    def end(self) -> None:
        if self._stage:
            self.seconds[self._stage] = time.monotonic() - self._started
            self.say(f"  {self._stage}: {self.seconds[self._stage]:.1f} s")
        self._stage = ""


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
