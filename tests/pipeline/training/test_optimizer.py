"""Optimizers by name: RAdam with Lookahead against a plain loop, and what a saved state brings back."""

import io

import pytest
import torch
from torch import nn

from hmsa_label.pipeline.config import DataConfig
from hmsa_label.pipeline.training.config import OPTIMIZERS, TrainConfig
from hmsa_label.pipeline.training.estimate import STATES
from hmsa_label.pipeline.training.optimizer import build_optimizer

STEPS, EVERY, SHARE = 13, 5, 0.5


def config_of(name):
    data = DataConfig(root="streets", split="train")
    return TrainConfig(data=data, output="net", optimizer=name, learning_rate=0.05, weight_decay=0.01)


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def gradients(net, step):
    """Gives the parameters the gradients of a step, the same for every network of these sizes."""
    draw = torch.Generator().manual_seed(step)
    for value in net.parameters():
        value.grad = torch.randn(value.shape, generator=draw)


def advance(net, optimizer, steps):
    for step in steps:
        gradients(net, step)
        optimizer.step()


def weights_of(net):
    return [value.detach().clone() for value in net.parameters()]


def test_radam_lookahead_goes_half_of_the_way_of_every_five_steps():
    net, plain = small_net(), small_net()
    ours = build_optimizer(config_of("radam-lookahead"), net)
    inner = torch.optim.RAdam(plain.parameters(), lr=0.05, weight_decay=0.01)
    slow = weights_of(plain)
    for step in range(1, STEPS + 1):
        advance(net, ours, [step])
        advance(plain, inner, [step])
        if step % EVERY == 0:
            slow = [old + SHARE * (new - old) for old, new in zip(slow, weights_of(plain), strict=True)]
            with torch.no_grad():
                for value, back in zip(plain.parameters(), slow, strict=True):
                    value.copy_(back)
        for one, other in zip(net.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=f"step {step}")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("cut", [3, 5, 7])
def test_saved_state_goes_on_to_the_same_bits(name, cut):
    net = small_net()
    optimizer = build_optimizer(config_of(name), net)
    advance(net, optimizer, range(cut))
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = small_net()
    resumed = build_optimizer(config_of(name), other)
    other.load_state_dict(state["net"])
    resumed.load_state_dict(state["optimizer"])
    advance(net, optimizer, range(cut, STEPS))
    advance(other, resumed, range(cut, STEPS))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameter_without_a_gradient_stays(name):
    net = small_net()
    before = weights_of(net)
    optimizer = build_optimizer(config_of(name), net)
    for step in range(6):
        gradients(net, step)
        net[1].bias.grad = None
        optimizer.step()
    assert torch.equal(net[1].bias, before[-1])
    assert not torch.equal(net[0].weight, before[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_estimate_knows_what_an_optimizer_keeps(name):
    net = small_net()
    optimizer = build_optimizer(config_of(name), net)
    advance(net, optimizer, [0])
    kept = sum(
        part.numel() for state in optimizer.state_dict()["state"].values() for part in state.values() if part.ndim
    )
    assert kept == STATES[name] * sum(value.numel() for value in net.parameters())
