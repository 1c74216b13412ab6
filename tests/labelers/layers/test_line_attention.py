"""The layer that keeps no logits against the equation written out: values, gradients, statistics, memory."""

import copy
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hmsa_label.labelers.inference.live_bytes import LiveBytes
from hmsa_label.labelers.layers.axial_attention import AttentionSettings, AxialAttention
from hmsa_label.labelers.layers.line_blocks import num_pairs
from hmsa_label.labelers.layers.synced_batch_norm import sync_batch_norms
from tests.labelers.plain_axial import plain

ROOT = Path(__file__).parents[3]

VARIANTS = {
    "global": {},
    "span 5": {"span": 5},
    "span 65, table shared at its ends": {"span": 65, "table_len": 15},
    "content only": {"positions": ()},
    "query and key, span 9": {"positions": ("query", "key"), "span": 9},
    "value, four heads": {"positions": ("value",), "heads": 4},
}


def random_layer(axis="width", dtype=torch.float64, width=16, **settings):
    """A layer whose norms are not the identity."""
    torch.manual_seed(0)
    layer = AxialAttention(12, width, axis, AttentionSettings(**{"table_len": 141, **settings})).to(dtype)
    for norm in (layer.bn_qkv, layer.bn_similarity, layer.bn_output):
        for values, low, high in ((norm.weight, 0.5, 1.5), (norm.bias, -0.5, 0.5)):
            torch.nn.init.uniform_(values, low, high)
        torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return layer


def step(layer, x):
    """(output, gradient of x, gradients and buffers by name) of one pass and its backward pass."""
    x = x.clone().requires_grad_()
    output = layer(x)
    output.backward(torch.sin(torch.arange(output.numel(), dtype=output.dtype)).view_as(output))
    named = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return output.detach(), x.grad, named | dict(layer.named_buffers())


@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize("mode", ["training", "eval"])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_layer_gradients_and_statistics_are_those_of_the_equation(settings, mode, axis):
    layer = random_layer(axis, **settings).train(mode == "training")
    # several groups of lines, several blocks of queries, none of them full
    x = torch.randn(2, 12, *((37, 11) if axis == "height" else (11, 37)), dtype=torch.float64)
    expected, ours = step(plain(layer), x), step(layer, x)
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)


def test_gradients_are_those_of_finite_differences():
    layer = random_layer(span=5).train()
    parameters = dict(layer.named_parameters())
    state = {name: value.detach().clone() for name, value in parameters.items()}

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(state, values, strict=True)), (x,))

    x = torch.randn(1, 12, 2, 6, dtype=torch.float64, requires_grad=True)
    inputs = (x, *(value.requires_grad_() for value in state.values()))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("span", [None, 65])
def test_float32_training_is_that_of_the_equation_to_a_few_bits(span):
    layer, x = random_layer(dtype=torch.float32, width=32, span=span).train(), torch.randn(1, 12, 5, 70)
    exact = plain(layer).double()
    torch.testing.assert_close(layer(x), exact(x.double()).float(), rtol=0, atol=1e-5)
    for norm in ("bn_similarity", "bn_output"):
        ours, expected = getattr(layer, norm), getattr(exact, norm)
        torch.testing.assert_close(ours.running_var, expected.running_var.float(), rtol=1e-6, atol=1e-6)


def test_scale_of_zero_switches_a_term_off_and_still_learns():
    layer = random_layer().train()
    with torch.no_grad():
        layer.bn_similarity.weight[8:16] = 0
    x = torch.randn(1, 12, 2, 9, dtype=torch.float64)
    expected, ours = step(plain(layer), x), step(layer, x)
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)
    assert ours[2]["bn_similarity.weight"][8:16].all()


def test_pairs_inside_a_span_are_counted_with_the_borders():
    for length, reach in product((1, 2, 7), (None, 0, 1, 3, 9)):
        place = torch.arange(length)
        near = (place[:, None] - place).abs() <= (length if reach is None else reach)
        assert num_pairs(length, reach) == int(near.sum())


def test_memory_of_a_training_step_grows_with_the_pixels_and_not_with_the_pairs():
    layer = random_layer(dtype=torch.float32, span=65).train()
    peaks = []
    for columns in (512, 1024):
        x = torch.randn(1, 12, 16, columns)
        with LiveBytes() as live:
            layer(x).sum().backward()
        peaks.append(live.peak)
    assert peaks[1] / peaks[0] < 2.02
    all_logits_bytes = 16 * 1024 * 65 * 24 * 4
    assert peaks[1] < all_logits_bytes / 4


@pytest.fixture
def process_group(tmp_path):
    """This process alone as a process group."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_norms_that_processes_share_give_one_process_what_its_own_give(process_group):
    layer, x = random_layer(dtype=torch.float32, span=5).train(), torch.randn(2, 12, 3, 40)
    shared = sync_batch_norms(copy.deepcopy(layer), torch.device("cpu"))
    torch.testing.assert_close(step(shared, x), step(layer, x), rtol=1e-4, atol=1e-4)


_IN_A_PROCESS = """
import sys
import torch
import torch.distributed as dist
from hmsa_label.labelers.layers.synced_batch_norm import sync_batch_norms
from tests.labelers.layers.test_line_attention import random_layer, step

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
layer = sync_batch_norms(random_layer(dtype=torch.float32, span=5).train(), torch.device("cpu"))
x = torch.load(f"{folder}/x.pt")[rank:rank + 1]
torch.save(step(layer, x), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow  # two more starts of torch
def test_statistics_of_two_processes_are_those_of_their_batches_together(tmp_path):
    x = torch.randn(2, 12, 3, 40, generator=torch.Generator().manual_seed(1))
    torch.save(x, tmp_path / "x.pt")
    commands = [[sys.executable, "-c", _IN_A_PROCESS, str(rank), str(tmp_path)] for rank in (0, 1)]
    processes = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    assert [process.wait() for process in processes] == [0, 0]
    layer = random_layer(dtype=torch.float32, span=5).train()
    weights = torch.sin(torch.arange(16 * 3 * 40.0)).view(1, 16, 3, 40).expand(2, -1, -1, -1)
    leaf = x.clone().requires_grad_()
    together = layer(leaf)
    together.backward(weights)
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    torch.testing.assert_close(torch.cat([half[0] for half in halves]), together, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat([half[1] for half in halves]), leaf.grad, rtol=0, atol=1e-4)
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(halves[1][2][name], buffer, rtol=1e-5, atol=1e-5)
    for name, parameter in layer.named_parameters():
        summed = halves[0][2][name] + halves[1][2][name]
        torch.testing.assert_close(summed, parameter.grad, rtol=1e-4, atol=1e-4)
