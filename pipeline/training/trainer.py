"""One process's part in a training: network, optimizer and data, advanced step by step, saved and restored."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hmsa_label.labelers.training import IMAGE, PANOPTIC, Score, StepTotal, labels_of, score_key
from hmsa_label.pipeline.config import to_dict
from hmsa_label.pipeline.interrupt import SIGNALS, Stopped, StopRequest
from hmsa_label.pipeline.teacher.devices import dtype_of, resolve_precision
from hmsa_label.pipeline.teacher.weight_files import read_weights
from hmsa_label.pipeline.training.config import TrainConfig
from hmsa_label.pipeline.training.distributed import Processes
from hmsa_label.pipeline.training.estimate import estimate
from hmsa_label.pipeline.training.image_sets import ImageSets, open_image_sets
from hmsa_label.pipeline.training.model import model_of
from hmsa_label.pipeline.training.optimizer import build_optimizer, learning_rate
from hmsa_label.pipeline.training.sets import TrainingSets, open_training_sets
from hmsa_label.pipeline.training.state import AveragedWeights, TrainFolder, best_key
from hmsa_label.pipeline.training.step_total import step_total
from hmsa_label.stores.files import public_uri

Passes = list[tuple[Tensor, ...]]
# What may change between a state and its resumption: how long, where and how often.
FREE_ON_RESUME = (
    "output", "resume", "loader_workers", "save_every", "validate_every", "device", "cpu_threads", "tensorboard",
)  # fmt: skip


class Trainer:
    """One process's part in a training: network, optimizer and data, advanced step by step."""

    def __init__(self, config: TrainConfig, processes: Processes, device: torch.device) -> None:
        """Reads the data's lists and builds the network; continues a saved state when `config.resume` is set.

        Raises:
            ValueError: no labeled images, an unknown model, images that are both trained and validated on, a step that
                does not fit into memory, or a saved state of another configuration.
        """
        self.model, config = model_of(config)
        self.config, self.processes, self.device = config, processes, device
        self.precision = resolve_precision(config.precision, device)
        if config.cpu_threads is not None:
            torch.set_num_threads(config.cpu_threads)
        self.folder = TrainFolder(str(config.output))
        state = self._read_state()
        self.data = _open_data(
            config, processes, labels_of(self.model), None if state is None else state["label_version"]
        )
        self.total_steps = config.max_steps or config.epochs * self.data.steps_per_epoch
        self.net = self._build()
        self.optimizer = build_optimizer(config, self.net)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        self.averaged = AveragedWeights(self.net, config.ema_decay) if config.ema_decay else None
        self.objective = processes.wrap(self._objective(self.net), device)
        self.step = 0
        self.best_score: float | None = None
        self.unscored = False  # whether the validation of this step is still to be made
        if state is not None:
            self._restore(state)
        if processes.leads:
            self.folder.forget_after(self.step)

    @property
    def scored_net(self) -> nn.Module:
        """The network that is validated and saved: the averaged weights where there are any."""
        return self.averaged.net if self.averaged else self.net

    def prepare(self) -> Iterator[Passes]:
        """`batches`, after everything is read that takes long, so that a state can be saved at once from now on."""
        batches = self.batches()
        assert self._about
        return batches

    def batches(self) -> Iterator[Passes]:
        """The passes of every step that is left: (images [N, h, w, 3] uint8, labels [N, h, w] int64, ...) of each."""
        loader = DataLoader(
            self.data.crops(self.folder.cached),
            batch_sampler=self.data.sampler(self.step, self.total_steps),
            num_workers=self.config.loader_workers,
            worker_init_fn=leave_signals_to_the_driver,
            pin_memory=self.device.type == "cuda",
        )
        parts, steps = iter(loader), range(self.step, self.total_steps)
        return ([next(parts) for _ in range(self.config.accumulate)] for _ in steps)

    def advance(self, passes: Passes, stop: StopRequest | None = None) -> tuple[float, float]:
        """One optimizer step; returns (loss, learning rate).

        Raises:
            Stopped: `stop` was asked for before the weights changed; then nothing has changed.
        """
        rate = learning_rate(self.config, self.step, self.total_steps, self.data.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        before = [buffer.clone() for buffer in self.net.buffers()]
        try:
            with self.breakable(stop):
                loss = self.find_gradients(passes)
        except Stopped:
            for buffer, value in zip(self.net.buffers(), before, strict=True):
                buffer.copy_(value)
            raise
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if self.averaged:
            self.averaged.update(self.net, self.step)
        return loss, rate

    def find_gradients(self, passes: Passes) -> float:
        """Puts the gradients of a step into the network, times the scaler's factor; returns the step's loss.

        Both are those of one pass over all crops of all processes, but for batch norms, which know the crops of one
        pass of every process.
        """
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        step = self._total(passes)
        return self.processes.mean(sum(self._backward(batch, step, last=batch is passes[-1]) for batch in passes))

    @contextmanager
    def breakable(self, stop: StopRequest | None) -> Iterator[None]:
        """Inside, `stop` is obeyed at once, also in a backward pass; several processes stop together, between steps."""
        if stop is None or self.processes.world > 1:
            yield
            return
        # A signal's handler runs when Python code does in the main thread: in a backward pass, which a CPU makes there,
        # whenever a parameter has its gradient.
        watched = self.net.parameters() if self.device.type == "cpu" else ()
        hooks = [value.register_post_accumulate_grad_hook(_let_handlers_run) for value in watched]
        try:
            with stop.at_once():
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _total(self, passes: Passes) -> StepTotal:
        counts = np.sum([self.data.counts(batch[1]) for batch in passes], axis=0)
        return step_total(self.processes.total(counts), self.config.batch_size)

    def _backward(self, batch: tuple[Tensor, ...], step: StepTotal, *, last: bool) -> float:
        """Adds the gradients of one pass; they are averaged over the processes after the last."""
        with self.processes.averaging(self.objective, now=last):
            parts = (part.to(self.device, non_blocking=True) for part in batch)
            loss = self.objective(*parts, step=step) * self.processes.world  # the mean over the processes is the sum
            self.scaler.scale(loss).backward()
        return float(loss.detach())

    @torch.inference_mode()
    def validate(self) -> Score:
        """Scores the current weights on the validation split, as the model does it."""
        config, data = self.config, self.data
        validation = self.model.validation(
            self.scored_net, config.objective, data.classes, self.device, dtype_of(self.precision)
        )
        for number in range(self.processes.rank, len(data.val_refs), self.processes.world):
            validation.add(*data.val_pair(number))
        validation.counts = self.processes.total(validation.counts)
        return validation.score()

    def save(self, score: float | None, *, unscored: bool = False) -> None:
        """Writes `last` (and `best` when `score` is the highest so far), then the state to resume from.

        Args:
            unscored: the validation of this step is still to be made.
        """
        self.unscored = unscored
        is_best = score is not None and (self.best_score is None or score > self.best_score)
        self.best_score = score if is_best else self.best_score
        if not self.processes.leads:
            return
        info = {**self._about, "step": self.step, f"val_{score_key(self.model.score)}": score}
        for name in ("last", "best") if is_best else ("last",):
            self.folder.write_checkpoint(name, self.scored_net, info)
        self.folder.write_state(
            {
                "step": self.step,
                best_key(self.model.score): self.best_score,
                "unscored": unscored,
                "config": self._fixed_config(),
                "label_version": self.data.label_version,
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "averaged": self.averaged.net.state_dict() if self.averaged else None,
            }
        )

    @cached_property
    def _about(self) -> dict[str, Any]:
        """What does not change while the training runs: the data, the settings, the code."""
        config = self.config
        return {"model": config.model.name, **self.model.describe(config.objective), **self.data.about}

    def _objective(self, net: nn.Module) -> Any:
        return self.model.objective(net, self.config.objective, self.data.classes, dtype_of(self.precision))

    def _build(self) -> nn.Module:
        config = self.config
        torch.manual_seed(config.seed)
        net = self.model.build(self.data.classes.num_classes, self.model.describe(config.objective))
        if config.model.init_weights and not self.folder.holds_state():
            start = config.model.init_weights
            data, fresh, classes = read_weights(start), config.model.new_class_heads, self.data.classes
            self.model.load_start(net, data, public_uri(start), classes=classes, new_class_heads=fresh)
        net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.estimate = estimate(
            self._objective(net), config, self.device, num_classes=self.data.classes.num_classes,
            world=self.processes.world, steps=self.total_steps, labels=labels_of(self.model),
        )  # fmt: skip
        return self.processes.spread(net, self.device)

    def _fixed_config(self) -> str:
        """What must not change between a state and its resumption."""
        fixed = {name: value for name, value in to_dict(self.config).items() if name not in FREE_ON_RESUME}
        return json.dumps({**fixed, "processes": self.processes.world}, sort_keys=True)

    def _read_state(self) -> dict[str, Any] | None:
        """The saved state if there is one to go on from.

        Raises:
            ValueError: there is one and it was not asked to go on, or it is of other settings.
        """
        output = self.config.output
        if not self.config.resume:
            if self.folder.holds_state():
                raise ValueError(f"{output} already holds a training; use --resume, or another --output")
            return None
        state = self.folder.read_state(self.device, self.model.score)
        if state is not None and state["config"] != self._fixed_config():
            changed = sorted(_differences(json.loads(state["config"]), json.loads(self._fixed_config())))
            raise ValueError(f"{output} was trained with other settings ({', '.join(changed)}); cannot resume")
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        parts: dict[str, Any] = {"net": self.net, "optimizer": self.optimizer, "scaler": self.scaler}
        self.folder.restore(state, parts | ({"averaged": self.averaged.net} if self.averaged else {}))
        self.step, self.unscored = state["step"], state["unscored"]
        self.best_score = state[best_key(self.model.score)]


def _open_data(config: TrainConfig, processes: Processes, labels: str, version: int | None) -> TrainingSets | ImageSets:
    """All that a training reads, for the kind of labels that its model learns from."""
    if labels == IMAGE:
        if config.data.dataset != "folder":
            raise ValueError(f"the model {config.model.name} learns classes of whole images; train it by train-trunk")
        return open_image_sets(config, processes)
    return open_training_sets(config, processes, version, panoptic=labels == PANOPTIC)


def _let_handlers_run(parameter: Tensor) -> None:
    """Nothing; Python calls the handlers of signals on the way."""


def leave_signals_to_the_driver(worker: int) -> None:
    """For processes that prepare crops: a signal to the whole group must not end them before the state is saved."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name in old.keys() | new.keys():
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} {before} -> {after}"
