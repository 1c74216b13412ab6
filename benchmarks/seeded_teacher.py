"""What benchmarks of the teacher label, and with what: a drawn image, and networks without a training."""

import re

import numpy as np
import torch

from hmsa_label.labelers import SegmentationNet, build_labeler


def drawn_image(height: int, width: int) -> torch.Tensor:
    """[H, W, 3] uint8: blocks of 16 px with noise."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (-(-height // 16), -(-width // 16), 3)).repeat(16, 0).repeat(16, 1)
    noise = random.integers(-40, 41, (height, width, 3))
    return torch.from_numpy(np.clip(blocks[:height, :width] + noise, 0, 255).astype(np.uint8))


def seeded_network(name: str) -> SegmentationNet:
    """A network whose weights spread activations and logits as training does, in inference mode."""
    torch.manual_seed(0)
    net = build_labeler(name, 19)
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            noise = torch.randn_like(module.weight)
            noise -= noise.mean((1, 2, 3), keepdim=True)
            module.weight.data = _gain(name) * noise * (2 / noise[0].numel()) ** 0.5
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data = _gain(name) * (1 + 0.1 * torch.randn_like(module.weight))
            module.running_var = 1 + 0.1 * torch.rand_like(module.running_var)
    return net.eval()


def _gain(name: str) -> float:
    """Spread of a layer's weights: small at the end of a residual block, wide in front of a softmax or sigmoid."""
    gains = {r"layer1.*bn3|branches.*bn2": 0.3, "fuse_layers": 0.5, "class_head": 20.0, "head.key.1.1": 2.0}
    gains |= {r"aux_head\.1$": 2.5, r"attention\.layers\.2": 2.5}
    return next((gain for pattern, gain in gains.items() if re.search(pattern, name)), 1.0)
