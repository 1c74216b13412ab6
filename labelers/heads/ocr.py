"""Object-contextual representations head (arXiv 1909.11065) as the published HMSA model configures it.

Shape suffixes: N images, K classes, C mid channels, Q key channels, P = H * W pixels at the trunk's stride.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmsa_label.labelers.layers.blocks import ImageDropout2d, conv_bn_relu


class HeadOutput(NamedTuple):
    """Output of a segmentation head at the trunk's stride.

    Attributes:
        logits: [N, K, h, w] class logits.
        aux_logits: [N, K, h, w] logits of the auxiliary head, None where a head has none.
        features: [N, C, h, w] what the attention head looks at.
    """

    logits: Tensor
    aux_logits: Tensor | None
    features: Tensor


class OCRHead(nn.Module):
    """Describes every pixel by its relation to one region vector per class (section 3.2, equations 2 to 6).

    The auxiliary logits act as soft regions: their softmax runs over the pixels of the image, class by class.
    """

    def __init__(self, in_channels: int, num_classes: int, mid_channels: int = 512, key_channels: int = 256) -> None:
        super().__init__()
        self.out_channels = mid_channels
        self.pixel_features = conv_bn_relu(in_channels, mid_channels, 3, bias=True)
        self.aux_head = nn.Sequential(
            conv_bn_relu(in_channels, in_channels, 1, bias=True), nn.Conv2d(in_channels, num_classes, 1)
        )
        self.query = nn.Sequential(
            conv_bn_relu(mid_channels, key_channels, 1), conv_bn_relu(key_channels, key_channels, 1)
        )
        self.key = nn.Sequential(
            conv_bn_relu(mid_channels, key_channels, 1), conv_bn_relu(key_channels, key_channels, 1)
        )
        self.value = conv_bn_relu(mid_channels, key_channels, 1)
        self.expand = conv_bn_relu(key_channels, mid_channels, 1)
        self.merge = conv_bn_relu(2 * mid_channels, mid_channels, 1)
        self.dropout = ImageDropout2d(0.05)
        self.class_head = nn.Conv2d(mid_channels, num_classes, 1)
        self.key_scale = key_channels**-0.5

    def forward(self, x: Tensor) -> HeadOutput:
        """Head output for trunk features [N, in_channels, h, w]."""
        aux_logits = self.aux_head(x)
        pixels = self.pixel_features(x)
        context = self._context(pixels, self._regions(pixels, aux_logits))
        features = self.dropout(self.merge(torch.cat([context, pixels], dim=1)))
        return HeadOutput(self.class_head(features), aux_logits, features)

    @staticmethod
    def _regions(pixels: Tensor, aux_logits: Tensor) -> Tensor:
        """Region vectors [N, C, K, 1]: means of the pixel features weighted by softmax over pixels (equation 3)."""
        weights_nkp = aux_logits.flatten(2).softmax(dim=2)
        regions_nkc = weights_nkp @ pixels.flatten(2).transpose(1, 2)
        return regions_nkc.transpose(1, 2).unsqueeze(3)

    def _context(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """Object context [N, C, h, w]: region values mixed by pixel-region similarity (equations 4 and 5)."""
        query_npq = self.query(pixels).flatten(2).transpose(1, 2)
        key_nqk = self.key(regions).flatten(2)
        value_nkq = self.value(regions).flatten(2).transpose(1, 2)
        similarity_npk = (query_npq @ key_nqk * self.key_scale).softmax(dim=2)
        context_nqp = (similarity_npk @ value_nkq).transpose(1, 2)
        return self.expand(context_nqp.unflatten(2, pixels.shape[-2:]))
