"""What every network does to an image first."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from hmsa_label.labelers.layers.blocks import dropout_drawn_by_image

IMAGE_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB
IMAGE_STD = (0.229, 0.224, 0.225)


class ImageNetwork(nn.Module):
    """A network that looks at normalized images."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # a network built on the meta device takes its weights from a file, but these from here
        for name, values in (("mean", IMAGE_MEAN), ("std", IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values, device="cpu").view(1, 3, 1, 1), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """[N, H, W, 3] uint8 RGB -> [N, 3, H, W] float32, ImageNet mean and standard deviation."""
        return (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std


@contextmanager
def training_pass(net: ImageNetwork, images: Tensor, seeds: Tensor | None, dtype: torch.dtype) -> Iterator[Tensor]:
    """Gives the normalized images of a training step; inside, `net` computes as the step asks.

    Args:
        images: [N, H, W, 3] uint8 RGB.
        seeds: [N] int64, of what is drawn for each image, such as dropout; None draws from torch's own generator.
        dtype: of the forward pass.
    """
    x = net.normalize(images).contiguous(memory_format=torch.channels_last)
    drawn = nullcontext() if seeds is None else dropout_drawn_by_image(net, seeds.tolist())
    with drawn, torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32):
        yield x
