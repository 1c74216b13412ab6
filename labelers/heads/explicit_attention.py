"""Attention over a fixed list of scales, predicted from all of them at once (arXiv 1511.03339).

The baseline that hierarchical attention is compared with (arXiv 2005.10821, section 3.1): scales cannot be changed
after training, and every one of them takes part in it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hmsa_label.labelers.layers.blocks import conv_bn_relu, resize


class ExplicitAttentionHead(nn.Module):
    """One weight map per scale from the features of every scale.

    The weights are a raw linear output, without sigmoid or softmax, as in the released code of the HMSA paper.

    Attributes:
        scales: ascending; channel i of the output weighs scale i.
    """

    def __init__(self, in_channels: int, scales: Sequence[float], mid_channels: int = 256, norm: bool = True) -> None:
        """With `norm` two 3x3 convolutions with batch norm, without it a single bare one; then 1x1.

        Raises:
            ValueError: 1.0 is not among the scales.
        """
        super().__init__()
        self.scales = tuple(sorted(scales))
        if 1.0 not in self.scales:
            raise ValueError(f"explicit attention needs scale 1.0 among its scales; got {self.scales}")
        stacked, count = in_channels * len(self.scales), len(self.scales)
        if norm:
            hidden = [conv_bn_relu(stacked, mid_channels, 3), conv_bn_relu(mid_channels, mid_channels, 3)]
            last = nn.Conv2d(mid_channels, count, 1, bias=False)
        else:
            conv = nn.Conv2d(stacked, mid_channels, 3, padding=1, bias=False)
            hidden = [nn.Sequential(conv, nn.ReLU(inplace=True))]
            # the released head pads its 1x1 convolution: a frame of zeros, stretched over the image with the rest
            last = nn.Conv2d(mid_channels, count, 1, padding=1, bias=False)
        self.mix = nn.Sequential(*hidden, last)

    def forward(self, features: dict[float, Tensor]) -> Tensor:
        """Weights [N, S, h, w] for head features [N, C, h_s, w_s] by scale; h, w are those of scale 1.0."""
        one = features[1.0]
        others = [resize(features[scale], one.shape[-2:]) for scale in self.scales if scale != 1.0]
        weights: Tensor = self.mix(torch.cat([one, *others], dim=1))
        return weights
