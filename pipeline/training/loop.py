"""The one training loop, of teachers and of students: fine labels, or fine labels mixed with others.

Resuming repeats nothing and skips nothing: crops and their dropout are a pure function of (seed, number of the draw),
and weights, optimizer and step are saved together. A step is the same whatever number of processes and passes make it:
each makes its part of the step's crops and divides its loss by what the whole step holds.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from hmsa_label.labelers.model_registry import model_places
from hmsa_label.labelers.training import IMAGE, labels_of
from hmsa_label.pipeline.interrupt import Stopped, StopRequest, stop_on_signals
from hmsa_label.pipeline.training.config import AutoLabels, TrainConfig
from hmsa_label.pipeline.training.distributed import Processes, joined
from hmsa_label.pipeline.training.log import TrainEvent, TrainLog
from hmsa_label.pipeline.training.model import model_of
from hmsa_label.pipeline.training.state import best_key
from hmsa_label.pipeline.training.trainer import Passes, Trainer
from hmsa_label.stores.result import Result

OnEvent = Callable[[TrainEvent], None]
GOES_ON = "the last save is whole: the same call goes on from it (train-teacher, -student and -trunk with --resume)"


class Diverged(ValueError):
    """The loss is NaN or infinite; the same steps again would lead there again."""


@dataclass(frozen=True, kw_only=True)
class TrainSummary(Result):
    """What a training reached.

    `best_score` is the highest validation score, 0..1 (None if the split to validate on is empty), `score` its name,
    such as mIoU, and `checkpoint` the file that reached it. `steps` of `total_steps` are made, those of earlier calls
    included; `interrupted` says that some, or the last validation, are left.
    """

    checkpoint: str
    best_score: float | None
    score: str
    steps: int
    total_steps: int
    seconds: float
    interrupted: bool = False

    @property
    def figures(self) -> dict[str, Any]:
        """The JSON object of the trainings' `--json`; the best mIoU is its `best_miou`."""
        values = asdict(self)
        best = {best_key(values.pop("score")): values.pop("best_score")}
        return {"checkpoint": values.pop("checkpoint"), **best, **values}


def train_teacher(config: TrainConfig, on_event: OnEvent | None = None) -> TrainSummary:
    """Trains to the end of the schedule and returns where the best weights lie.

    The first Ctrl-C or SIGTERM abandons what is at hand (a step, a validation, waiting for crops), saves the state and
    returns with `interrupted` set; before the first step is begun it raises KeyboardInterrupt. Under torchrun, or in a
    Ray Train worker, this is one of several processes, which finish what is at hand together; the first of them writes.

    Args:
        on_event: called for every step and every validation, in order; in the first process only.

    Raises:
        ValueError: see `Trainer`; or the loss became NaN or infinite, naming the step.
        Exception: whatever ends a step or a save, such as OSError of a full disk; with a note if there is a state to
            go on from.
        KeyboardInterrupt: interrupted while lists and labels were read, or for the second time.
    """
    with joined(config.device) as (processes, device), stop_on_signals() as stop:
        return _take_part(config, processes, device, on_event, stop)


def train_student(config: TrainConfig, on_event: OnEvent | None = None) -> TrainSummary:
    """Trains on fine labels mixed with those of a store; all else as `train_teacher`.

    Raises:
        ValueError: no store is given, or see `train_teacher`.
    """
    if not isinstance(config.second, AutoLabels):
        raise ValueError("a student is trained on the labels of a store; give one, or train a teacher")
    return train_teacher(config, on_event)


