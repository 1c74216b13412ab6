"""Training of a labeler on fine labels: two-scale objective, poly schedule, validation, exact resume.

Resuming repeats nothing and skips nothing: samples are a pure function of (seed, sample number), dropout is seeded
by the step, and weights, optimizer and step are saved together.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import hmsa_label
from hmsa_label.labelers import SegmentationNet, build_labeler
from hmsa_label.labelers.heads.explicit_attention import ExplicitAttentionHead
from hmsa_label.labelers.hmsa import predict
from hmsa_label.labelers.losses import single_scale_loss, two_scale_loss
from hmsa_label.pipeline.config import TrainConfig, to_dict
from hmsa_label.pipeline.devices import autocast, resolve_device, resolve_precision
from hmsa_label.pipeline.evaluate import Evaluation, classes_of, labelled_images, score
from hmsa_label.pipeline.records import U8
from hmsa_label.pipeline.train_state import AveragedWeights, TrainFolder
from hmsa_label.pipeline.training_data import TrainingCrops, keys_digest
from hmsa_label.pipeline.weights import load_start, read_weights
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.images import open_images


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a training reached; the JSON object of `train-teacher --json`.

    `best_miou` is the highest validation mIoU, 0..1 (None if the split to validate on is empty);
    `checkpoint` the file that reached it.
    """

    checkpoint: str
    best_miou: float | None
    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainEvent:
    """One line of the metrics log: a step's loss, or a validation when `miou` is set."""

    step: int
    total_steps: int
    loss: float | None = None
    learning_rate: float | None = None
    images_per_second: float | None = None
    miou: float | None = None
    iou: dict[str, float | None] | None = None


