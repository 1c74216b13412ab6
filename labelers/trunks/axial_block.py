"""The residual block of axial attention (arXiv 2003.07853, figure 3)."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from hmsa_label.labelers.layers.axial_attention import AttentionSettings, AxialAttention
from hmsa_label.labelers.layers.blocks import ImageDropPath
from hmsa_label.labelers.trunks.bottleneck import projection

Striding = Literal["slice", "pool"]


class AxialBlock(nn.Module):
    """1x1 convolution to `width`, attention along the height and the width, 1x1 to twice `width`, with a shortcut.

    [N, in_channels, H, W] -> [N, 2 * width, H', W'], where a stride of 2 gives H' = (H + 1) // 2, W' likewise. With
    `slice` every other row stays after the height and every other column after the width, as in the paper; with `pool`
    2x2 pixels are averaged after both, as in the released PyTorch classifiers.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        attention: AttentionSettings,
        *,
        stride: int = 1,
        striding: Striding = "slice",
    ) -> None:
        super().__init__()
        self.stride, self.striding = stride, striding
        self.conv_down = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.height = AxialAttention(width, width, "height", attention)
        self.width = AxialAttention(width, width, "width", attention)
        self.conv_up = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.drop_path = ImageDropPath(0.0)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, 2 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attend(self.relu(self.bn1(self.conv_down(x))))
        y = self.drop_path(self.bn2(self.conv_up(self.relu(y))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))

    def attend(self, x: Tensor) -> Tensor:
        """Both layers of attention, and the stride."""
        if self.striding == "pool":
            y = self.width(self.height(x))
            return y if self.stride == 1 else F.avg_pool2d(y, self.stride, ceil_mode=True)
        return self.width(self.height(x)[:, :, :: self.stride])[..., :: self.stride]
