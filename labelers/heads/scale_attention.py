"""Head that predicts how far each pixel trusts its own scale (arXiv 2005.10821, section 3.1)."""

from torch import Tensor, nn

from hmsa_label.labelers.layers.blocks import conv_bn_relu


class ScaleAttentionHead(nn.Module):
    """Attention [N, 1, h, w] in 0..1 from head features [N, C, h, w]; one map serves all classes."""

    def __init__(self, in_channels: int, mid_channels: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn_relu(in_channels, mid_channels, 3),
            conv_bn_relu(mid_channels, mid_channels, 3),
            nn.Conv2d(mid_channels, 1, 1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        # The sigmoid comes before any upsampling, as in the released code; after it, boundaries differ.
        return self.layers(features).sigmoid()