class Trainer:
    """One training: network, optimizer and data, advanced step by step."""

    def __init__(self, config: TrainConfig) -> None:
        """Reads the data's lists and builds the network; continues a saved state when `config.resume` is set.

        Raises:
            ValueError: no labelled images, an unknown model, or a saved state of another configuration.
        """
        self.config = config
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        if config.cpu_threads is not None:
            torch.set_num_threads(config.cpu_threads)
        self.source = open_images(config.data.dataset, config.data.root, config.data.storage_options)
        self.classes = classes_of(self.source)
        self.refs = labelled_images(self.source, config.data.split, config.labels, config.data.limit)
        self.val_refs = labelled_images(self.source, config.val_split, config.labels) if config.val_split else []
        self.steps_per_epoch = math.ceil(len(self.refs) / config.batch_size)
        self.total_steps = config.max_steps or config.epochs * self.steps_per_epoch
        torch.manual_seed(config.seed)
        net = build_labeler(config.model.name, self.classes.num_classes, multi_scale=config.low_scale is not None)
        if config.model.init_weights and not config.resume:
            start = config.model.init_weights
            load_start(net, read_weights(start), start, new_class_heads=config.model.new_class_heads)
        self.net: SegmentationNet = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = _optimizer(config, self.net)
        self.averaged = AveragedWeights(self.net, config.ema_decay) if config.ema_decay else None
        self.step = 0
        self.best_miou: float | None = None
        self.folder = TrainFolder(config.output)
        self._restore()

    @property
    def scored_net(self) -> SegmentationNet:
        """The network that is validated and saved: the averaged weights where there are any."""
        return self.averaged.net if self.averaged else self.net

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(images [N, h, w, 3] uint8, labels [N, h, w] int64) of every step that is left."""
        crops = TrainingCrops(self.source, self.refs, self.classes, self.config.augment, self.config.seed)
        size = self.config.batch_size
        return iter(
            DataLoader(
                crops,
                batch_size=size,
                sampler=range(self.step * size, self.total_steps * size),
                num_workers=self.config.loader_workers,
                pin_memory=self.device.type == "cuda",
            )
        )

    def advance(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """One optimizer step; returns (loss, learning rate)."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # dropout repeats after a resume
        rate = learning_rate(config, self.step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.net.train()
        x = self.net.normalise(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        loss = self._loss(x, labels.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        if self.averaged:
            self.averaged.update(self.net, self.step)
        return float(loss.detach()), rate

    def _loss(self, x: Tensor, labels: Tensor) -> Tensor:
        config = self.config
        if config.low_scale is None:
            with autocast(self.precision, self.device):
                single = self.net(x, aux=True)
            return single_scale_loss(
                single, labels, loss=config.loss, aux_weight=config.aux_weight, aux_loss=config.aux_loss
            )
        with autocast(self.precision, self.device):
            explicit = self.net.fusion == "explicit"
            prediction = self.net.forward_explicit(x) if explicit else self.net.forward_two_scales(x, config.low_scale)
        return two_scale_loss(
            prediction,
            labels,
            loss=config.loss,
            aux_weight=config.aux_weight,
            side_weight=config.side_weight,
            aux_loss=config.aux_loss,
        )

    @torch.inference_mode()
    def validate(self) -> Evaluation:
        """Scores the current weights on the validation split, at the scales that are trained, without flip."""
        net = self.scored_net.eval()
        low = self.config.low_scale
        scales: tuple[float, ...]
        scales, fusion = ((1.0,), "single") if low is None else ((low, 1.0), "hierarchical")
        if isinstance(net.attention, ExplicitAttentionHead):
            scales, fusion = net.attention.scales, "explicit"

        def arg_max(image: U8) -> U8:
            x = net.normalise(torch.from_numpy(image)[None].to(self.device))
            with autocast(self.precision, self.device):
                logits = predict(net, x.contiguous(memory_format=torch.channels_last), scales, fusion, flip=False)
            return logits[0].argmax(0).cpu().numpy().astype(np.uint8)

        return score(self.source, self.val_refs, self.classes, arg_max)

    def save(self, miou: float | None) -> None:
        """Writes `last` (and `best` when `miou` is the highest so far), then the state to resume from."""
        info = self._info(miou)
        self.folder.write_checkpoint("last", self.scored_net, info)
        if miou is not None and (self.best_miou is None or miou > self.best_miou):
            self.best_miou = miou
            self.folder.write_checkpoint("best", self.scored_net, info)
        self.folder.write_state(
            {
                "step": self.step,
                "best_miou": self.best_miou,
                "config": self._fixed_config(),
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "averaged": self.averaged.net.state_dict() if self.averaged else None,
            }
        )

    def _info(self, miou: float | None) -> dict[str, Any]:
        config = self.config
        return {
            "model": config.model.name,
            "multi_scale": config.low_scale is not None,
            "classes": self.classes.to_dict(),
            "config": to_dict(config),
            "step": self.step,
            "val_miou": miou,
            "hmsa_label": hmsa_label.__version__,
            "trained_on": {
                "data": public_uri(config.data.root),
                "split": config.data.split,
                "labels": config.labels,
                "images": len(self.refs),
                "keys_sha256": keys_digest(self.refs),
                "keys": [ref.key for ref in self.refs],
            },
        }

    def _fixed_config(self) -> str:
        """What must not change between a state and its resumption: everything but how long, where and how often."""
        fixed = to_dict(self.config)
        for name in ("output", "resume", "loader_workers", "save_every", "validate_every", "device", "cpu_threads"):
            fixed.pop(name)
        return json.dumps(fixed, sort_keys=True)

    def _restore(self) -> None:
        state = self.folder.read_state(self.device) if self.config.resume else None
        if state is None:
            if self.folder.holds_state() and not self.config.resume:
                raise ValueError(f"{self.config.output} already holds a training; use --resume, or another --output")
            return
        if state["config"] != self._fixed_config():
            changed = sorted(_differences(json.loads(state["config"]), json.loads(self._fixed_config())))
            raise ValueError(
                f"{self.config.output} was trained with other settings ({', '.join(changed)}); cannot resume"
            )
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            self.averaged.net.load_state_dict(state["averaged"])
        self.step, self.best_miou = state["step"], state["best_miou"]


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Poly schedule by step, after a linear warm-up of `config.warmup_steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    return config.learning_rate * (1 - step / total_steps) ** config.poly_power


def _optimizer(config: TrainConfig, net: nn.Module) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), **options)
    return torch.optim.SGD(net.parameters(), momentum=config.momentum, **options)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name in old.keys() | new.keys():
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} {before} -> {after}"


def train_teacher(config: TrainConfig, on_event: Callable[[TrainEvent], None] | None = None) -> TrainSummary:
    """Trains to the end of the schedule and returns where the best weights lie.

    Args:
        on_event: called for every step and every validation, in order.

    Raises:
        ValueError: see `Trainer`; or the loss became NaN or infinite, naming the step.
    """
    started = time.monotonic()
    trainer = Trainer(config)
    every = config.validate_every or max(1, math.ceil(trainer.total_steps / 10))
    tick = time.monotonic()
    for images, labels in trainer.batches():
        loss, rate = trainer.advance(images, labels)
        if not math.isfinite(loss):
            raise ValueError(f"the loss is {loss} at step {trainer.step}; lower --lr, or use --precision fp32")
        event = TrainEvent(
            step=trainer.step,
            total_steps=trainer.total_steps,
            loss=loss,
            learning_rate=rate,
            images_per_second=len(images) / max(time.monotonic() - tick, 1e-9),
        )
        _tell(trainer, event, on_event)
        at_end = trainer.step == trainer.total_steps
        if trainer.val_refs and (trainer.step % every == 0 or at_end):
            evaluation = trainer.validate()
            scored = TrainEvent(
                step=trainer.step, total_steps=trainer.total_steps, miou=evaluation.miou, iou=evaluation.iou
            )
            _tell(trainer, scored, on_event)
            trainer.save(evaluation.miou)
        elif trainer.step % config.save_every == 0 or at_end:
            trainer.save(None)
        tick = time.monotonic()
    return TrainSummary(
        checkpoint=trainer.folder.checkpoint_uri("best" if trainer.best_miou is not None else "last"),
        best_miou=trainer.best_miou,
        steps=trainer.step,
        seconds=time.monotonic() - started,
    )


def _tell(trainer: Trainer, event: TrainEvent, on_event: Callable[[TrainEvent], None] | None) -> None:
    trainer.folder.log({name: value for name, value in asdict(event).items() if value is not None})
    if on_event is not None:
        on_event(event)
