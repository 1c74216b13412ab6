"""SIGTERM is obeyed wherever a training is, and what follows --resume is what would have been without it."""

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.training import crops as training_data
from hmsa_label.pipeline.training import sets as training_sets
from hmsa_label.pipeline.training.loop import train_teacher
from tests.tiny_training import tiny_panoptic_net, tiny_panoptic_training, tiny_training


def norms(net):
    return sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in net.modules())


# The calls of layers in a step; those of the semantic network see both of its scales.
SEMANTIC_CALLS, PANOPTIC_CALLS = 2 * norms(build_labeler("hrnet_tiny_ocr", 19)), norms(tiny_panoptic_net())


def settings(blocks, output, **changes):
    return tiny_training(blocks, output, **{"max_steps": 3, "validate_every": 2, "ema_decay": 0.9, **changes})


def panoptic_settings(parked, output):
    return tiny_panoptic_training(parked, output, max_steps=3, validate_every=2, ema_decay=0.9)


@pytest.fixture(scope="module")
def whole(blocks, tmp_path_factory):
    """The folder of a training that nobody stopped."""
    output = tmp_path_factory.mktemp("whole")
    train_teacher(settings(blocks, output))
    return output


class Killer:
    """Sends SIGTERM to this process at the n-th call."""

    def __init__(self, at):
        self.left = at

    def __call__(self, *_):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)


def in_forward(killer, training):
    def hook(module, _, output):
        kind = torch.nn.BatchNorm2d if training else torch.nn.Conv2d  # norms are folded where nothing is learned
        if module.training == training and isinstance(module, kind):
            killer()

    return torch.nn.modules.module.register_module_forward_hook(hook)


def in_backward(killer):
    def hook(module, _, output):
        if module.training and isinstance(module, torch.nn.BatchNorm2d) and output.requires_grad:
            output.register_hook(lambda gradient: killer())

    return torch.nn.modules.module.register_module_forward_hook(hook)


def files_of(folder):
    return {name: decode_checkpoint((folder / f"{name}.safetensors").read_bytes())[0] for name in ("last", "best")}


def assert_goes_on_as_if_nothing_was(config, whole):
    summary = train_teacher(replace(config, resume=True))
    assert (summary.interrupted, summary.steps) == (False, 3)
    expected, actual = files_of(whole), files_of(type(whole)(config.output))
    for name, tensors in expected.items():
        assert all(torch.equal(actual[name][key], value) for key, value in tensors.items()), name


PLACES = {"first forward": 0, "first backward": 0, "second forward": 1, "validation": 2}  # and the steps made before


def stop_in(where, config, calls):
    hooks = {
        "first forward": lambda: in_forward(Killer(30), True),
        "first backward": lambda: in_backward(Killer(30)),
        "second forward": lambda: in_forward(Killer(calls + 30), True),
        "validation": lambda: in_forward(Killer(1), False),
    }
    hook = hooks[where]()
    try:
        summary = train_teacher(config)
    finally:
        hook.remove()
    assert (summary.interrupted, summary.steps, summary.total_steps) == (True, PLACES[where], 3)


@pytest.mark.parametrize("where", PLACES)
def test_sigterm_abandons_what_is_at_hand_and_saves_the_last_step(blocks, tmp_path, whole, where):
    config = settings(blocks, tmp_path)
    stop_in(where, config, SEMANTIC_CALLS)
    assert_goes_on_as_if_nothing_was(config, whole)


def test_sigterm_to_the_training_of_a_panoptic_model_is_obeyed_wherever_it_is(parked, tmp_path):
    train_teacher(panoptic_settings(parked, tmp_path / "whole"))
    config = panoptic_settings(parked, tmp_path / "parts")
    for where in PLACES:
        stop_in(where, config, PANOPTIC_CALLS)
        config = replace(config, resume=True)
    assert_goes_on_as_if_nothing_was(config, tmp_path / "whole")


def test_sigterm_while_crops_are_prepared_is_obeyed_at_once(blocks, tmp_path, whole, monkeypatch):
    augment, killer = training_data.augment, Killer(4)
    monkeypatch.setattr(training_data, "augment", lambda *given, **names: killer() or augment(*given, **names))
    summary = train_teacher(settings(blocks, tmp_path))
    assert (summary.interrupted, summary.steps) == (True, 1)
    monkeypatch.undo()
    assert_goes_on_as_if_nothing_was(settings(blocks, tmp_path), whole)


def test_sigterm_to_all_processes_of_a_training_saves_its_state(blocks, tmp_path, whole):
    def kill_all(event):
        if event.step == 1:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    config = settings(blocks, tmp_path, loader_workers=1)
    summary = train_teacher(config, kill_all)
    assert (summary.interrupted, summary.steps) == (True, 1)
    assert_goes_on_as_if_nothing_was(config, whole)


def test_sigterm_while_labels_are_read_ends_the_training_before_it_began(blocks, tmp_path, monkeypatch):
    tiles_of, killer = training_sets.tiles_of, Killer(1)
    monkeypatch.setattr(training_sets, "tiles_of", lambda *given: killer() or tiles_of(*given))
    with pytest.raises(KeyboardInterrupt):
        train_teacher(settings(blocks, tmp_path))
    assert not (tmp_path / "state.pt").exists()
