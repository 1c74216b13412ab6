"""Axial-DeepLab (arXiv 2003.07853): a trunk with axial attention under Panoptic-DeepLab's decoders.

And the same trunk with a layer for image classes, with which it is trained before.
"""

from torch import Tensor, nn

from hmsa_label.labelers.heads.panoptic_deeplab import PanopticDeepLabHead, PanopticMaps, upsample
from hmsa_label.labelers.layers.image_norm import ImageNetwork
from hmsa_label.labelers.trunks.axial_resnet import AxialResNet


class AxialDeepLab(ImageNetwork):
    """Semantic logits, centers and offsets of normalized images of any size."""

    def __init__(self, trunk: AxialResNet, head: PanopticDeepLabHead) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, x: Tensor) -> PanopticMaps:
        """Maps at stride 4, sizes rounded up, float32 under autocast, too.

        Args:
            x: [N, 3, H, W] normalized batch.
        """
        maps: PanopticMaps = self.head(self.trunk(x))
        return PanopticMaps(*(values.float() for values in maps))

    def full_size(self, x: Tensor) -> PanopticMaps:
        """Maps at the size of [N, 3, H, W]; offsets in its pixels."""
        return upsample(self(x), x.shape[-2:])


class TrunkClassifier(ImageNetwork):
    """A trunk with the classification layer that it is pre-trained with: [N, 3, H, W] -> [N, K] logits."""

    def __init__(self, trunk: AxialResNet, num_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.classifier = nn.Linear(trunk.channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, K] float32 logits of a normalized batch [N, 3, H, W]."""
        features: Tensor = self.trunk(x).res5
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits.float()
