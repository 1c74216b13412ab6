"""A model of somebody's own: one convolution, an overlap loss, and pixel accuracy as its score."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.training import Score, wrong_field
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint, load_strict


@dataclass(frozen=True, kw_only=True)
class ToyLoss:
    """`smooth` is added to the denominator."""

    smooth: float = 1.0

    def check_pixel_weights(self):
        raise ValueError("confidence_weight needs a loss of pixels; toys have one of regions")


class Overlap(nn.Module):
    """One minus the Dice coefficient of all classes."""

    def __init__(self, net, smooth):
        super().__init__()
        self.net, self.smooth = net, smooth

    def forward(self, images, labels, seeds=None, weights=None, *, step=None):
        known = (labels < self.net.out_channels).unsqueeze(1)
        found = logits(self.net, images).softmax(1) * known
        truth = nn.functional.one_hot(labels.clamp(max=self.net.out_channels - 1), self.net.out_channels)
        truth = truth.permute(0, 3, 1, 2) * known
        share = len(images) / step.images if step is not None else 1.0
        return share * (1 - 2 * (found * truth).sum() / (found.sum() + truth.sum() + self.smooth))


class Accuracy:
    """`counts`: right and labeled pixels."""

    def __init__(self, net, device):
        self.net, self.device, self.counts = net, device, np.zeros(2, np.int64)

    def add(self, image, labels):
        predicted = logits(self.net, torch.from_numpy(image)[None].to(self.device)).argmax(1)[0].cpu().numpy()
        known = labels != 255
        self.counts += np.array([(predicted == labels)[known].sum(), known.sum()])

    def score(self):
        right, labeled = (int(count) for count in self.counts)
        return Score(name="Accuracy", value=right / labeled, parts={"pixels": labeled})


class ToyLabeler:
    """What labels with its checkpoints."""

    def __init__(self, weights, device, **options):
        state, info = decode_checkpoint(weights.read())
        self.classes, self.device = ClassTable.from_dict(info["classes"]), device
        self.net = nn.Conv2d(3, self.classes.num_classes, info["kernel"]).to(device)
        load_strict(self.net, state)

    def predict(self, images):
        return logits(self.net, images.to(self.device))


class ToyModel:
    """What `labelers.training.TrainableModel` asks for."""

    score = "Accuracy"
    settings = ToyLoss
    labeler = "tests.toy_model:ToyLabeler"

    def __init__(self, name):
        self.name = name

    def describe(self, settings):
        return {"kernel": 1}

    def check(self, info):
        if info.get("kernel") != 1:
            raise wrong_field(info, "kernel", "1")

    def build(self, num_classes, info):
        return nn.Conv2d(3, num_classes, info["kernel"])

    def load_start(self, net, data, source, *, classes, new_class_heads):
        load_strict(net, decode_checkpoint(data)[0])

    def objective(self, net, settings, classes, dtype):
        return Overlap(net, settings.smooth)

    def validation(self, net, settings, classes, device, dtype):
        return Accuracy(net, device)

    def labeler_options(self, net, settings):
        return {}


def logits(net, images):
    """[N, K, H, W] float32 logits of images [N, H, W, 3] uint8."""
    return net(images.permute(0, 3, 1, 2).float() / 127.5 - 1)