def train_trunk(config: TrainConfig, on_event: OnEvent | None = None) -> TrainSummary:
    """Trains a trunk on classes of whole images, one folder per class; all else as `train_teacher`.

    Of the augmentation, crop size and flip count: a crop shows a random part of an image, of random area and aspect.
    The data's splits are folders of class folders.

    Raises:
        ValueError: the model learns from labels of pixels, or see `train_teacher`.
    """
    if labels_of(model_of(config)[0]) != IMAGE:
        known = ", ".join(name for name, place in model_places().items() if place.endswith(":TrunkModel"))
        raise ValueError(
            f"the model {config.model.name} learns from labels of pixels, by train-teacher; trunks are {known}"
        )
    augment = replace(config.augment, scale_range=(1.0, 1.0), colour_jitter=0.0, blur_sigma_px=None, class_uniform=0.0)
    data = replace(config.data, dataset="folder")
    return train_teacher(replace(config, data=data, augment=augment, labels=""), on_event)


def _take_part(
    config: TrainConfig, processes: Processes, device: torch.device, on_event: OnEvent | None, stop: StopRequest
) -> TrainSummary:
    """This process's part of a training, with its log if it leads."""
    try:
        with stop.at_once():
            trainer = Trainer(config, processes, device)
            batches = trainer.prepare()
    except Stopped:
        raise KeyboardInterrupt from None  # nothing is begun yet
    score = trainer.model.score
    log = TrainLog(trainer.folder, score=score, tensorboard=config.tensorboard) if processes.leads else None

    def tell(event: TrainEvent) -> None:
        if log is not None:
            log(event)
            if on_event is not None:
                on_event(event)

    if processes.leads and on_event is not None:
        if trainer.estimate is not None:
            on_event(_event(trainer, estimate=str(trainer.estimate)))
        for note in trainer.data.notes:
            on_event(_event(trainer, note=note))
    started = time.monotonic()
    finished = _train(trainer, batches, tell, stop)
    if log is not None:
        log.close()
    return TrainSummary(
        checkpoint=trainer.folder.checkpoint_uri("best" if trainer.best_score is not None else "last"),
        best_score=trainer.best_score,
        score=score,
        steps=trainer.step,
        total_steps=trainer.total_steps,
        seconds=time.monotonic() - started,
        interrupted=not finished,
    )


def _train(trainer: Trainer, batches: Iterator[Passes], tell: OnEvent, stop: StopRequest) -> bool:
    """Makes the steps that are left; False if it was stopped before the last."""
    every = trainer.config.validate_every or max(1, math.ceil(trainer.total_steps / 10))
    due, tick = trainer.unscored, time.monotonic()
    try:
        if due:
            _validate(trainer, tell, stop)
        while trainer.step < trainer.total_steps:
            with trainer.breakable(stop):
                passes = next(batches)
            loss, rate = trainer.advance(passes, stop)
            due = bool(trainer.data.val_refs) and (trainer.step % every == 0 or trainer.step == trainer.total_steps)
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} at step {trainer.step}; lower --lr, or use --precision fp32")
            speed = trainer.config.batch_size / max(time.monotonic() - tick, 1e-9)
            tell(_event(trainer, loss=loss, learning_rate=rate, images_per_second=speed))
            _obey(trainer, stop)
            if due:
                _validate(trainer, tell, stop)
                due = False
                _obey(trainer, stop)
            elif trainer.step % trainer.config.save_every == 0 or trainer.step == trainer.total_steps:
                trainer.save(None)
            tick = time.monotonic()
    except Stopped:
        trainer.save(None, unscored=due)
        return trainer.step == trainer.total_steps and not due
    except Diverged:
        raise
    except Exception as error:
        if trainer.folder.holds_state():
            error.add_note(GOES_ON)
        raise
    return True


def _obey(trainer: Trainer, stop: StopRequest) -> None:
    """Raises Stopped in every process if one was asked to stop."""
    if trainer.processes.mean(float(stop.is_set())) > 0:
        raise Stopped


def _validate(trainer: Trainer, tell: OnEvent, stop: StopRequest) -> None:
    with trainer.breakable(stop):
        score = trainer.validate()
    tell(_event(trainer, score=score))
    trainer.save(score.value)


def _event(trainer: Trainer, **values: Any) -> TrainEvent:
    return TrainEvent(step=trainer.step, total_steps=trainer.total_steps, **values)
